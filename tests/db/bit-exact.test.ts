/**
 * Every event that verifies on arrival verifies when it is read back, for all of Unicode: as rows, or where rows cannot
 * hold it in quarantine, as the bytes it was. What the quarantine has no room for is counted and never claimed.
 */
import fc from 'fast-check';
import { pino } from 'pino';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import type { Refused, Relay, StoredEvent } from '../../src/bigbrotr.ts';
import { type NostrEvent, parseEvent, storageObstacle } from '../../src/nostr/event.ts';
import { createVerifier, type VerifiedEvent } from '../../src/nostr/verify.ts';
import { BatchWriter } from '../../src/visit/batch-writer.ts';
import { OffenceTally } from '../../src/visit/offence-tally.ts';
import { batchOf, verified } from '../support/bigbrotr.ts';
import { type EventTemplate, signedEvent, signedEvents } from '../support/events.ts';
import { relayAddress } from '../support/relays.ts';
import { startScriptedRelay } from '../support/scripted-relay.ts';
import { type TestArchive, testArchive } from '../support/visit-context.ts';

const T = Math.floor(Date.now() / 1000) - 10_000;
const HERE = 'wss://here.example.com';
const verifier = await createVerifier();
const archive: TestArchive = await testArchive();
let relay: Relay;
let filterId: number;

beforeEach(async () => {
  await archive.clear();
  relay = await archive.relay(HERE);
  filterId = await archive.bigbrotr.filterId({});
});
afterAll(() => archive.close());

/** The event as it comes off the wire: JSON text, parsed, its id and signature checked. */
function arrived(text: string): VerifiedEvent {
  const parsed = parseEvent(JSON.parse(text));
  const event = parsed.ok ? verifier.verify(parsed.event) : null;
  if (!event) throw new Error(`not a valid event: ${text.slice(0, 300)}`);
  return event;
}

async function readBack(): Promise<Map<string, StoredEvent>> {
  const found = new Map<string, StoredEvent>();
  for await (const chunk of archive.bigbrotr.storedEvents()) {
    for (const stored of chunk) found.set(stored.id, stored);
  }
  return found;
}

/** Stores all in one batch and expects each back, the same in every bit, at the place that fits it. */
async function keeps(events: readonly NostrEvent[]): Promise<void> {
  const unique = [...new Map(events.map((event) => [event.id, event])).values()];
  const aside = unique.filter((event) => storageObstacle(event) !== null);
  const stored = await archive.bigbrotr.store({
    ...batchOf({ relay, filterId, proven: [{ since: 0, until: 2 ** 39 }] }),
    events: unique.map((event) => arrived(JSON.stringify(event))),
  });
  expect(stored).toEqual({
    events: unique.length - aside.length,
    sightings: unique.length - aside.length,
    quarantined: aside.length,
  });
  const found = await readBack();
  expect(found.size).toBe(unique.length);
  for (const event of unique) {
    const back = found.get(event.id);
    expect(back?.place).toBe(storageObstacle(event) === null ? 'events' : 'quarantine');
    expect(back?.event).toEqual(event);
    arrived(JSON.stringify(back?.event));
  }
  const reasons = await archive.db.query<{ id: string; reason: string }>(
    `select encode(id, 'hex') as id, reason from quarantine`,
  );
  expect(new Map(reasons.map(({ id, reason }) => [id, reason]))).toEqual(
    new Map(aside.map((event) => [event.id, storageObstacle(event)])),
  );
}

const sign = (parts: Partial<EventTemplate>) => signedEvent({ created_at: T, ...parts });
/** The text as content, as the name and as the value of a tag. */
const everywhere = (text: string) => [
  sign({ content: text }),
  sign({ tags: [['t', text]] }),
  sign({ tags: [[text, 'x', text]] }),
];

