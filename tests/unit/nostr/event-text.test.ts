import { describe, expect, test } from 'vitest';
import { type NostrEvent, parseEvent } from '../../../src/nostr/event.ts';
import {
  EventText,
  hashEvent,
  identify,
  mayHaveTag,
  readEventFrame,
} from '../../../src/nostr/event-text.ts';
import { matchesArchived } from '../../../src/nostr/verify.ts';
import { frameOf, oddText, plain } from '../../fixtures/event-texts.ts';
import { mixedEvents, signedEvent } from '../../fixtures/events.ts';
import { signEvent } from '../../relay/signer.ts';

const EVENT = signedEvent({
  created_at: 1_700_000_000,
  tags: [['e', '00'.repeat(32), 'wss://relay.example.com'], ['t', 'a "b" \\ [c]'], []],
  content: 'a "quoted" \\ line\nand ] } , another ☕ \u{1f600}',
});
const read = (data: string) => readEventFrame(data)?.event ?? null;
const ORDERS: (keyof NostrEvent)[][] = [
  ['id', 'pubkey', 'created_at', 'kind', 'tags', 'content', 'sig'],
  ['content', 'created_at', 'id', 'kind', 'pubkey', 'sig', 'tags'],
  ['tags', 'sig', 'kind', 'content', 'pubkey', 'id', 'created_at'],
];

describe('readEventFrame', () => {
  test.each(ORDERS)('reads the fields in any order: %s first', (...order) => {
    const reordered = Object.fromEntries(order.map((name) => [name, EVENT[name]]));
    const frame = readEventFrame(frameOf(reordered));
    expect(frame?.subscription).toBe('sub');
    expect(frame && plain(frame.event)).toEqual(plain(EVENT));
  });

  test('reads the same of every kind of event as the parser', () => {
    for (const event of mixedEvents(300)) {
      const text = read(frameOf(plain(event)));
      const hashed = text && hashEvent(text);
      expect(hashed && plain(hashed)).toEqual(plain(event));
      expect(text && identify(text)).toEqual(parseEvent(plain(event)));
    }
  });

  const text = frameOf(plain(EVENT));
  test.each([
    ['a space before the event', text.replace(',{', ', {')],
    ['a space in the event', text.replace(',"kind"', ', "kind"')],
    ['another field', frameOf({ ...plain(EVENT), extra: 1 })],
    ['a field twice', text.replace('"kind":1,', '"kind":1,"kind":1,').replace(/,"sig":"\w+"/, '')],
    ['a missing field', text.replace(/,"sig":"\w+"/, '')],
    ['capitals in an id', frameOf({ ...plain(EVENT), id: EVENT.id.toUpperCase() })],
    ['a short id', frameOf({ ...plain(EVENT), id: EVENT.id.slice(1) })],
    ['a negative time', text.replace('"created_at":1', '"created_at":-1')],
    ['leading zeros', text.replace('"created_at":1', '"created_at":01')],
    ['a fraction', text.replace('"kind":1', '"kind":1.0')],
    ['a time that is too late', frameOf({ ...plain(EVENT), created_at: 2 ** 39 })],
    ['a kind that is too large', frameOf({ ...plain(EVENT), kind: 65_536 })],
    ['tags that are no array', frameOf({ ...plain(EVENT), tags: 'x' })],
    ['numbers in tags', frameOf({ ...plain(EVENT), tags: [[1]] })],
    ['tags that do not end', text.replace(/\]\],"content"/, '],"content"')],
    ['a content that does not end', '["EVENT","sub",{"content":"abc\\"}]'],
    ['an element after the event', text.replace(/\}\]$/, '},1]')],
    ['a brace after the event', text.replace(/\}\]$/, '}}]')],
    ['an escaped subscription', frameOf(plain(EVENT), 'a"b')],
    ['another message', '["EOSE","sub"]'],
    ['no JSON', '["EVENT","sub",{}]'],
    ['nothing', ''],
  ])('leaves %s to the parser', (_what, data) => {
    expect(data).not.toBe(text);
    expect(readEventFrame(data)).toBeNull();
  });

  test('leaves long frames to the parser', () => {
    const long = signedEvent({ created_at: 5, content: 'x'.repeat(70_000) });
    expect(readEventFrame(frameOf(plain(long)))).toBeNull();
  });
});

describe('hashEvent', () => {
  const changes: Partial<NostrEvent>[] = [
    { content: 'another' },
    { tags: [] },
    { kind: 7 },
    { created_at: 5 },
    { pubkey: '11'.repeat(32) },
    { id: '22'.repeat(32) },
  ];
  test.each(changes)('refuses an event of which this was changed: %o', (change) => {
    const text = read(frameOf({ ...plain(EVENT), ...change }));
    expect(text).toBeInstanceOf(EventText);
    expect(text && hashEvent(text)).toBeNull();
    expect(text && identify(text)).toMatchObject({ ok: false, reason: 'id_mismatch' });
  });

  test('says nothing of the signature', () => {
    const text = read(frameOf({ ...plain(EVENT), sig: '00'.repeat(64) }));
    const hashed = text && hashEvent(text);
    expect(hashed).not.toBeNull();
    expect(hashed && matchesArchived(hashed, EVENT.sig)).toBeNull();
  });

  test('an event with other escapes is not its hash, and is known when it is parsed', () => {
    const text = read(frameOf(plain(EVENT)).replace('☕', '\\u2615'));
    expect(text && hashEvent(text)).toBeNull();
    expect(text && identify(text)).toEqual(parseEvent(plain(EVENT)));
  });

  test.each([
    ['escapes that are not those of NIP-01', '[]', '"\\u0061"'],
    ['tags that are no JSON', '[,["a"]]', '"x"'],
    ['nested tags', '[[["a"]]]', '"x"'],
    ['a content that is no JSON', '[]', '"\u0001"'],
  ])('an id that is the hash of %s is no id of an event', (_what, tags, content) => {
    const text = oddText(tags, content);
    expect(hashEvent(text)).not.toBeNull();
    expect(identify(text).ok).toBe(false);
    expect([text.tags, typeof text.content]).toEqual([expect.any(Array), 'string']);
  });
});

test('tags are looked for in the text', () => {
  const expiring = signEvent(
    { created_at: 5, kind: 1, tags: [['expiration', '9']], content: '' },
    new Uint8Array(32).fill(7),
  );
  const text = read(frameOf(plain(expiring)));
  expect(text && mayHaveTag(text, 'expiration')).toBe(true);
  expect(text && mayHaveTag(text, 'd')).toBe(false);
  expect(mayHaveTag(EVENT, 'd')).toBe(true); // of a parsed event the tags tell
});
