import { readFileSync } from 'node:fs';
import { describe, expect, onTestFinished, vi } from 'vitest';
import { OFFENCE_REASONS } from '../../../src/database/offences.ts';
import type { NostrEvent } from '../../../src/nostr/event.ts';
import { LiveRelays } from '../../../src/sync/live.ts';
import { forgedEvents, newestFirst, signedEvents } from '../../fixtures/events.ts';
import { visitTest } from '../../fixtures/visit-test.ts';
import { batchOf, silent } from '../../postgres/bigbrotr.ts';
import { projectFile } from '../../processes/project.ts';
import type { ScriptedRelay } from '../../relay/scripted-relay.ts';

const T = Math.floor(Date.now() / 1000);
const WINDOW = { from: T - 2_000_000, to: T - 1000 };

const test = visitTest
  .extend(
    'offences',
    ({ archive }) =>
      ({ url }: Pick<ScriptedRelay, 'url'>) =>
        archive.db.query<OffenceRow>(
          `select reason, count::int, example_id from relay_offences_named
     where relay_url = $1 and first_at <= last_at order by reason`,
          [url],
        ),
  )
  .extend('coverage', ({ archive }) => async ({ url }: Pick<ScriptedRelay, 'url'>) => {
    const [row] = await archive.db.query(
      `select share::float, gaps::int, outcome, stop_reason, detail, offences::int, events_held::int
     from relay_coverage where relay_url = $1`,
      [url],
    );
    return row;
  })
  /** What was told of refused events, which the metrics count, by reason. */
  .extend('told', ({ archive }) => (): Record<string, number> => {
    const sums: Record<string, number> = {};
    for (const { invalid } of archive.told)
      for (const [reason, times] of Object.entries(invalid))
        sums[reason] = (sums[reason] ?? 0) + times;
    return sums;
  });

interface OffenceRow {
  readonly reason: string;
  readonly count: number;
  readonly example_id: string | null;
}

describe('a relay that serves 3,006 forged events and nothing else', () => {
  test('is complete and reports what was refused, at each visit', async ({
    startRelay,
    archive,
    offences,
    coverage,
  }) => {
    const events = forgedEvents(3006, WINDOW);
    const relay = await startRelay({ events });
    const report = await archive.visit(relay.url);
    expect(report).toMatchObject({ outcome: 'complete', reason: 'forged', events: 0 });
    const [offence, ...others] = await offences(relay);
    expect(others).toEqual([]);
    expect(offence).toMatchObject({ reason: 'bad_signature', count: report.invalid.bad_signature });
    expect(offence?.count).toBeGreaterThanOrEqual(3006);
    expect(events.map(({ id }) => id)).toContain(offence?.example_id);
    expect(await coverage(relay)).toEqual({
      ...{ share: 1, gaps: 0, outcome: 'complete', stop_reason: 'forged' },
      detail: `${offence?.count} of ${offence?.count} events were refused, forged or malformed`,
      ...{ offences: offence?.count, events_held: 0 },
    });

    // Nothing is asked for that would show them again: what they were is remembered.
    const again = await archive.visit(relay.url);
    expect(again).toMatchObject({ outcome: 'complete', reason: 'forged', invalid: {} });
    expect(await coverage(relay)).toMatchObject({
      stop_reason: 'forged',
      detail: `all ${offence?.count} events that it ever sent were refused, forged or malformed`,
      offences: offence?.count,
    });
  });

  test('is no longer reported as forged once it has served a valid event', async ({
    startRelay,
    archive,
    coverage,
  }) => {
    const relay = await startRelay({ events: forgedEvents(30, WINDOW) });
    expect(await archive.visit(relay.url)).toMatchObject({ reason: 'forged' });
    const later = Math.floor(Date.now() / 1000) + 100;
    relay.add(signedEvents(1, { from: later - 10, to: later - 10 }));
    expect(await archive.visit(relay.url, { now: () => later })).toMatchObject({
      ...{ outcome: 'complete', reason: null, detail: null, events: 1 },
    });
    expect(await coverage(relay)).toMatchObject({ stop_reason: null, events_held: 1 });
  });
});

