import { readFileSync } from 'node:fs';
import { describe, expect } from 'vitest';
import type { VisitEnd } from '../../../src/database/bigbrotr.ts';
import { LONGEST_PAUSE, NEW_RELAY_POLICY } from '../../../src/network/relay-policy.ts';
import { STOP_REASONS, type StopReason } from '../../../src/nostr/stop-reason.ts';
import { signedEvents } from '../../fixtures/events.ts';
import { visitTest } from '../../fixtures/visit-test.ts';
import { projectFile } from '../../processes/project.ts';
import {
  closed,
  type ScriptedRelay,
  type ScriptedRelayOptions,
  unanswered,
} from '../../relay/scripted-relay.ts';

const T = Math.floor(Date.now() / 1000);
const EVENTS = signedEvents(60, { from: T - 100_000, to: T - 100 });

const test = visitTest
  .override('relayDefaults', { events: EVENTS })
  .extend('coverage', ({ archive }) => async ({ url }: Pick<ScriptedRelay, 'url'>) => {
    const [row] = await archive.db.query<Row>(
      `select outcome, stop_reason, detail, failures, failing_since::float,
              (paused_until - unix_now())::float as paused
       from relay_coverage where relay_url = $1`,
      [url],
    );
    return row;
  })
  /** Ends a visit of one relay like this, and gives the row of its coverage. */
  .extend('visited', async ({ archive, coverage }) => {
    const relay = await archive.relay('wss://one.example.com');
    const filterId = await archive.bigbrotr.filterId({});
    return async (end: Omit<VisitEnd, 'detail' | 'pages'>): Promise<Row | undefined> => {
      const wanted = { filterId, since: 0, until: T };
      await archive.bigbrotr.beginVisit(relay, wanted, { overlapSeconds: 0, reproveSeconds: 9 });
      await archive.bigbrotr.endVisit(relay, filterId, { ...end, detail: null, pages: 1 });
      return coverage(relay);
    };
  });

interface Row {
  readonly outcome: string;
  readonly stop_reason: string | null;
  readonly detail: string | null;
  readonly failures: number;
  readonly failing_since: number | null;
  readonly paused: number | null;
}

describe('a visit that is stopped', () => {
  const kinds: [StopReason, ScriptedRelayOptions, RegExp][] = [
    ['http_error', { upgrade: { status: 403 } }, /^http_403$/],
    ['reset', { upgrade: 'reset' }, /^reset$/],
    ['timeout', { quirk: unanswered }, /^timeout$/],
    ['closed', { quirk: closed('error: no') }, /^closed: error: no$/],
    ['restricted', { quirk: closed('restricted: pay') }, /^restricted: restricted: pay$/],
    ['disconnected', { quirk: { after: 5, end: 'disconnect' } }, /^disconnected: /],
    ['ignores_until', { quirk: { ignore: ['until'], cap: 20 } }, /^ignores_until$/],
  ];

  test.for(kinds)(
    'has the reason %s in SQL and in its report',
    async ([reason, options, detail], { startRelay, archive, coverage }) => {
      const relay = await startRelay(options);
      const visitOptions = { requestTimeoutMs: 400, visitMs: 30_000 };
      const report = await archive.visit(relay.url, visitOptions);
      expect(report).toMatchObject({ reason, detail: expect.stringMatching(detail) });
      const row = await coverage(relay);
      expect(row).toMatchObject({
        ...{ outcome: report.outcome, stop_reason: reason, detail: report.detail },
      });
    },
  );

  test('has a reason for a closed port, the end of its time and a shutdown', async ({
    startRelay,
    archive,
    coverage,
  }) => {
    const gone = await startRelay();
    await gone.stop();
    expect(await archive.visit(gone.url)).toMatchObject({ outcome: 'failed', reason: 'refused' });
    const relay = await startRelay();
    expect(await archive.visit(relay.url, { visitMs: 0 })).toMatchObject({
      ...{ outcome: 'unfinished', reason: 'time_is_up', detail: 'time is up' },
    });
    expect(await archive.visit(relay.url, { signal: AbortSignal.abort() })).toMatchObject({
      ...{ outcome: 'unfinished', reason: 'stopped', detail: 'stopped' },
    });
    expect(await archive.visit(relay.url)).toMatchObject({
      ...{ outcome: 'complete', reason: null, detail: null },
    });
    expect(await coverage(relay)).toMatchObject({ outcome: 'complete', stop_reason: null });
  });

  test('accepts no reason outside the closed set', async ({ archive }) => {
    const relay = await archive.relay('wss://one.example.com');
    const filterId = await archive.bigbrotr.filterId({});
    await archive.bigbrotr.beginVisit(
      relay,
      { filterId, since: 0, until: 9 },
      { overlapSeconds: 0, reproveSeconds: 9 },
    );
    for (const reason of STOP_REASONS)
      await archive.db.query('update visits set stop_reason = $1', [reason]);
    const other = archive.db.query("update visits set stop_reason = 'tired'");
    await expect(other).rejects.toThrow('visits_stop_reason_check');
  });
});

