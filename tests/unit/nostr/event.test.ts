import fc from 'fast-check';
import { finalizeEvent, getEventHash } from 'nostr-tools/pure';
import { describe, expect, type TestContext, test } from 'vitest';
import {
  createdAtOf,
  type InvalidReason,
  MAX_CREATED_AT,
  MAX_EVENT_BYTES,
  MAX_TAG_STRINGS,
  MAX_TAGS,
  type NostrEvent,
  parseEvent,
  roughTimeOf,
  serializeEvent,
  storageObstacle,
} from '../../../src/nostr/event.ts';
import { createVerifier } from '../../../src/nostr/verify.ts';
import { realEvents, signedEvent } from '../../fixtures/events.ts';

const SECRET = new Uint8Array(32).fill(7);
const NOTE = signedEvent({ created_at: 1_700_000_000, tags: [['t', 'nostr']], content: 'hello' });

/** An event whose id holds; its signature is of no matter to the parser. */
function identified(fields: Partial<NostrEvent>): NostrEvent {
  const event = { ...NOTE, ...fields };
  return { ...event, id: getEventHash(event) };
}

function reasonOf(value: unknown): InvalidReason | null {
  const parsed = parseEvent(value);
  return parsed.ok ? null : parsed.reason;
}

function skip(context: TestContext, reason: string): void {
  console.log(`${context.task.name}: skipped, ${reason}`);
  context.skip(reason);
}

