import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  parseRelayMessage,
  plainText,
  type Refusal,
  refusalOf,
  refusalOfOk,
} from '../../../src/nostr/message.ts';

const parse = (value: unknown) => parseRelayMessage(JSON.stringify(value));
const NOT_JSON = { type: 'INVALID', reason: 'not_json' };
const NOT_A_MESSAGE = { type: 'INVALID', reason: 'not_a_message' };

describe('parseRelayMessage', () => {
  test('EVENT contains any value, which is parsed as an event later', () => {
    for (const event of [{ id: 'x' }, null, 7, [], '']) {
      expect(parse(['EVENT', 'a', event])).toEqual({ type: 'EVENT', subscription: 'a', event });
    }
    expect(parse(['EVENT', 'a'])).toEqual({ type: 'EVENT', subscription: 'a', event: undefined });
  });

  test.each([
    [undefined, null],
    [['finish'], 'finish'],
    ['finish', 'finish'],
    [['more'], 'more'],
    ['more', 'more'],
    [['something new', 'finish'], 'finish'],
    [['finish', 'more'], null],
    [[], null],
    ['Finish', null],
    [{ finish: true }, null],
    [[['finish']], null],
    [null, null],
    [1, null],
  ])('EOSE with the hint %j is read as %j (NIP-67)', (value, hint) => {
    const message = value === undefined ? ['EOSE', 'a'] : ['EOSE', 'a', value];
    expect(parse(message)).toEqual({ type: 'EOSE', subscription: 'a', hint });
  });

  test('CLOSED, NOTICE, OK, AUTH, NEG-MSG and NEG-ERR', () => {
    expect(parse(['CLOSED', 'a', 'error: x'])).toEqual({
      type: 'CLOSED',
      subscription: 'a',
      text: 'error: x',
    });
    expect(parse(['NOTICE', 'x'])).toEqual({ type: 'NOTICE', text: 'x' });
    expect(parse(['OK', 'id', true, ''])).toEqual({
      type: 'OK',
      id: 'id',
      accepted: true,
      text: '',
    });
    expect(parse(['OK', 'id', false, 'pow: more'])).toMatchObject({
      accepted: false,
      text: 'pow: more',
    });
    expect(parse(['AUTH', 'challenge'])).toEqual({ type: 'AUTH', challenge: 'challenge' });
    expect(parse(['NEG-MSG', 'a', '6100'])).toEqual({
      type: 'NEG-MSG',
      subscription: 'a',
      payload: '6100',
    });
    expect(parse(['NEG-ERR', 'a', 'blocked: too big'])).toEqual({
      type: 'NEG-ERR',
      subscription: 'a',
      text: 'blocked: too big',
    });
  });

  test('missing elements or wrong types never count as acceptance', () => {
    for (const yes of ['true', 1, {}, [], null, undefined])
      expect(parse(['OK', 'id', yes])).toMatchObject({ type: 'OK', accepted: false, text: '' });
    expect(parse(['CLOSED', 'a'])).toEqual({ type: 'CLOSED', subscription: 'a', text: '' });
    expect(parse(['CLOSED', 'a', { text: 1 }])).toMatchObject({ text: '' });
    for (const message of [
      ['NEG-MSG', 'a'],
      ['NEG-MSG', 'a', 7],
      ['EVENT', 7, {}],
      ['EOSE', null],
      ['CLOSED', {}],
      ['NOTICE', ['x']],
      ['NOTICE'],
      ['AUTH', 1],
      ['OK', 1, true],
      ['GREETINGS', 'a'],
      ['event', 'a', {}],
      [['EVENT'], 'a', {}],
      ['__proto__', 'a'],
      ['constructor', 'a'],
      [],
      {},
      'EVENT',
      null,
      1,
      true,
    ])
      expect(parse(message), JSON.stringify(message)).toEqual(NOT_A_MESSAGE);
  });

  test('text that is not JSON is refused', () => {
    for (const text of [
      '',
      ' ',
      'pardon?',
      '["EVENT"',
      '["EOSE","a"]]',
      "['EOSE','a']",
      '\ufeff[]',
    ])
      expect(parseRelayMessage(text)).toEqual(NOT_JSON);
  });

  test('survives nesting of 100,000 levels, closed or truncated', () => {
    const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
    expect(['EVENT', 'INVALID']).toContain(parseRelayMessage(`["EVENT","a",${deep}]`).type);
    expect(parseRelayMessage(deep)).toEqual(NOT_A_MESSAGE);
    expect(parseRelayMessage('['.repeat(100_000))).toEqual(NOT_JSON);
    expect(parseRelayMessage('{"a":'.repeat(100_000))).toEqual(NOT_JSON);
    expect(parseRelayMessage(`["NOTICE","${'x'.repeat(1_000_000)}"]`)).toEqual({
      type: 'NOTICE',
      text: 'x'.repeat(500),
    });
  });

  test('a message with more elements than any event has is not parsed, to save memory', () => {
    const of = (tags: string, content = '') =>
      parseRelayMessage(`["EVENT","a",{"content":"${content}","tags":[${tags}]}]`);
    const largest = Array(100_000).fill('["p","a","b","c"]').join(',');
    expect(of(largest).type).toBe('EVENT');
    const tooMany = { type: 'INVALID', reason: 'too_many_elements' };
    expect(of(`${largest},${Array(200).fill('[]').join(',')}`)).toEqual(tooMany);
    expect(of(Array(1_000_000).fill('{}').join(','))).toEqual(tooMany);
    // What stands in a string is no element, however it is quoted.
    for (const text of ['[,{', '\\"[,{', '\\\\[,{', 'é\\u0022,'])
      expect(of('["t"]', text.repeat(600_000)).type).toBe('EVENT');
  });

  test('never throws on any text, any JSON, or any array that begins like a message', () => {
    const types = fc.constantFrom('EVENT', 'EOSE', 'CLOSED', 'NOTICE', 'OK', 'AUTH', 'NEG-MSG');
    const message = fc.tuple(types, fc.jsonValue(), fc.jsonValue(), fc.jsonValue());
    const text = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.json(),
      message.map((value) => JSON.stringify(value)),
    );
    fc.assert(
      fc.property(text, (data) => {
        const parsed = parseRelayMessage(data);
        expect(typeof parsed.type).toBe('string');
        if ('text' in parsed) expect(parsed.text).not.toMatch(/\p{Cc}/u);
      }),
      { numRuns: 1000 },
    );
  });
});

