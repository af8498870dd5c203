/** Figures of the whole archive for Prometheus. */
import { describe, expect, vi } from 'vitest';
import { DatabaseError } from '../../../src/database/error.ts';
import { exportArchive } from '../../../src/refresh/archive-exporter.ts';
import { ARCHIVE_METRICS, type ArchivePart } from '../../../src/telemetry/archive-metrics.ts';
import { createMetrics } from '../../../src/telemetry/metrics.ts';
import { signedEvents } from '../../fixtures/events.ts';
import { batchOf } from '../../postgres/bigbrotr.ts';
import { archiveTest } from '../../postgres/fixtures.ts';

const PARTS = Object.keys(ARCHIVE_METRICS) as ArchivePart[];
/** Only an archive with a standby has them. */
const OF_STANDBYS = ['replication_lag_bytes', 'replication_slot_active'];

const test = archiveTest
  .extend('read', ({ bigbrotr }) => async () => {
    const parts = await Promise.all(PARTS.map((part) => bigbrotr.reports.archiveMetrics(part)));
    return parts.flat();
  })
  .extend('shown', ({ read }) => async () => {
    const samples = await read();
    return Object.fromEntries(
      samples.map(({ metric, labels, value }) => {
        const words = Object.keys(labels)
          .sort()
          .map((name) => labels[name]);
        return [[metric, ...words].join(' '), value];
      }),
    );
  })
  .extend('fill', ({ bigbrotr, database, relay, other, filterId }) => async () => {
    const events = signedEvents(3, { from: 1_700_000_000, to: 1_700_000_999 });
    await bigbrotr.store(
      batchOf({
        ...{ relay, filterId, events, evidence: 'paging' },
        proven: [{ since: 1_700_000_000, until: 1_700_000_999 }],
        holes: [{ since: 1_700_001_000, until: 1_700_001_000, reason: 'dense', count: 9 }],
        offences: [{ reason: 'bad_signature', count: 4, example: null }],
      }),
    );
    const health = { openable: true, readable: true, writable: true, rtt_open: 100, rtt_read: 250 };
    for (const sql of [
      `select insert_relay_metadata('${relay.url}', 'clearnet', unix_now() - 60, null, '${JSON.stringify(health)}')`,
      `select record_relay_check('${relay.url}', unix_now() - 60, '${JSON.stringify(health)}'::jsonb, 28800)`,
      `insert into visits (relay_id, filter_id, wanted, started_at, ended_at, outcome, caught_up, failures)
       values (${relay.relayId}, ${filterId}, '[1700000000,1700002000)', unix_now() - 9, unix_now() - 5, 'complete', true, 0),
              (${other.relayId}, ${filterId}, '[1700000000,1700002000)', unix_now() - 9, unix_now() - 5, 'failed', false, 3)`,
      `insert into relay_manners (relay_id, not_before) values (${other.relayId}, unix_now() + 99)`,
      `insert into claims (work, relay_id, holder, token, since, until)
       values ('visit', 1, 'a', 1, unix_now(), unix_now() + 60), ('check', 2, 'b', 2, unix_now(), unix_now() - 1)`,
      `insert into runs (command, started_at, ended_at, succeeded, detail)
       values ('backup', 100, 160, true, 'x'), ('verify', 200, 230, true, 'x'), ('verify', 300, 390, false, 'x')`,
    ])
      await database.query(sql);
  });