describe('an offence', () => {
  test('is counted by reason, as in the metrics, with the first id of each reason', async ({
    startRelay,
    archive,
    offences,
    told,
    coverage,
  }) => {
    const good = signedEvents(900, WINDOW);
    const signature = forgedEvents(40, { ...WINDOW, seed: 1 });
    const id = forgedEvents(25, { ...WINDOW, seed: 2, how: 'id' });
    const events = [...good, ...signature, ...id].sort(newestFirst);
    const relay = await startRelay({
      events,
      quirk: { garbage: ['not-json', 'event-null', 'binary'] },
    });
    const report = await archive.visit(relay.url, { batchSize: 100 });
    expect(report).toMatchObject({ outcome: 'complete', reason: null, events: 900 });
    const rows = await offences(relay);
    expect(Object.fromEntries(rows.map(({ reason, count }) => [reason, count]))).toEqual(told());
    expect(told()).toEqual(report.invalid);
    expect(rows.map(({ reason }) => reason)).toEqual([
      ...['bad_signature', 'binary_frame', 'id_mismatch', 'not_json', 'not_object'],
    ]);
    const example = (reason: string) => rows.find((row) => row.reason === reason)?.example_id;
    expect(signature.map((event) => event.id)).toContain(example('bad_signature'));
    expect(id.map((event) => event.id)).toContain(example('id_mismatch'));
    expect(example('not_object')).toBeNull();
    expect((await coverage(relay))?.offences).toBe(rows.reduce((sum, { count }) => sum + count, 0));
  });

  test('is summed over visits and kept per relay', async ({
    startRelay,
    archive,
    offences,
    told,
  }) => {
    const bad = await startRelay({
      events: signedEvents(30, WINDOW),
      quirk: { ignore: ['kinds'] },
    });
    const good = await startRelay({ events: signedEvents(30, WINDOW) });
    for (const { url } of [bad, good, bad]) await archive.visit(url, { filter: { kinds: [7] } });
    const [row, ...others] = await offences(bad);
    expect(others).toEqual([]);
    expect(row).toMatchObject({ reason: 'filter_mismatch', count: told().filter_mismatch });
    expect(await offences(good)).toEqual([]);
    await archive.db.query('delete from relays where url = $1', [bad.url]);
    expect(await archive.db.query('select from relay_offences')).toEqual([]);
  });

  test('counts events that an answer shows again', async ({ startRelay, archive, offences }) => {
    const relay = await startRelay({ events: signedEvents(20, WINDOW), quirk: { repeatEvery: 1 } });
    const report = await archive.visit(relay.url);
    expect(report).toMatchObject({ events: 20, invalid: {} });
    expect(await offences(relay)).toMatchObject([{ reason: 'repeat', example_id: null }]);
    expect((await offences(relay))[0]?.count).toBeGreaterThanOrEqual(20);
  });

  test('is counted also when the visit stores nothing else', async ({
    startRelay,
    archive,
    offences,
    told,
  }) => {
    const quirk = { garbage: ['not-json'], after: 0, end: 'silence' } as const;
    const relay = await startRelay({ events: signedEvents(20, WINDOW), quirk });
    const report = await archive.visit(relay.url, { requestTimeoutMs: 300 });
    expect(report).toMatchObject({ outcome: 'failed', reason: 'timeout', sightings: 0 });
    const [row, ...others] = await offences(relay);
    expect(others).toEqual([]);
    expect(row).toMatchObject({ reason: 'not_json', count: report.invalid.not_json });
    expect(told()).toEqual({ not_json: row?.count });
  });

  test('is counted at once on a live subscription, with or without valid events', async ({
    startRelay,
    archive,
    offences,
    told,
  }) => {
    const live = new LiveRelays({ max: 1, keepAliveMs: 60_000, forgetMs: 60_000, log: silent });
    onTestFinished(() => live.close());
    const relay = await startRelay({ events: signedEvents(5, WINDOW) });
    expect(await archive.visit(relay.url, { live })).toMatchObject({ outcome: 'complete' });
    await relay.until(({ requests }) =>
      requests.some(({ filters: [filter], end }) => filter?.limit === 0 && end),
    );
    for (const event of forgedEvents(7, { from: T, to: T, seed: 2 })) relay.publish(event);
    const [odd] = signedEvents(1, { from: T, to: T });
    relay.publish({ ...odd, kind: -1 } as NostrEvent);
    await vi.waitFor(
      async () =>
        expect(await offences(relay)).toMatchObject([
          { reason: 'bad_signature', count: 7 },
          { reason: 'kind', count: 1, example_id: odd?.id },
        ]),
      { timeout: 20_000 },
    );
    expect(told()).toEqual({ bad_signature: 7, kind: 1 });
  });

  test('is stored with its batch or not at all', async ({ archive, offences }) => {
    const relay = await archive.relay('wss://one.example.com');
    const filterId = await archive.bigbrotr.filterId({});
    const offence = { reason: 'not_json', count: 3, example: null } as const;
    const parts = { relay, filterId, offences: [offence] };
    const wrong = batchOf({ ...parts, proven: [{ since: 9, until: 1 }] });
    await expect(archive.bigbrotr.store(wrong)).rejects.toThrow();
    expect(await offences(relay)).toEqual([]);
    await archive.bigbrotr.store(batchOf(parts));
    await archive.bigbrotr.store(batchOf(parts));
    expect(await offences(relay)).toEqual([{ reason: 'not_json', count: 6, example_id: null }]);
  });

  test('has a reason of a closed set, the same in SQL', async ({ archive }) => {
    const sql = readFileSync(projectFile('init.sql'), 'utf8');
    const body = /function is_offence_reason.*?\n\);/s.exec(sql)?.[0] ?? '';
    const words = [...body.matchAll(/'(\w+)'/g)].map(([, word]) => word);
    expect(words.sort()).toEqual(Object.keys(OFFENCE_REASONS).sort());
    await archive.relay('wss://one.example.com');
    const insert = `insert into relay_offences select relay_id, $1, 1, 2, 3 from relays`;
    await expect(archive.db.query(insert, ['rudeness'])).rejects.toThrow('relay_offences_reason');
    for (const reason of words) await archive.db.query(insert, [reason]);
  });
});
