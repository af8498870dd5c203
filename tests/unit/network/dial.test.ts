import type { LookupAddress } from 'node:dns';
import { once } from 'node:events';
import {
  type AddressInfo,
  connect,
  createServer,
  type LookupFunction,
  type Server,
  Socket,
} from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { dial } from '../../../src/network/dial.ts';

const LIVE = '127.0.0.1';
const V6 = (address: string): LookupAddress => ({ address, family: 6 });
const V4 = (address: string): LookupAddress => ({ address, family: 4 });

let server: Server;
let port: number;
const signal = new AbortController();
beforeEach(async () => {
  server = createServer((socket) => socket.on('error', () => {})).listen(0, LIVE);
  await once(server, 'listening');
  port = (server.address() as AddressInfo).port;
});
afterEach(() => server.close());

/** Dials a name with these addresses; those of `kinds` are black holes (no answer), unreachable, or 400 ms away. */
async function attempt(
  addresses: readonly LookupAddress[],
  kinds: Readonly<Record<string, 'dead' | 'unreachable' | 'far'>>,
  options: { timeoutMs?: number; signal?: AbortSignal } = {},
) {
  const opened: Socket[] = [];
  const tried: string[] = [];
  const lookup: LookupFunction = (_host, _options, callback) =>
    process.nextTick(callback, null, [...addresses]);
  const open = ({ address, family }: LookupAddress): Socket => {
    tried.push(address);
    const socket = socketFor(kinds[address], address, family);
    opened.push(socket);
    return socket;
  };
  const outcome = await dial({
    ...{ host: 'relay.example.com', port, lookup, open, timeoutMs: 10_000 },
    ...{ signal: signal.signal, ...options },
  }).then(
    (socket) => ({ address: socket.remoteAddress, socket }),
    (error: NodeJS.ErrnoException) => ({ error }),
  );
  const left = opened.filter(
    (socket) => !socket.destroyed && !('socket' in outcome && outcome.socket === socket),
  );
  if ('socket' in outcome) outcome.socket.destroy();
  return { ...outcome, tried, left: left.length };
}

function socketFor(kind: string | undefined, address: string, family: number): Socket {
  const socket = new Socket();
  if (kind === undefined) return connect({ host: address, family, port });
  if (kind === 'far') setTimeout(() => socket.connect({ host: LIVE, port }), 400);
  if (kind === 'unreachable') {
    const error = Object.assign(new Error('connect ENETUNREACH'), { code: 'ENETUNREACH' });
    process.nextTick(() => socket.destroy(error));
  }
  return socket;
}

describe('dial, to a name with several addresses', () => {
  test.each<[string, LookupAddress[], Parameters<typeof attempt>[1], number]>([
    ['one address', [V4(LIVE)], {}, 1],
    ['no route to IPv6', [V6('2001:db8::1'), V4(LIVE)], { '2001:db8::1': 'unreachable' }, 2],
    ['IPv6 that never answers', [V6('2001:db8::1'), V4(LIVE)], { '2001:db8::1': 'dead' }, 2],
    ['IPv4 that never answers', [V4('192.0.2.1'), V4(LIVE)], { '192.0.2.1': 'dead' }, 2],
    [
      'eight addresses of which the first three never answer',
      [1, 2, 3]
        .map((n) => V4(`192.0.2.${n}`))
        .concat(
          [V4(LIVE)],
          [5, 6, 7, 8].map((n) => V4(`192.0.2.${n}`)),
        ),
      Object.fromEntries([1, 2, 3, 5, 6, 7, 8].map((n) => [`192.0.2.${n}`, 'dead'] as const)),
      4,
    ],
    [
      'addresses of both families by turns',
      [V6('2001:db8::1'), V6('2001:db8::2'), V6('2001:db8::3'), V4(LIVE)],
      { '2001:db8::1': 'dead', '2001:db8::2': 'dead', '2001:db8::3': 'dead' },
      2,
    ],
  ])('connects to the address that answers: %s', async (_what, addresses, kinds, tries) => {
    const result = await attempt(addresses, kinds);
    expect(result).toMatchObject({ address: LIVE, left: 0 });
    expect(result.tried.length).toBeGreaterThanOrEqual(tries);
  });

  test.each([
    ['before', [V4('192.0.2.1'), V6('2001:db8::1')]],
    ['after', [V6('2001:db8::1'), V4('192.0.2.1')]],
  ])('waits for an address 400 ms away that is listed %s a dead one', async (_when, addresses) => {
    const result = await attempt(addresses, { '192.0.2.1': 'far', '2001:db8::1': 'dead' });
    expect(result).toMatchObject({ address: LIVE, left: 0 });
    expect(result.tried).toHaveLength(2);
  });

  test('tries every address in the first half of a short deadline', async () => {
    const addresses = [1, 2, 3, 4, 5].map((n) => V4(`192.0.2.${n}`)).concat([V4(LIVE)]);
    const kinds = Object.fromEntries(
      addresses.slice(0, 5).map(({ address }) => [address, 'dead'] as const),
    );
    expect(await attempt(addresses, kinds, { timeoutMs: 600 })).toMatchObject({ address: LIVE });
  });

  test('throws the most informative error once all have failed', async () => {
    server.close();
    await once(server, 'close');
    const result = await attempt([V6('2001:db8::1'), V4(LIVE)], { '2001:db8::1': 'unreachable' });
    expect(result).toMatchObject({ error: { code: 'ECONNREFUSED' }, left: 0 });
  });

  test('leaves no socket open when it is aborted', async () => {
    const stop = new AbortController();
    const dialled = attempt([V4('192.0.2.1')], { '192.0.2.1': 'dead' }, { signal: stop.signal });
    setTimeout(() => stop.abort(new Error('stopped')), 20);
    expect(await dialled).toMatchObject({ error: { message: 'stopped' }, left: 0 });
  });
});
