import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { getPublicKey, verifyEvent } from 'nostr-tools/pure';
import { pino } from 'pino';
import { expect, test as plainTest, vi } from 'vitest';
import { type StateChange, Webhooks } from '../../../src/monitor/publish/webhooks.ts';
import type { RelayUrl } from '../../../src/network/url.ts';

const SECRET_KEY = new Uint8Array(32).fill(7);
const RELAY = 'wss://relay.example.com' as RelayUrl;
const OTHER = 'wss://other.example.com' as RelayUrl;
const DOWN: StateChange = { state: 'down', since: 1_764_532_800, reason: 'timeout' };
const UP: StateChange = { state: 'up', since: 1_764_536_400, reason: null };

interface Call {
  readonly path: string;
  readonly authorization: string;
  readonly body: string;
}

/** An HTTP server that takes calls, and answers each path with the statuses that it is told, the last of them for ever. */
const test = plainTest
  .extend('server', async ({ task: _task }, { onCleanup }) => {
    const calls: Call[] = [];
    const statuses: Record<string, number[]> = {};
    const server = createServer(async (request: IncomingMessage, response) => {
      let body = '';
      for await (const chunk of request) body += chunk;
      const path = request.url ?? '';
      const left = statuses[path] ?? [204];
      const status = (left.length > 1 ? left.shift() : left[0]) ?? 204;
      calls.push({ path, authorization: request.headers.authorization ?? '', body });
      response.writeHead(status, status === 302 ? { location: '/elsewhere' } : {}).end('thanks');
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    onCleanup(() => {
      server.closeAllConnections();
      server.close();
    });
    const { port } = server.address() as AddressInfo;
    return { calls, statuses, at: (path: string) => `http://127.0.0.1:${port}${path}` };
  })
  .extend('outcomes', (): string[] => [])
  .extend('start', ({ server, outcomes }, { onCleanup }) => {
    const all: Webhooks[] = [];
    onCleanup(async () => {
      for (const webhooks of all) await webhooks.stop();
    });
    return (pausesMs: readonly number[], pairs: readonly (readonly [RelayUrl, string])[]) => {
      const webhooks = new Webhooks({
        webhooks: pairs.map(([relay, path]) => ({ relay, url: server.at(path) })),
        secretKey: SECRET_KEY,
        onOutcome: (outcome) => outcomes.push(outcome),
        log: pino({ level: 'silent' }),
        pausesMs,
      });
      all.push(webhooks);
      return webhooks;
    };
  });

test('tell everybody who asked for a relay, signed by NIP-98', async ({
  server,
  start,
  outcomes,
}) => {
  const webhooks = start(
    [],
    [
      [RELAY, '/one'],
      [OTHER, '/other'],
      [RELAY, '/two'],
    ],
  );
  expect([
    webhooks.isWatched(RELAY),
    webhooks.isWatched('wss://third.example.com' as RelayUrl),
  ]).toEqual([...[true, false]]);
  webhooks.report(RELAY, DOWN);
  await webhooks.flush(10_000);
  expect(outcomes).toEqual(['delivered', 'delivered']);
  expect(server.calls.map(({ path }) => path).sort()).toEqual(['/one', '/two']);
  for (const { path, authorization, body } of server.calls) {
    expect(JSON.parse(body)).toEqual({ relay: RELAY, ...DOWN });
    const event = JSON.parse(
      Buffer.from(authorization.replace(/^Nostr /, ''), 'base64').toString(),
    );
    expect(verifyEvent(event)).toBe(true);
    expect(event).toMatchObject({ kind: 27_235, pubkey: getPublicKey(SECRET_KEY) });
    expect(Object.fromEntries(event.tags)).toEqual({
      u: server.at(path),
      method: 'POST',
      payload: createHash('sha256').update(body).digest('hex'),
    });
  }
});

test('are called again until they succeed, and given up after the last try', async ({
  server,
  start,
  outcomes,
}) => {
  server.statuses['/late'] = [500, 302, 200];
  server.statuses['/never'] = [503];
  const webhooks = start(
    [1, 1, 1],
    [
      [RELAY, '/late'],
      [OTHER, '/never'],
    ],
  );
  webhooks.report(RELAY, DOWN);
  await webhooks.flush(10_000);
  webhooks.report(OTHER, DOWN);
  await webhooks.flush(10_000);
  expect(outcomes).toEqual(['delivered', 'failed']);
  const paths = server.calls.map(({ path }) => path);
  expect(paths).toEqual([...Array(3).fill('/late'), ...Array(4).fill('/never')]);
});

test('drop what is not delivered yet for a newer change, and everything at a stop', async ({
  server,
  start,
  outcomes,
}) => {
  server.statuses['/hook'] = [500, 204];
  const webhooks = start([3_600_000], [[RELAY, '/hook']]);
  webhooks.report(RELAY, DOWN);
  await vi.waitFor(() => expect(server.calls).toHaveLength(1));
  webhooks.report(RELAY, UP);
  await webhooks.flush(10_000);
  expect(outcomes).toEqual(['replaced', 'delivered']);
  expect(server.calls.map(({ body }) => JSON.parse(body).state)).toEqual(['down', 'up']);
  server.statuses['/hook'] = [500];
  webhooks.report(RELAY, DOWN);
  await vi.waitFor(() => expect(server.calls).toHaveLength(3));
  await webhooks.stop();
  webhooks.report(RELAY, UP);
  await webhooks.flush(1000);
  expect(server.calls).toHaveLength(3);
  expect(outcomes).toHaveLength(2);
});