describe('plainText', () => {
  test('contains nothing that a row or a log line cannot hold', () => {
    expect(plainText('a\u0000b\u001b[31m\nc')).toBe('a\ufffdb\ufffd[31m\ufffdc');
    expect(plainText('\ud83e\udd8a and \ud800 alone')).toBe('\ud83e\udd8a and \ufffd alone');
    expect(plainText(`${'x'.repeat(499)}\ud83e\udd8a`)).toBe(`${'x'.repeat(499)}\ufffd`);
  });

  test('by property: is well-formed, has at most 500 characters, and is idempotent', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 600 }), (text) => {
        const plain = plainText(text);
        expect(Buffer.from(plain).toString()).toBe(plain);
        expect(plain.length).toBe(Math.min(text.length, 500));
        expect(plainText(plain)).toBe(plain);
      }),
    );
  });
});

describe('refusalOf', () => {
  const said: [Refusal, readonly string[]][] = [
    [
      'rate_limited',
      [
        'rate-limited: slow down there chief',
        'rate-limited: limit of 20 REQs a minute exceeded',
        'Rate limit exceeded',
        'you are being rate limited',
        'ERROR: too many concurrent REQs',
        'ERROR: too many concurrent NEG requests',
        'error: too many requests',
        'Too many subscriptions: Number of subscriptions must be less than or equal to 10',
        'Maximum concurrent subscription count reached',
        'Subscription limit reached',
        'too fast, slow down please',
        'daily quota exceeded',
        'connection throttled',
      ],
    ],
    [
      'auth_required',
      [
        'auth-required: we only serve registered users',
        'ERROR: auth-required: please',
        'error: authentication required',
        'NIP-42 authentication is required to read from this relay',
        "we can't serve DMs to unauthenticated users, does your client implement NIP-42?",
        'This relay requires authentication',
        'please authenticate first',
        'client must authenticate before sending REQ',
        'auth required',
      ],
    ],
    [
      'restricted',
      [
        'restricted: not authorized to read this',
        'restricted: authentication required',
        'payment required',
        'This relay requires a payment of 1000 sats',
        'This is a paid relay, see https://example.com',
        'pay to read',
        'pubkey not whitelisted',
        'You are not on the white-list',
        'members only',
        'access denied',
        'unauthorized',
      ],
    ],
    [
      'blocked',
      [
        'blocked: you are banned',
        'blocked: too many requests from your address',
        'blocked: filter limit too large',
        'You are banned from this relay',
        'Your IP is blocked',
        'Forbidden',
      ],
    ],
    [
      'limit',
      [
        'filter limit too large',
        'invalid: limit must be at most 500',
        'ERROR: bad req: limit exceeds max_limit',
        'error: max limit is 500',
        'limit too high',
        'Limit filter must be less than or equal to 500',
        'requested 1000 events, which exceeds the limit',
      ],
    ],
    [
      'other',
      [
        '',
        'Welcome to this relay!',
        'error: could not connect to the database',
        'error: shutting down idle subscription',
        'invalid: malformed filter',
        'unsupported: filter contains unknown elements',
        'ERROR: bad msg: unparseable message',
        'duplicate: already have this event',
        'We accept payments at https://example.com',
        'This relay has no limits',
        'Authors of this relay: example.com',
        'notice 17',
      ],
    ],
  ];

  test.each(said.flatMap(([refusal, texts]) => texts.map((text) => [refusal, text] as const)))(
    '%s: %s',
    (refusal, text) => {
      expect(refusalOf(text)).toBe(refusal);
      expect(refusalOf(text.toUpperCase())).toBe(refusal);
    },
  );

  test('is fast for any text', () => {
    const slow = [
      'limit '.repeat(80),
      'auth '.repeat(100),
      'requires '.repeat(55),
      ' '.repeat(500),
    ];
    for (const text of slow) expect(typeof refusalOf(text)).toBe('string');
  });
});

describe('refusalOfOk', () => {
  test.each([
    [true, '', null],
    [true, 'blocked: but taken', null],
    [false, 'duplicate: already have this event', null],
    [
      false,
      "mute: no one was listening to your ephemeral event and it wasn't handled in any way",
      null,
    ],
    [false, 'pow: 28 bits needed', 'pow'],
    [false, 'invalid: created_at too late', 'invalid'],
    [false, 'error: could not connect to the database', 'error'],
    [false, 'auth-required: we only accept events from registered users', 'auth_required'],
    [false, 'restricted: not allowed to write', 'restricted'],
    [false, 'rate-limited: slow down there chief', 'rate_limited'],
    [false, 'blocked: you are banned from posting here', 'blocked'],
    [false, 'something else', 'rejected'],
    [false, '', 'rejected'],
  ])('%s "%s" is %s', (accepted, text, reason) => {
    expect(refusalOfOk(accepted, text)).toBe(reason);
  });
});
