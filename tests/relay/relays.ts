import { setTimeout as sleep } from 'node:timers/promises';
import { parseRelayUrl, type RelayAddress, type RelayUrl } from '../../src/network/url.ts';
import type { ConnectOptions, RelayConnection } from '../../src/relay-client/connection.ts';

/** The parsed URL of a test's relay. @throws Error for what is no relay URL: the test is wrong then. */
export function relayUrl(text: string): RelayUrl {
  return relayAddress(text).url;
}

export function relayAddress(text: string): RelayAddress {
  const parsed = parseRelayUrl(text);
  if (!parsed.ok) throw new Error(`${text} is no relay URL: ${parsed.reason}`);
  return { url: parsed.url, network: parsed.network };
}

/** The figure once it has not changed for 200 ms. */
export async function whenStill(figure: () => number): Promise<number> {
  for (;;) {
    const before = figure();
    await sleep(200);
    if (figure() === before) return before;
  }
}

/** Counts how often the junk limit stops reading from now on. */
export function throttled(connection: Pick<RelayConnection, 'isThrottled' | 'onReadingChanged'>) {
  let times = 0;
  let was = connection.isThrottled;
  connection.onReadingChanged(() => {
    if (connection.isThrottled && !was) times += 1;
    was = connection.isThrottled;
  });
  return () => times;
}

/** Options for relays on loopback. */
export function local(options: Partial<ConnectOptions> = {}): ConnectOptions {
  return { timeoutMs: 5000, allowPrivate: true, torProxy: null, ...options };
}