describe('a relay that cannot be read', () => {
  const failed: Omit<VisitEnd, 'detail' | 'pages'> = { outcome: 'failed', reason: 'dns' };
  const unfinished = (countsAs: VisitEnd['countsAs']): typeof failed => ({
    outcome: 'unfinished',
    reason: 'time_is_up',
    ...(countsAs && { countsAs }),
  });

  test('has the time of its first failure, until a visit reads something', async ({
    archive,
    visited,
  }) => {
    const first = await visited(failed);
    expect(first).toMatchObject({ failures: 1, stop_reason: 'dns' });
    expect(Math.abs((first?.failing_since ?? 0) - T)).toBeLessThan(600);
    await archive.db.query('update visits set failing_since = 5');
    expect(await visited(failed)).toMatchObject({ failures: 2, failing_since: 5 });
    expect(await visited(unfinished('neither'))).toMatchObject({ failures: 2, failing_since: 5 });
    expect(await visited(unfinished(undefined))).toMatchObject({ failures: 2, failing_since: 5 });
    expect(await visited(unfinished('failure'))).toMatchObject({ failures: 3, failing_since: 5 });
    expect(await visited(unfinished('success'))).toMatchObject({
      failures: 0,
      failing_since: null,
    });
    expect((await visited(failed))?.failing_since).toBeGreaterThan(5);
    await archive.db.query('update visits set failing_since = 5e9'); // while the clock was wrong
    expect((await visited(failed))?.failing_since).toBeLessThan(4e9);
    const partly = { outcome: 'partial', reason: 'holes' } as const;
    expect(await visited(partly)).toMatchObject({ failures: 0, failing_since: null });
  });

  test('counts a failure when a visit uses up its time, not when we stop it', async ({
    startRelay,
    archive,
    coverage,
  }) => {
    const slow = await startRelay({ quirk: unanswered });
    const options = { visitMs: 300, requestTimeoutMs: 200 };
    const report = await archive.visit(slow.url, options);
    expect(report).toMatchObject({ reason: 'time_is_up', countsAs: 'failure' });
    const row = await coverage(slow);
    expect(row).toMatchObject({ outcome: 'unfinished', failures: 1 });
    expect(row?.failing_since).not.toBeNull();
    expect(row?.paused).toBeGreaterThan(60);
    await archive.visit(slow.url, { ...options, signal: AbortSignal.abort() });
    expect(await coverage(slow)).toMatchObject({ stop_reason: 'stopped', failures: 1 });
  });
});

describe('a pause', () => {
  test('is shown while it lasts, unless it was recorded while the clock was wrong', async ({
    archive,
    coverage,
  }) => {
    const one = await archive.relay('wss://one.example.com');
    const filter = await archive.bigbrotr.filterId({});
    const wanted = { filterId: filter, since: 0, until: T };
    await archive.bigbrotr.beginVisit(one, wanted, { overlapSeconds: 0, reproveSeconds: 9 });
    const until = async (seconds: number) => {
      const notBefore = Math.floor(Date.now() / 1000) + seconds;
      const reason = 'blocked';
      await archive.bigbrotr.setRelayPolicy(one, { ...NEW_RELAY_POLICY, notBefore, reason });
      return (await coverage(one))?.paused ?? null;
    };
    expect(await until(500)).toBeGreaterThan(400);
    expect(await until(LONGEST_PAUSE)).toBeGreaterThan(LONGEST_PAUSE - 100);
    expect(await until(LONGEST_PAUSE + 7200)).toBeNull();
    expect(await until(-10)).toBeNull();
  });
});

describe('a hole', () => {
  test('has a reason of the closed set that init.sql explains', async ({ archive }) => {
    const sql = readFileSync(projectFile('init.sql'), 'utf8');
    const body = /function is_hole_reason.*?\);/s.exec(sql.replace('(p_word text)', ''))?.[0] ?? '';
    const words = [...body.matchAll(/'(\w+)'/g)].map(([, word]) => word ?? '');
    const [meaning] = await archive.db.query<{ text: string }>(
      `select col_description('holes'::regclass, attnum) as text from pg_attribute
       where attrelid = 'holes'::regclass and attname = 'reason'`,
    );
    expect(words).toEqual(expect.arrayContaining(['dense', 'overflow', 'oversized']));
    await archive.relay('wss://one.example.com');
    await archive.bigbrotr.filterId({});
    const insert = `insert into holes select relay_id, filter_id, int8range($1::bigint, $1::bigint + 1), $2, 1, 1 from relays, filters`;
    for (const [second, word] of words.entries()) {
      expect(meaning?.text).toContain(`${word}: `);
      await archive.db.query(insert, [second, word]);
    }
    await expect(archive.db.query(insert, [99, 'odd'])).rejects.toThrow('holes_reason_check');
  });
});