describe('comes back bit for bit', () => {
  test('every code point there is, and every surrogate without its pair', async () => {
    const blocks: string[] = [];
    for (let start = 0; start <= 0x10ffff; start += 0x2000) {
      const points = Array.from({ length: 0x2000 }, (_, index) => start + index);
      blocks.push(points.map((point) => String.fromCodePoint(point)).join(''));
    }
    blocks.push(blocks[0]?.slice(1) ?? ''); // the first without NUL
    await keeps(
      blocks.flatMap((block) => [sign({ content: block }), sign({ tags: [['t', block]] })]),
    );
    console.log(`${0x110000} code points in ${blocks.length} blocks, as content and as tag value`);
  });

  test.each([
    ['NUL', ['\0', 'a\0b', '\0\0\0']],
    ['half of a pair', ['\ud800', '\udc00', 'a\udbffb', '\udfff\ud800', '\ud83d', '😀\ude00']],
    ['control characters', Array.from({ length: 0x21 }, (_, code) => String.fromCharCode(code))],
    [
      'what JSON escapes',
      ['"', '\\', '/', '\\\\"', '\b\f\n\r\t\v', '\\u0000', '\\ud800', '\u2028\u2029'],
    ],
    [
      'what is no character',
      ['\ufffe', '\uffff', '\ufdd0', '\u{1fffe}', '\u{10ffff}', '\ufeff', '\ufffd'],
    ],
    [
      'what arrays and NULL look like',
      ['NULL', 'null', '{}', '{"a"}', '{,}', '[]', '""', "'", '$1', '%s'],
    ],
    [
      'what looks the same',
      ['é', 'e\u0301', '\u212b', 'Å', 'ﬁ', '\u200b', '\u202e', ' ', '  ', '\u00a0'],
    ],
  ])('%s', async (_, texts) => keeps(texts.flatMap(everywhere)));

  test('integers at the edge', async () => {
    const times = [0, 1, 2 ** 31 - 1, 2 ** 31, 2 ** 32, 2 ** 33 + 1, 2 ** 39 - 1];
    const kinds = [0, 1, 255, 32_767, 32_768, 65_535];
    await keeps([
      ...times.map((created_at) => sign({ created_at })),
      ...kinds.map((kind) => sign({ kind })),
    ]);
  });

  test('empty and odd tags', async () => {
    const letters = [...'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ'];
    await keeps(
      [
        [],
        [[]],
        [[], []],
        [['']],
        [['', '']],
        [['t']],
        [['t', '']],
        [
          ['t', 'x'],
          ['t', 'x'],
          ['t', 'x', 'y'],
        ],
        [['t', 'x', '', '', '']],
        letters.map((letter) => [letter, letter]),
        Array.from({ length: 20_000 }, (_, n) => ['p', n.toString(16).padStart(64, '0')]),
        Array.from({ length: 100_000 }, () => []),
        [Array.from({ length: 100_000 }, () => '')],
        [['t', ...Array.from({ length: 5000 }, (_, n) => `value ${n}`)]],
      ].map((tags) => sign({ tags })),
    );
  });

  test('tag values of 100 KB, around every bound of an index, and contents of megabytes', async () => {
    const values = [254, 255, 256, 2047, 2048, 2704, 2705, 2712, 2713, 8191, 100_000];
    await keeps([
      ...values.map((length) => sign({ tags: [['d', 'v'.repeat(length)]] })),
      ...values.map((length) => sign({ tags: [['d', '日'.repeat(length / 3)]] })),
      ...values.map((length) => sign({ tags: [['n'.repeat(length), 'v']] })),
      sign({ content: 'x'.repeat(1_000_000) }),
      sign({ content: '日本語🦊'.repeat(100_000) }),
      sign({ content: 'x'.repeat(4 * 1024 * 1024 - 200) }),
      sign({ content: '"'.repeat(2_000_000) }),
      sign({ content: '\0'.repeat(600_000) }),
      sign({ content: '\ud800'.repeat(600_000) }),
    ]);
  });

  test('however its JSON was escaped on the wire', async () => {
    const event = sign({ content: 'a/"\\\n\u001f é 日 😀 \u2028', tags: [['t', '😀\u007f']] });
    const plain = JSON.stringify(event);
    const ascii = plain.replace(/[^\x20-\x7e]/g, asEscape).replaceAll('/', '\\/');
    const units = JSON.stringify({ ...event, content: '<content>', tags: [['t', '<value>']] })
      .replace('<content>', () => everyUnit(event.content))
      .replace('<value>', () => everyUnit(event.tags[0]?.[1] ?? ''));
    expect(new Set([plain, ascii, units]).size).toBe(3);
    for (const text of [plain, ascii, units, ` ${JSON.stringify(event, null, 2)}`]) {
      expect(arrived(text)).toEqual(event);
    }
  });

  test('fast-check: whatever UTF-16 can hold, some hundred events in a batch', async () => {
    const unit = fc.integer({ min: 0, max: 0xffff }).map((code) => String.fromCharCode(code));
    const text = fc.oneof(
      fc.string({ maxLength: 40 }),
      fc.string({ unit: 'binary', maxLength: 40 }),
      fc.string({ unit, maxLength: 20 }),
      fc.string({
        unit: fc.constantFrom('\0', '\ud800', '\udc00', '"', '\\', '\n', 'a', '日', '😀'),
        maxLength: 8,
      }),
    );
    const template = fc.record({
      content: text,
      created_at: fc.oneof(fc.nat(), fc.integer({ min: 0, max: 2 ** 39 - 1 })),
      kind: fc.integer({ min: 0, max: 65_535 }),
      tags: fc.array(fc.array(text, { maxLength: 4 }), { maxLength: 4 }),
    });
    const seed = Date.now() % 2 ** 31;
    const templates = fc.sample(template, { numRuns: 2500, seed });
    for (let from = 0; from < templates.length; from += 250) {
      await archive.db.query('truncate events, sightings, quarantine');
      const events = templates.slice(from, from + 250).map((parts) => signedEvent(parts));
      await expect(keeps(events), `seed ${seed}`).resolves.toBeUndefined();
    }
    console.log(`${templates.length} random events kept in batches of 250, seed ${seed}`);
  });
});