describe('parseEvent', () => {
  test('returns a well-formed event with a matching id, as a new object', () => {
    const input = structuredClone(NOTE);
    const parsed = parseEvent(input);
    expect(parsed).toEqual({ ok: true, event: NOTE });
    input.content = 'changed later';
    input.tags[0]?.push('changed later');
    expect(parsed).toEqual({ ok: true, event: NOTE });
  });

  test('copies the seven fields and nothing else', () => {
    const text = `{"__proto__":{"content":"x"},"seen_on":["wss://relay.example"],${JSON.stringify(NOTE).slice(1)}`;
    const parsed = parseEvent(JSON.parse(text));
    expect(parsed.ok && Object.keys(parsed.event)).toEqual(Object.keys(NOTE));
    expect(parsed).toEqual({ ok: true, event: NOTE });
  });

  test('reads no field from a prototype', () => {
    for (const field of Object.keys(NOTE) as (keyof NostrEvent)[]) {
      const { [field]: inherited, ...rest } = NOTE;
      const value = Object.assign(Object.create({ [field]: inherited }), rest);
      expect(reasonOf(value), field).toBe(field);
    }
  });

  const hex = (length: number): string => 'a'.repeat(length);
  test.each<[string, unknown, InvalidReason]>([
    ['null', null, 'not_object'],
    ['a string', 'event', 'not_object'],
    ['an array', [NOTE], 'not_object'],
    ['an empty object', {}, 'id'],
    ['an id in capitals', { ...NOTE, id: NOTE.id.toUpperCase() }, 'id'],
    ['a short id', { ...NOTE, id: NOTE.id.slice(1) }, 'id'],
    ['an id with a line break', { ...NOTE, id: `${hex(63)}\n` }, 'id'],
    ['an id with a line break behind', { ...NOTE, id: `${NOTE.id}\n` }, 'id'],
    ['an id with a look-alike digit', { ...NOTE, id: `${hex(63)}\u0130` }, 'id'],
    ['an id that is an array', { ...NOTE, id: [NOTE.id] }, 'id'],
    ['a pubkey of 66 digits', { ...NOTE, pubkey: `02${NOTE.pubkey}` }, 'pubkey'],
    ['a pubkey with a g', { ...NOTE, pubkey: `${hex(63)}g` }, 'pubkey'],
    ['no created_at', { ...NOTE, created_at: undefined }, 'created_at'],
    ['created_at as text', { ...NOTE, created_at: '1700000000' }, 'created_at'],
    ['created_at 1.5', { ...NOTE, created_at: 1.5 }, 'created_at'],
    ['created_at -1', { ...NOTE, created_at: -1 }, 'created_at'],
    ['created_at 1e21', { ...NOTE, created_at: 1e21 }, 'created_at'],
    ['created_at Infinity (1e999)', { ...NOTE, created_at: JSON.parse('1e999') }, 'created_at'],
    ['created_at 2^39', { ...NOTE, created_at: 2 ** 39 }, 'created_at'],
    ['kind 65536', { ...NOTE, kind: 65_536 }, 'kind'],
    ['kind -1', { ...NOTE, kind: -1 }, 'kind'],
    ['kind 1.5', { ...NOTE, kind: 1.5 }, 'kind'],
    ['kind 2^31', { ...NOTE, kind: 2 ** 31 }, 'kind'],
    ['kind as text', { ...NOTE, kind: '1' }, 'kind'],
    ['tags as an object', { ...NOTE, tags: {} }, 'tags'],
    ['a tag that is a string', { ...NOTE, tags: ['t'] }, 'tags'],
    ['a tag with null', { ...NOTE, tags: [['t', null]] }, 'tags'],
    ['a tag with a number', { ...NOTE, tags: [['t', 1]] }, 'tags'],
    ['a tag within a tag', { ...NOTE, tags: [['t', ['t']]] }, 'tags'],
    ['content null', { ...NOTE, content: null }, 'content'],
    ['a short sig', { ...NOTE, sig: hex(127) }, 'sig'],
    ['a sig in capitals', { ...NOTE, sig: NOTE.sig.toUpperCase() }, 'sig'],
    ['another id', { ...NOTE, id: hex(64) }, 'id_mismatch'],
    ['changed content', { ...NOTE, content: 'hello!' }, 'id_mismatch'],
    ['changed tags', { ...NOTE, tags: [['t', 'nostr'], []] }, 'id_mismatch'],
  ])('refuses %s', (_name, value, reason) => {
    expect(reasonOf(value)).toBe(reason);
  });

  test('accepts the limits: the first and last second, kind 65535, empty tags', () => {
    expect(reasonOf(identified({ created_at: 0 }))).toBeNull();
    expect(reasonOf(identified({ created_at: MAX_CREATED_AT }))).toBeNull();
    expect(reasonOf(identified({ kind: 65_535 }))).toBeNull();
    expect(reasonOf(identified({ tags: [[], ['']] }))).toBeNull();
  });

  test('reads -0 as 0', () => {
    const event = identified({ created_at: 0, kind: 0 });
    const parsed = parseEvent({ ...event, created_at: -0, kind: -0 });
    expect(parsed.ok && [parsed.event.created_at, parsed.event.kind]).toEqual([0, 0]);
  });

  test('adds a well-formed time to a refusal, and no other', () => {
    expect(parseEvent({ ...NOTE, sig: '' })).toEqual({
      ok: false,
      reason: 'sig',
      createdAt: NOTE.created_at,
    });
    expect(parseEvent({ ...NOTE, created_at: -1 })).toEqual({ ok: false, reason: 'created_at' });
    expect(parseEvent({ created_at: 5 })).toEqual({ ok: false, reason: 'id', createdAt: 5 });
  });

  test('accepts a follow list of 30,000 and a content of 4 MB', () => {
    const follow = ['p', 'f'.repeat(64), 'wss://relay.example', 'name'];
    const follows = Array.from({ length: 30_000 }, () => follow);
    expect(reasonOf(identified({ kind: 3, tags: follows }))).toBeNull();
    expect(reasonOf(identified({ content: 'x'.repeat(4_000_000) }))).toBeNull();
  });

  test('counts bytes of UTF-8 with escapes, exactly up to the limit', () => {
    const empty = JSON.stringify([0, NOTE.pubkey, NOTE.created_at, NOTE.kind, [], '']).length;
    const room = MAX_EVENT_BYTES - empty;
    const fits = (content: string): InvalidReason | null =>
      reasonOf(identified({ tags: [], content }));
    expect(fits('x'.repeat(room))).toBeNull();
    expect(fits('x'.repeat(room + 1))).toBe('too_large');
    expect(fits('€'.repeat(Math.floor(room / 3)))).toBeNull();
    expect(fits('€'.repeat(Math.floor(room / 3) + 1))).toBe('too_large');
    expect(fits('"'.repeat(Math.floor(room / 2) + 1))).toBe('too_large');
    expect(fits('\u0001'.repeat(Math.floor(room / 6) + 1))).toBe('too_large');
  });

  test('refuses too many tags, strings or bytes before it hashes', () => {
    const tooLarge = (fields: Partial<NostrEvent>): InvalidReason | null =>
      reasonOf({ ...NOTE, ...fields });
    const tags = Array.from({ length: 1_000_000 }, () => []);
    expect(tooLarge({ tags })).toBe('too_large');
    expect(tooLarge({ tags: tags.slice(0, MAX_TAGS) })).toBe('id_mismatch');
    expect(tooLarge({ tags: [new Array(MAX_TAG_STRINGS + 1).fill('')] })).toBe('too_large');
    expect(tooLarge({ tags: [new Array(MAX_TAG_STRINGS).fill('')] })).toBe('id_mismatch');
    expect(tooLarge({ tags: [['x'.repeat(100_000_000)]] })).toBe('too_large');
    expect(tooLarge({ content: 'x'.repeat(100_000_000) })).toBe('too_large');
  });

  test('survives nesting of 100,000', () => {
    const deep = JSON.parse(`${'['.repeat(100_000)}${']'.repeat(100_000)}`);
    expect(reasonOf({ ...NOTE, tags: deep })).toBe('tags');
    expect(reasonOf({ ...NOTE, tags: [deep] })).toBe('tags');
    expect(reasonOf(deep)).toBe('not_object');
  });

  test('never throws on any JSON value', () => {
    const almost = fc.record(
      Object.fromEntries(
        Object.entries(NOTE).map(([key, good]) => [
          key,
          fc.oneof(fc.constant(good), fc.jsonValue()),
        ]),
      ),
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(fc.oneof(fc.jsonValue(), almost), (value) => {
        const parsed = parseEvent(value);
        expect(parsed.ok ? parsed.event.id : parsed.reason).toBeTypeOf('string');
      }),
      { numRuns: 1000 },
    );
  });

  test('computes the id as nostr-tools does, for any text', () => {
    const text = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 40 }),
      fc.array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 20 }).map((units) => {
        return String.fromCharCode(...units);
      }),
    );
    fc.assert(
      fc.property(text, fc.array(fc.array(text, { maxLength: 4 }), { maxLength: 4 }), (c, tags) => {
        expect(reasonOf(identified({ content: c, tags }))).toBeNull();
      }),
      { numRuns: 400 },
    );
  });

  test('accepts every real event', (context) => {
    const events = realEvents();
    if (events.length === 0)
      return skip(context, 'BIGBROTR_TEST_EVENTS names no file of real events');
    expect(events.filter((event) => !parseEvent(event).ok)).toEqual([]);
  });
});

