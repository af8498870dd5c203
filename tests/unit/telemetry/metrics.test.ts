import { describe, expect, test } from 'vitest';
import { STOP_REASONS } from '../../../src/nostr/stop-reason.ts';
import type { HealthStatus } from '../../../src/telemetry/health.ts';
import { createMetrics } from '../../../src/telemetry/metrics.ts';

const sampleOf = (text: string, series: string) =>
  text
    .split('\n')
    .find((line) => line.startsWith(`${series} `))
    ?.slice(series.length + 1);

describe('metrics', () => {
  test('have stable names', async () => {
    const metrics = createMetrics('synchronizer');
    metrics.relayVisited('ok');
    metrics.relayVisited('ok');
    metrics.relayVisited('timeout');
    metrics.eventsStored(500);
    metrics.sightingsStored(700);
    metrics.eventsInvalid('bad_signature');
    metrics.eventsInvalid('bad_signature', 4);
    metrics.bytesReceived(1024);
    metrics.relaysInProgress(9);
    metrics.relaysInProgress(8);
    metrics.roundFinished(10.5);
    metrics.roundFinished(12.5);
    metrics.journalLag('finder', 7);
    const text = await metrics.text();
    const service = 'service="synchronizer"';
    expect({
      ok: sampleOf(text, `bigbrotr_relays_visited_total{outcome="ok",${service}}`),
      timeout: sampleOf(text, `bigbrotr_relays_visited_total{outcome="timeout",${service}}`),
      events: sampleOf(text, `bigbrotr_events_stored_total{${service}}`),
      sightings: sampleOf(text, `bigbrotr_sightings_stored_total{${service}}`),
      invalid: sampleOf(text, `bigbrotr_events_invalid_total{reason="bad_signature",${service}}`),
      bytes: sampleOf(text, `bigbrotr_bytes_received_total{${service}}`),
      inProgress: sampleOf(text, `bigbrotr_relays_in_progress{${service}}`),
      rounds: sampleOf(text, `bigbrotr_rounds_total{${service}}`),
      seconds: sampleOf(text, `bigbrotr_round_duration_seconds{${service}}`),
      lag: sampleOf(text, `bigbrotr_journal_lag_seconds{reader="finder",${service}}`),
    }).toEqual({
      ok: '2',
      timeout: '1',
      events: '500',
      sightings: '700',
      invalid: '5',
      bytes: '1024',
      inProgress: '8',
      rounds: '2',
      seconds: '12.5',
      lag: '7',
    });
  });

  test('have histograms of visits and batches, and count live events that are dated ahead', async () => {
    const metrics = createMetrics('synchronizer');
    metrics.relayVisited('complete', 3);
    metrics.relayVisited('complete', 200);
    metrics.batchStored(0.02, [2, 4000, -30, -90]);
    const text = await metrics.text();
    const service = 'service="synchronizer"';
    const visits = 'bigbrotr_visit_duration_seconds';
    expect(sampleOf(text, `${visits}_bucket{le="5",${service},outcome="complete"}`)).toBe('1');
    expect(sampleOf(text, `${visits}_sum{${service},outcome="complete"}`)).toBe('203');
    expect(sampleOf(text, `bigbrotr_batch_duration_seconds_bucket{le="0.05",${service}}`)).toBe(
      '1',
    );
    expect(sampleOf(text, `bigbrotr_live_lag_seconds_bucket{le="5",${service}}`)).toBe('3');
    expect(sampleOf(text, `bigbrotr_live_lag_seconds_count{${service}}`)).toBe('4');
    expect(sampleOf(text, `bigbrotr_live_events_ahead_total{${service}}`)).toBe('1');
  });

  test('of the process show what it is, its state and its connections, and nothing that is off', async () => {
    const metrics = createMetrics('finder');
    const build = { version: '0.2.0', schema: '0001_baseline' };
    const up: HealthStatus = {
      ...{ state: 'waiting', ready: true, database: 'up', storing: 'works', tor: 'no_circuit' },
      ...{ network: 'down', uptimeSeconds: 1, lastRound: null, counts: {} },
    };
    metrics.processState(build, up, { max: 5, open: 3, idle: 1, waiting: 2 });
    const text = await metrics.text();
    const series = (name: string, labels = '') =>
      sampleOf(text, `bigbrotr_${name}{${labels}service="finder"}`);
    expect(series('build_info', 'version="0.2.0",schema="0001_baseline",')).toBe('1');
    expect([series('ready'), series('database_up'), series('storing_up')]).toEqual(['1', '1', '1']);
    expect(series('tor_state', 'state="no_circuit",')).toBe('1');
    expect(series('tor_state', 'state="up",')).toBe('0');
    expect(series('own_network_up')).toBe('0');
    expect(series('database_connections', 'state="busy",')).toBe('2');
    expect(series('database_connection_waits')).toBe('2');
    const off = createMetrics('api');
    const down: HealthStatus = { ...up, database: 'down', tor: 'off', network: 'off' };
    off.processState(build, down, null);
    const other = await off.text();
    expect(sampleOf(other, 'bigbrotr_database_up{service="api"}')).toBe('0');
    for (const name of ['tor_state', 'own_network_up', 'database_connections_max'])
      expect(other).not.toMatch(new RegExp(`^bigbrotr_${name}\\{`, 'm'));
  });

  test('of the whole archive take the place of those read before', async () => {
    const metrics = createMetrics('refresher');
    expect(await metrics.text()).not.toContain('# HELP bigbrotr_relays ');
    const sample = (state: string, value: number) =>
      ({ metric: 'relays', labels: { network: 'tor', state }, value }) as const;
    metrics.archiveRead('relays', [sample('up', 3), { ...sample('down', 1) }], 1000);
    metrics.archiveRead('relays', [sample('up', 2)], 2000);
    const text = await metrics.text();
    expect(text.match(/^bigbrotr_relays\{.*/gm)).toEqual([
      'bigbrotr_relays{network="tor",state="up",service="refresher"} 2',
    ]);
    expect(text).toContain(
      'bigbrotr_archive_read_timestamp_seconds{part="relays",service="refresher"} 2000',
    );
    expect(text).not.toMatch(/^bigbrotr_relays_paused\{/m);
  });

  test('include those of the process', async () => {
    const text = await createMetrics('monitor').text();
    expect(text).toMatch(/^process_resident_memory_bytes\{service="monitor"\} \d+/m);
    expect(text).toMatch(/^nodejs_eventloop_lag_seconds\{/m);
  });

  test('of two services are separate', async () => {
    const one = createMetrics('monitor');
    const two = createMetrics('monitor');
    one.eventsStored(5);
    expect(await two.text()).toContain('bigbrotr_events_stored_total{service="monitor"} 0');
  });

  test('count every stop reason under its word', async () => {
    const metrics = createMetrics('synchronizer');
    for (const reason of STOP_REASONS) metrics.visitStopped(reason);
    const text = await metrics.text();
    const found = [...text.matchAll(/^bigbrotr_visits_stopped_total\{reason="(.*?)",.* 1$/gm)];
    expect(found.map(([, word]) => word)).toEqual([...STOP_REASONS]);
  });

  test('bound the number of label values', async () => {
    const metrics = createMetrics('monitor');
    metrics.relayVisited('spoken by a relay: "}\n');
    metrics.relayVisited('x'.repeat(41));
    for (let index = 0; index < 60; index++) metrics.eventsInvalid(`reason_${index}`);
    metrics.eventsInvalid('reason_0');
    const text = await metrics.text();
    expect(text).toContain('bigbrotr_relays_visited_total{outcome="other",service="monitor"} 2');
    expect(text).toContain('bigbrotr_events_invalid_total{reason="other",service="monitor"} 10');
    expect(text).toContain('bigbrotr_events_invalid_total{reason="reason_0",service="monitor"} 2');
    expect(text.match(/^bigbrotr_events_invalid_total\{/gm)).toHaveLength(51);
  });

  test('are the figures of /health, each under the name of its service', async () => {
    const metrics = createMetrics('synchronizer', {
      visits: 'relays_visited',
      outcomes: { complete: 'relays_complete' },
      stops: { not_stored: 'visits_not_stored' },
    });
    expect(await metrics.counts()).toEqual({});
    metrics.eventsStored(7);
    metrics.sightingsStored(9);
    metrics.eventsInvalid('bad_id', 2);
    metrics.relayVisited('complete');
    metrics.relayVisited('failed');
    metrics.visitStopped('not_stored');
    metrics.visitStopped('timeout');
    metrics.eventPublished('accepted');
    metrics.eventPublished('rate_limited');
    metrics.count({ quarantined: 3, relays_lost: 0 });
    metrics.count({ quarantined: 1, names_forbidden: 2 });
    expect(await metrics.counts()).toEqual({
      events: 7,
      sightings: 9,
      invalid_bad_id: 2,
      relays_visited: 2,
      relays_complete: 1,
      visits_not_stored: 1,
      published: 1,
      publish_rate_limited: 1,
      quarantined: 4,
      names_forbidden: 2,
    });
    expect(await metrics.text()).toContain(
      'bigbrotr_figures_total{figure="quarantined",service="synchronizer"} 4',
    );
  });
});