describe('figures of the whole archive', () => {
  test('of an empty archive are numbers', async ({ read }) => {
    const samples = await read();
    expect(samples.length).toBeGreaterThan(15);
    expect(samples.filter(({ value }) => !Number.isFinite(value))).toEqual([]);
  });

  test('say what an archive holds, proves and lacks', async ({ fill, shown, database }) => {
    await fill();
    const figures = await shown();
    expect(figures).toMatchObject({
      ...{ 'table_rows events': 3, 'table_rows sightings': 3, 'table_rows quarantine': 0 },
      ...{ 'relays clearnet up': 1, 'relays clearnet never_checked': 1 },
      ...{ 'relays_readable clearnet': 1, relays_paused: 1 },
      ...{
        'relay_rtt_seconds read clearnet 0.5': 0.25,
        'relay_rtt_seconds open clearnet 0.9': 0.1,
      },
      ...{ coverage_sampled_relays: 2, coverage_gaps: 1 },
      ...{ 'coverage_relays caught_up': 1, 'coverage_relays backlog': 1, 'holes dense': 1 },
      ...{ 'latest_visits complete': 1, 'latest_visits failed': 1, relays_failing: 1 },
      ...{ 'relay_offences bad_signature': 4, 'claims visit': 1, 'claims check': 0 },
      ...{ claim_holders: 1, 'run_succeeded backup': 1, 'run_succeeded verify': 0 },
      ...{ 'run_timestamp_seconds verify': 390, 'run_success_timestamp_seconds verify': 230 },
      ...{ 'run_duration_seconds backup': 60 },
    });
    const reasons = Object.keys(figures).flatMap((name) => /^holes (\w+)$/.exec(name)?.[1] ?? []);
    const [set] = await database.query<{ source: string }>(
      "select prosrc || pg_get_functiondef(oid) as source from pg_proc where proname = 'is_hole_reason'",
    );
    const known = [...(set?.source.matchAll(/'(\w+)'/g) ?? [])].map(([, word]) => word);
    expect(reasons.sort()).toEqual([...new Set(known)].sort());
    const [view] = await database.query('select avg(share)::float8 as share from relay_coverage');
    expect(figures.coverage_share).toBe(view?.share);
    expect(figures.coverage_share).toBeGreaterThan(0);
    const now = Date.now() / 1000;
    for (const name of ['last_event_stored', 'coverage_oldest_proof'])
      expect(now - (figures[`${name}_timestamp_seconds`] ?? 0)).toBeLessThan(120);
    expect(Math.abs(figures.database_clock_offset_seconds ?? 99)).toBeLessThan(60);
  });

  test('are the metrics that are described, with their labels', async ({ fill, read }) => {
    await fill();
    const described = new Map(
      Object.values(ARCHIVE_METRICS).flatMap((part) =>
        Object.entries(part as Record<string, { labels?: readonly string[] }>),
      ),
    );
    const samples = await read();
    for (const { metric, labels } of samples)
      expect(Object.keys(labels).sort(), metric).toEqual([
        ...(described.get(metric)?.labels ?? []),
      ]);
    const found = new Set<string>(samples.map(({ metric }) => metric));
    const missing = [...described.keys()].filter((name) => !found.has(name));
    expect(missing.sort()).toEqual(OF_STANDBYS);
  });

  test('are exported with the time at which they were read, which a failure leaves as it was', async ({
    fill,
    bigbrotr,
  }) => {
    await fill();
    const metrics = createMetrics('refresher');
    const stop = new AbortController();
    const reasons: unknown[] = [];
    let reads = 0;
    const exporting = exportArchive(
      {
        metrics,
        signal: stop.signal,
        logRepeated: (fields) => reasons.push(fields),
        read: (part) => {
          reads += 1;
          if (reads > PARTS.length) throw new DatabaseError('it is away', '', false, null);
          return bigbrotr.reports.archiveMetrics(part);
        },
      },
      0.05,
    );
    await vi.waitFor(() => expect(reasons.length).toBeGreaterThan(3), 10_000);
    stop.abort();
    await exporting;
    expect(reasons[0]).toEqual({ part: 'work', reason: 'it is away' });
    const text = await metrics.text();
    expect(text).toContain('bigbrotr_relays_failing{service="refresher"} 1');
    expect(text).toContain('bigbrotr_journal_lag_seconds{reader="finder",service="refresher"} ');
    for (const part of PARTS)
      expect(text).toMatch(
        new RegExp(`^bigbrotr_archive_read_timestamp_seconds\\{part="${part}",.*\\} 1\\d{9}`, 'm'),
      );
  });
});