describe('createdAtOf', () => {
  test('returns a well-formed time, whatever the rest of the value is', () => {
    expect(createdAtOf({ created_at: 7 })).toBe(7);
    expect(createdAtOf({ created_at: MAX_CREATED_AT, id: 1 })).toBe(MAX_CREATED_AT);
  });

  test.each([null, 7, 'x', [], {}, { created_at: '7' }, { created_at: 1.5 }, { created_at: -1 }])(
    'gives null for %j',
    (value) => {
      expect(createdAtOf(value)).toBeNull();
    },
  );

  test('reads no inherited time', () => {
    expect(createdAtOf(Object.create({ created_at: 7 }))).toBeNull();
  });
});

describe('roughTimeOf', () => {
  test.each([
    [1_700_000_007.5, 1_700_000_008],
    ['1700000007', 1_700_000_007],
    ['1700000007.2', 1_700_000_008],
    [1.5, null],
    ['7', null],
    [-1, null],
    [1.7e12, null],
    ['999999999999', null],
    ['1700000007 ', null],
    ['0x7', null],
    [null, null],
    [[7], null],
  ])('reads %j as %j', (created_at, time) => {
    expect(roughTimeOf({ created_at })).toBe(time);
  });

  test('gives null without a time of its own', () => {
    for (const value of [null, 7, [], {}, Object.create({ created_at: 7 })])
      expect(roughTimeOf(value)).toBeNull();
  });
});

describe('storageObstacle', () => {
  const fine = 'tab\tline\n\u0001\u007f\u2028 \ufffd \ufffe ümläut 日本 🦊 \\u0000 \\ud800';
  test.each<[string, Partial<NostrEvent>, ReturnType<typeof storageObstacle>]>([
    ['ordinary text', { content: fine, tags: [['t', fine], []] }, null],
    ['NUL in content', { content: 'a\0b' }, 'nul'],
    ['NUL in a tag', { tags: [['t'], ['t', '', 'a\0']] }, 'nul'],
    ['NUL in a tag name', { tags: [['\0']] }, 'nul'],
    ['a high surrogate alone', { content: '\ud83e' }, 'lone_surrogate'],
    ['a low surrogate alone', { content: 'a\udd8ab' }, 'lone_surrogate'],
    ['surrogates in the wrong order', { tags: [['t', '\udd8a\ud83e']] }, 'lone_surrogate'],
    ['half of a pair in each string', { tags: [['\ud83e', '\udd8a']] }, 'lone_surrogate'],
  ])('%s', (_name, fields, obstacle) => {
    expect(storageObstacle({ ...NOTE, ...fields })).toBe(obstacle);
  });
});

describe('serializeEvent', () => {
  test('keeps what PostgreSQL cannot store: parsed again, the event verifies bit for bit', async () => {
    const verifier = await createVerifier();
    const contents = ['a\0b', '\ud83e', 'x\udd8a\0', '\u0000\u0001\u001f\u007f\u2028"\\/'];
    for (const content of contents) {
      const template = { kind: 1, created_at: 1_700_000_000, tags: [['t', content]], content };
      const { id, pubkey, created_at, kind, tags, sig } = finalizeEvent(template, SECRET);
      const event: NostrEvent = { id, pubkey, created_at, kind, tags, content, sig };
      const text = serializeEvent(event);
      expect(text.isWellFormed() && !text.includes('\0')).toBe(true);
      // What a database gives back has been UTF-8 on the way.
      const parsed = parseEvent(JSON.parse(Buffer.from(text, 'utf8').toString('utf8')));
      expect(parsed).toEqual({ ok: true, event });
      expect(parsed.ok && verifier.verify(parsed.event)).toEqual(event);
    }
  });

  test('writes the seven fields only', () => {
    expect(JSON.parse(serializeEvent({ ...NOTE, extra: 1 } as NostrEvent))).toEqual(NOTE);
  });
});
