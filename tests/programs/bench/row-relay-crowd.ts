import { setTimeout as sleep } from 'node:timers/promises';
import type { Bench } from './bench-run.ts';
import { rssOf } from './cpu.ts';
import { alternate, type Result, rounded, side } from './measure.ts';
import type { Pipeline } from './pipeline.ts';
import { BenchClient } from './relay-client.ts';
import { type RunningRelay, startRelay } from './row-relay.ts';

const CONNECTIONS = 200;
const SUBSCRIPTIONS = 50;
const SLOW = 10;
const FLOODS = 5;
const PAGE = 500;
const PAGES = 100;
const MIN_RATIO = 0.9;

/** What a client keeps of its rate beside 10,000 subscriptions, readers that take nothing, and floods of requests. */
export async function crowdRow({ size }: Bench, archive: Pipeline): Promise<Result> {
  // Clients are told apart by X-Forwarded-For: one address each but for the crowd.
  const relay = await startRelay(archive, { RELAY_TRUSTED_PROXIES: '127.0.0.1' });
  try {
    let client = 0;
    const rate = async () => {
      client += 1;
      const reader = await BenchClient.connect(relay.url, `198.51.100.${client}`);
      const begun = performance.now();
      for (let page = 0; page < PAGES; page++) await reader.page({ limit: PAGE });
      reader.close();
      return PAGES / ((performance.now() - begun) / 1000);
    };
    await rate();
    let most = 0;
    const comparison = await alternate(
      { rounds: size.mode === 'quick' ? 1 : 5, mostSeconds: size.mostSeconds },
      rate,
      async () => {
        const leave = await crowd(relay);
        const withCrowd = await rate();
        most = Math.max(most, rssOf(relay.pid) ?? 0);
        await leave();
        return withCrowd;
      },
    );
    return {
      row: 'relay-crowd',
      what: `pages of ${PAGE} beside ${CONNECTIONS * SUBSCRIPTIONS} subscriptions, ${SLOW} readers that take nothing and ${FLOODS} floods`,
      unit: 'pages/s',
      reference: side('alone', comparison.reference),
      ours: side('beside them', comparison.ours),
      ratio: comparison.ratio,
      goal: `at least ${MIN_RATIO} of the rate alone`,
      met: comparison.ratio >= MIN_RATIO,
      details: { 'highest RSS of the relay, MB': rounded(most) },
    };
  } finally {
    await relay.stop();
  }
}

/** @returns a function that ends all of it */
async function crowd({ url }: RunningRelay): Promise<() => Promise<void>> {
  const clients: BenchClient[] = [];
  for (let place = 0; place < CONNECTIONS; place++) {
    // A thousand messages are allowed at once: twenty connections an address.
    const client = await BenchClient.connect(url, `192.0.2.${Math.floor(place / 20)}`);
    for (let id = 0; id < SUBSCRIPTIONS; id++)
      client.send('REQ', `s${id}`, { kinds: [30_000 + place * SUBSCRIPTIONS + id], limit: 0 });
    clients.push(client);
  }
  for (let place = 0; place < SLOW; place++) {
    const client = await BenchClient.connect(url, `203.0.113.${place}`);
    client.pause();
    client.send('REQ', 'all', { limit: 5000 });
    clients.push(client);
  }
  await sleep(500);
  let isOver = false;
  const floods = Array.from({ length: FLOODS }, async (_, place) => {
    while (!isOver) {
      const client = await BenchClient.connect(url, `203.0.113.${100 + place}`).catch(() => null);
      for (let id = 0; client?.isOpen && !isOver; id++) {
        client.send('REQ', `f${id % 20}`, { kinds: [1], limit: 100 });
        if (id % 20 === 0) await sleep(10);
      }
      client?.close();
      await sleep(100);
    }
  });
  return async () => {
    isOver = true;
    await Promise.all(floods);
    for (const client of clients) client.close();
  };
}
