import { pino } from 'pino';
import { describe, expect } from 'vitest';
import type { Refused } from '../../../src/database/bigbrotr.ts';
import { BatchWriter } from '../../../src/sync/batch-writer.ts';
import { OffenceTally } from '../../../src/sync/offence-tally.ts';
import { RecentEvents } from '../../../src/sync/recent-events.ts';
import { signedEvent, signedEvents } from '../../fixtures/events.ts';
import { odd, T, quarantineTest as test, verifier } from '../../fixtures/visit-quarantine.ts';
import { batchOf, verified } from '../../postgres/bigbrotr.ts';
import { relayAddress } from '../../relay/relays.ts';

test('a quarantine that is full by number keeps 10,000 events; the rest is reported and not covered', async ({
  archive,
  begin,
  relay,
  filterId,
  fill,
  store,
  quarantined,
  holes,
  missing,
}) => {
  await begin();
  await fill(relay, 9_997);
  const events = odd(10);
  const sorted = [...events].sort((a, b) => (a.id < b.id ? -1 : 1));
  const kept = new Set(sorted.slice(0, 3).map(({ created_at }) => created_at));
  const beyond = events.map(({ created_at }) => created_at).filter((time) => !kept.has(time));
  const good = signedEvents(5, { from: T, to: T + 9 });
  const stored = await store([...events, ...good]);
  const refused = { since: Math.min(...beyond), until: Math.max(...beyond), count: 7 };
  expect(stored).toMatchObject({ events: 5, sightings: 5, quarantined: 3, refused });
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

describe('a quarantine that is full', () => {
  test('is limited to 64 MB', async ({ fill, relay, store, readBack }) => {
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

  test('excludes the refused stretch from the coverage of a later batch of the visit', async ({
    archive,
    begin,
    relay,
    filterId,
    fill,
    missing,
  }) => {
    await begin();
    await fill(relay, 10_000);
    const refused: Refused[] = [];
    const writer = new BatchWriter({
      ...{ bigbrotr: archive.bigbrotr, verifier, relay, filterId, batchSize: 5, now: () => T },
      recent: new RecentEvents(),
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

  test('is counted by reason and logged once in a visit, which is repeated when there is room', async ({
    startRelay,
    archive,
    fill,
  }) => {
    const lines: string[] = [];
    const log = pino({ level: 'warn' }, { write: (line) => void lines.push(line) });
    const events = [...odd(120), ...signedEvents(60, { from: T - 5000, to: T - 10 })];
    const server = await startRelay({ events });
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
