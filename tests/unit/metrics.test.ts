import { describe, expect, test } from 'vitest';
import { createMetrics } from '../../src/metrics.ts';
import { STOP_REASONS } from '../../src/relay/stop-reason.ts';

const sampleOf = (text: string, series: string) =>
  text
    .split('\n')
    .find((line) => line.startsWith(`${series} `))
    ?.slice(series.length + 1);

describe('metrics', () => {
  test('count what they are told, under stable names', async () => {
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
    });
  });

  test('include those of the process', async () => {
    const text = await createMetrics('monitor').text();
    expect(text).toMatch(/^process_resident_memory_bytes\{service="monitor"\} \d+/m);
    expect(text).toMatch(/^nodejs_eventloop_lag_seconds\{/m);
  });

  test('of two services do not mix', async () => {
    const one = createMetrics('monitor');
    const two = createMetrics('monitor');
    one.eventsStored(5);
    expect(await two.text()).toContain('bigbrotr_events_stored_total{service="monitor"} 0');
  });

  test('name why visits stopped', async () => {
    const metrics = createMetrics('synchronizer');
    for (const reason of STOP_REASONS) metrics.visitStopped(reason);
    const text = await metrics.text();
    const found = [...text.matchAll(/^bigbrotr_visits_stopped_total\{reason="(.*?)",.* 1$/gm)];
    expect(found.map(([, word]) => word)).toEqual([...STOP_REASONS]);
  });

  test('cannot be flooded with label values', async () => {
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
});
