/** What /metrics says of the API. */
import { expect, vi } from 'vitest';
import { createMetrics } from '../../../src/telemetry/metrics.ts';
import { ask, apiTest as test } from '../../fixtures/api-test.ts';

const measuredTest = test.extend('measured', async ({ apiWith }) => {
  const { text: metrics, requestAnswered: onAnswered } = createMetrics('api');
  const api = await apiWith({ metrics, onAnswered });
  const series = async (name: string) => {
    const lines = (await metrics()).split('\n').filter((line) => line.startsWith(`${name}{`));
    return Object.fromEntries(lines.map((line) => [...(line.match(/^\S+|\S+$/g) ?? [])]));
  };
  return { api, series };
});

measuredTest(
  'requests are counted by the pattern of their route and status, whatever their paths',
  async ({ measured: { api, series } }) => {
    const id = (place: number) => place.toString(16).padStart(64, '0');
    for (let place = 0; place < 60; place += 1) {
      await ask(api, `/v1/events/${id(place)}`);
      await ask(api, `/v1/relays/wss://relay${place}.example.com/coverage`);
      await ask(api, `/nothing/${place}`);
    }
    await ask(api, '/v1/events?kinds=1');
    await ask(api, '/v1/events?kinds=x');
    await ask(api, '/relays');
    await ask(api, '/');
    await vi.waitFor(async () =>
      expect(await series('bigbrotr_api_requests_total')).toEqual({
        'bigbrotr_api_requests_total{route="/v1/events/:id",status="404",service="api"}': '60',
        'bigbrotr_api_requests_total{route="/v1/relays/:url/coverage",status="404",service="api"}':
          '60',
        'bigbrotr_api_requests_total{route="unknown",status="404",service="api"}': '60',
        'bigbrotr_api_requests_total{route="/v1/events",status="200",service="api"}': '1',
        'bigbrotr_api_requests_total{route="/v1/events",status="400",service="api"}': '1',
        'bigbrotr_api_requests_total{route="page",status="200",service="api"}': '2',
      }),
    );
    const counts = await series('bigbrotr_api_request_duration_seconds_count');
    const ofEvents =
      'bigbrotr_api_request_duration_seconds_count{service="api",route="/v1/events"}';
    expect(counts[ofEvents]).toBe('2');
  },
);
