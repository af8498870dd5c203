import { pino } from 'pino';
import { afterEach, expect, test } from 'vitest';
import { TorStatus } from '../../../src/runtime/tor-status.ts';
import { type SocksProxy, startSocksProxy } from '../../network/socks-proxy.ts';

let proxy: SocksProxy | null = null;
const stopping = new AbortController();
afterEach(async () => {
  await proxy?.close();
});

test('every service sees a Tor without circuits, also one that visits no onion relay, and sees it again with them', async () => {
  let hasCircuits = false;
  // 1: general failure, which is no answer of the Tor network; 4: host unreachable, which only it can give.
  proxy = await startSocksProxy({ refusal: () => (hasCircuits ? 4 : 1) });
  const { host, port } = proxy;
  const silent = pino({ level: 'silent' });
  const services = [0, 1, 2].map(() => new TorStatus({ host, port }, silent));
  const shown = async (word: string) => {
    for (;;) {
      await Promise.all(services.map((service) => service.check(stopping.signal)));
      if (services.every((service) => service.shown === word)) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  };
  await shown('no_circuit');
  hasCircuits = true;
  await shown('up');
  expect(services.map(({ isDown }) => isDown)).toEqual([false, false, false]);
});