/** Every UTF-16 unit as \uXXXX, as JSON allows. */
function everyUnit(text: string): string {
  return Array.from({ length: text.length }, (_, index) => asEscape(text.charAt(index))).join('');
}

function asEscape(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

describe('a quarantine that is full', () => {
  const odd = (count: number, from = T) =>
    Array.from({ length: count }, (_, index) =>
      signedEvent({ created_at: from + index, content: `${index} \0` }),
    );
  const quarantined = async (of: Relay) => {
    const [row] = await archive.db.query<{ count: number }>(
      'select count(*)::int from quarantine where relay_id = $1',
      [of.relayId],
    );
    return row?.count;
  };
  /** Sets so many events of that size aside, as though they had come before. */
  const fill = (of: Relay, count: number, bytes = 2) =>
    archive.db.query(
      `insert into quarantine (id, relay_id, created_at, reason, raw)
       select sha256(int4send(n)), $1, 0, 'nul', decode(repeat('7b', $3), 'hex') from generate_series(1, $2) n`,
      [of.relayId, count, bytes],
    );
  const store = (events: readonly NostrEvent[], refused: readonly Refused[] = []) =>
    archive.bigbrotr.store(
      batchOf({ relay, filterId, events, refused, proven: [{ since: T - 100, until: T + 100 }] }),
    );
  const holes = () =>
    archive.db.query(
      `select lower(stretch)::int - $1 as since, upper(stretch)::int - 1 - $1 as until, reason, events from holes`,
      [T],
    );
  const missing = () =>
    archive.db.query(
      `select since::int - $1 as since, until::int - $1 as until, hole, hole_events
       from coverage_gaps where since between $1 - 100 and $1 + 100`,
      [T],
    );

  test('by number: 10,000 are kept, what is beyond is told and not claimed', async () => {
    await archive.bigbrotr.beginVisit(
      relay,
      { filterId, since: T - 100, until: T + 100 },
      { overlapSeconds: 0, reproveSeconds: 1 },
    );
    await fill(relay, 9_997);
    const events = odd(10);
    const sorted = [...events].sort((a, b) => (a.id < b.id ? -1 : 1));
    const kept = new Set(sorted.slice(0, 3).map(({ created_at }) => created_at));
    const beyond = events.map(({ created_at }) => created_at).filter((time) => !kept.has(time));
    const good = signedEvents(5, { from: T, to: T + 9 });
    const stored = await store([...events, ...good]);
    const refused = { since: Math.min(...beyond), until: Math.max(...beyond), count: 7 };
    expect(stored).toEqual({ events: 5, sightings: 5, quarantined: 3, refused });
    expect(await quarantined(relay)).toBe(10_000);
    const stretch = { since: refused.since - T, until: refused.until - T };
    expect(await holes()).toEqual([{ ...stretch, reason: 'quarantine_full', events: 7 }]);
    expect(await missing()).toEqual([{ ...stretch, hole: 'quarantine_full', hole_events: 7 }]);

    // The same again: what is in it needs no room, and nothing is kept twice.
    expect(await store(events)).toMatchObject({ quarantined: 0, refused });
    expect(await quarantined(relay)).toBe(10_000);
    // Another relay has room of its own.
    const other = await archive.relay('wss://other.example.com');
    const elsewhere = await archive.bigbrotr.store(batchOf({ relay: other, filterId, events }));
    expect(elsewhere).toEqual({ events: 0, sightings: 0, quarantined: 10 });

    // Once there is room, they are kept, and the hole is gone.
    await archive.db.query(`delete from quarantine where raw = '\\x7b7b' and relay_id = $1`, [
      relay.relayId,
    ]);
    expect(await store(events)).toEqual({ events: 0, sightings: 0, quarantined: 7 });
    expect(await holes()).toEqual([]);
    expect(await missing()).toEqual([]);
  });

  test('by size: 64 MB', async () => {
    await fill(relay, 12, 5 << 20);
    const large = [1, 2].map((n) =>
      signedEvent({ created_at: T + n, content: '\0'.repeat(500_000) }),
    );
    const [first, second] = [...large].sort((a, b) => (a.id < b.id ? -1 : 1));
    const { quarantined: kept, refused } = await store(large);
    expect(kept).toBe(1);
    const time = second?.created_at ?? 0;
    expect(refused).toEqual({ since: time, until: time, count: 1 });
    expect((await readBack()).get(first?.id ?? '')?.event).toEqual(first);
  });

  test('a proof that comes with a later batch of the visit leaves it out', async () => {
    await archive.bigbrotr.beginVisit(
      relay,
      { filterId, since: T - 100, until: T + 100 },
      { overlapSeconds: 0, reproveSeconds: 1 },
    );
    await fill(relay, 10_000);
    const refused: Refused[] = [];
    const writer = new BatchWriter({
      ...{ bigbrotr: archive.bigbrotr, verifier, relay, filterId, batchSize: 5, now: () => T },
      offences: new OffenceTally(),
      onStored: (stored) => stored.refused && refused.push(stored.refused),
      onInvalid: () => {},
    });
    const good = signedEvents(20, { from: T - 90, to: T - 10 });
    for (const event of [...odd(2, T + 50), ...good]) await writer.add(verified(event));
    await writer.endPage({ proven: [{ since: T, until: T + 100 }], holes: [], evidence: 'paging' });
    await writer.endPage({
      proven: [{ since: T - 100, until: T - 1 }],
      holes: [],
      evidence: 'paging',
    });
    await writer.flush();
    expect(refused).toEqual([{ since: T + 50, until: T + 51, count: 2 }]);
    expect(await missing()).toEqual([
      { since: 50, until: 51, hole: 'quarantine_full', hole_events: 2 },
    ]);
  });

  test('in a visit: counted by reason, said once, and read again when there is room', async () => {
    const lines: string[] = [];
    const log = pino({ level: 'warn' }, { write: (line) => void lines.push(line) });
    const events = [...odd(120), ...signedEvents(60, { from: T - 5000, to: T - 10 })];
    const server = await startScriptedRelay({ events });
    try {
      const [known] = await archive.bigbrotr.relaysOf([relayAddress(server.url)]);
      if (!known) throw new Error('the relay is not known');
      await fill(known, 10_000);
      const options = { log, batchSize: 50 };
      const report = await archive.visit(server.url, options);
      expect(report).toMatchObject({ outcome: 'partial', quarantined: 0, sightings: 60 });
      expect(report.detail).toMatch(/^\d stretches cannot be proven$/);
      expect(report.invalid.quarantine_full).toBeGreaterThanOrEqual(120);
      expect(lines).toHaveLength(1);
      expect(JSON.parse(lines[0] ?? '')).toMatchObject({
        relay: server.url,
        reason: 'quarantine_full',
      });
      const gaps = await archive.db.query<{ since: string; until: string; hole: string }>(
        `select * from coverage_gaps where relay_url = $1`,
        [server.url],
      );
      const isMissing = (time: number) =>
        gaps.some(({ since, until }) => time >= Number(since) && time <= Number(until));
      for (const { created_at, content } of events)
        expect(isMissing(created_at)).toBe(content.includes('\0'));
      expect(new Set(gaps.map(({ hole }) => hole))).toEqual(new Set(['quarantine_full']));

      await archive.db.query(`delete from quarantine where raw = '\\x7b7b'`);
      const again = await archive.visit(server.url, { ...options, reproveSeconds: -1 });
      expect(again).toMatchObject({ outcome: 'complete', quarantined: 120, invalid: {} });
      expect(await archive.db.query('select from coverage_gaps')).toEqual([]);
    } finally {
      await server.stop();
    }
  });
});
