import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import {
  buildHealthApp,
  type HealthOptions,
  type HealthStatus,
  ListenError,
  listenHealth,
} from '../../../src/telemetry/health.ts';
import { RUNNING } from '../../fixtures/health-status.ts';

const running: HealthStatus = {
  ...RUNNING,
  lastRound: {
    startedAt: '2025-01-01T00:00:00.000Z',
    finishedAt: '2025-01-01T00:01:00.000Z',
    seconds: 60,
    relays: 10,
    failed: 1,
    reasons: { timeout: 1 },
  },
  counts: { relays: 10, events: 5000 },
  details: { verifier: 'libsecp256k1' },
};

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

function build(options: Partial<HealthOptions> = {}) {
  const app = buildHealthApp({
    service: 'monitor',
    status: () => running,
    metrics: async () => 'bigbrotr_rounds_total 1\n',
    ...options,
  });
  closing.push(() => app.close());
  return app;
}
const withStatus = (change: Partial<HealthStatus>) =>
  build({ status: () => ({ ...running, ...change }) });

describe('GET /health', () => {
  test('returns the whole status', async () => {
    const response = await build().inject('/health');
    expect(response.statusCode).toBe(200);
    expect(response.json()).toEqual({ service: 'monitor', ...running });
    expect(response.headers['content-type']).toMatch(/^application\/json/);
    expect(response.headers['cache-control']).toBe('no-store');
  });

  test.each<[number, Partial<HealthStatus>]>([
    [200, { state: 'waiting' }],
    [200, { tor: 'down' }],
    [200, { network: 'down' }],
    [503, { network: 'down', waitsForNetwork: 12 }],
    [200, { lastRound: null }],
    [503, { state: 'starting', ready: false }],
    [503, { storing: 'fails' }],
    [503, { ready: false }],
    [503, { database: 'down' }],
    [503, { state: 'stopping' }],
  ])('is %i with %o, and so is /ready', async (code, change) => {
    const app = withStatus(change);
    const health = await app.inject('/health');
    const ready = await app.inject('/ready');
    expect([health.statusCode, ready.statusCode]).toEqual([code, code]);
    expect(health.json()).toMatchObject(change);
    expect(ready.json()).toEqual({ service: 'monitor', ready: code === 200 });
  });

  test('follows the status of the service', async () => {
    let database: 'up' | 'down' = 'up';
    const app = build({ status: () => ({ ...running, database }) });
    const codes = [];
    for (const state of ['up', 'down', 'up'] as const) {
      database = state;
      codes.push((await app.inject('/health')).statusCode);
    }
    expect(codes).toEqual([200, 503, 200]);
  });

  test('answers HEAD as well', async () => {
    const response = await withStatus({ ready: false }).inject({ method: 'HEAD', url: '/health' });
    expect([response.statusCode, response.body]).toEqual([503, '']);
  });
});

test('GET /metrics returns the text of Prometheus', async () => {
  const response = await build().inject('/metrics');
  expect(response.statusCode).toBe(200);
  expect(response.headers['content-type']).toBe('text/plain; version=0.0.4; charset=utf-8');
  expect(response.body).toBe('bigbrotr_rounds_total 1\n');
});

describe('anything else', () => {
  test.each(['/', '/healthz', '/health/x', '/..%2fhealth', '/metrics.php'])('%s', async (url) => {
    const response = await build().inject(url);
    expect(response.statusCode).toBe(404);
    expect(response.json()).toEqual({
      error: 'not found: GET /health, /ready and /metrics are here',
    });
  });

  test.each(['POST', 'PUT', 'DELETE'] as const)('%s /health', async (method) => {
    expect((await build().inject({ method, url: '/health' })).statusCode).toBe(404);
  });

  test('a malformed path or body is a bad request, with no internals in the answer', async () => {
    const path = await build().inject('/%zz');
    expect([path.statusCode, path.json()]).toEqual([400, { error: 'bad request' }]);
    const body = await build().inject({
      method: 'POST',
      url: '/health',
      headers: { 'content-type': 'application/json' },
      payload: 'x'.repeat(5000),
    });
    expect(body.statusCode).toBeGreaterThanOrEqual(400);
    expect(body.body).not.toMatch(/stack|node_modules|FST_/);
  });

  test('an internal error is not shown to the client', async () => {
    const heard: unknown[] = [];
    const error = new Error('password hunter2');
    const app = build({
      status: () => {
        throw error;
      },
      metrics: () => Promise.reject(error),
      onError: (seen) => heard.push(seen),
    });
    for (const url of ['/health', '/ready', '/metrics']) {
      const response = await app.inject(url);
      expect(response.statusCode).toBe(500);
      expect(response.json()).toEqual({ error: 'internal error' });
    }
    expect(heard).toEqual([error, error, error]);
  });
});

describe('listening', () => {
  test('answers on the address that it returns', async () => {
    const { address, port } = await listenHealth(build(), { host: '127.0.0.1', port: 0 });
    const response = await fetch(`http://${address}:${port}/health`);
    expect(response.status).toBe(200);
    expect(await response.json()).toMatchObject({ service: 'monitor' });
  });

  test('a port in use is reported in one sentence', async () => {
    const { port } = await listenHealth(build(), { host: '127.0.0.1', port: 0 });
    const portVariable = 'MONITOR_HEALTH_PORT';
    const second = listenHealth(build(), { host: '127.0.0.1', port, portVariable });
    await expect(second).rejects.toThrow(ListenError);
    await expect(second).rejects.toThrow(
      `Port ${port} on 127.0.0.1 is in use by another program: stop it, or set MONITOR_HEALTH_PORT to a free port.`,
    );
  });

  test('an address of another machine names HEALTH_HOST', async () => {
    const wrong = listenHealth(build(), { host: '192.0.2.1', port: 0 });
    await expect(wrong).rejects.toThrow(/cannot listen on 192.0.2.1:0 .* set HEALTH_HOST/);
  });

  test('closing does not wait for open connections', async () => {
    const app = build();
    const { port } = await listenHealth(app, { host: '127.0.0.1', port: 0 });
    const idle = connect(port, '127.0.0.1');
    const kept = connect(port, '127.0.0.1');
    kept.write('GET /health HTTP/1.1\r\nhost: x\r\nconnection: keep-alive\r\n\r\n');
    const [answer] = await once(kept, 'data');
    expect(`${answer}`).toMatch(/^HTTP\/1.1 200 OK/);
    const ends = Promise.all([once(idle, 'close'), once(kept, 'close')]);
    idle.on('error', () => undefined);
    kept.on('error', () => undefined);
    await app.close();
    await ends;
    const again = createServer();
    closing.push(() => new Promise((resolve) => again.close(resolve)));
    again.listen(port, '127.0.0.1');
    await once(again, 'listening');
  });
});
