import type { NostrEvent } from '../../src/nostr/event.ts';
import type { ReqFilter } from '../../src/nostr/filter.ts';
import { ByteBudget } from '../../src/relay-client/byte-budget.ts';
import type { RelayConnection } from '../../src/relay-client/connection.ts';
import { JunkLimit } from '../../src/relay-client/junk-limit.ts';
import {
  type PageEnd,
  readPage,
  type SubscriptionLimits,
} from '../../src/relay-client/subscription.ts';
import { signedEvents } from '../fixtures/events.ts';
import { connectionTest } from './connection-test.ts';
import type { ScriptedRelay, ScriptedRelayOptions } from './scripted-relay.ts';

/** The events of the relays of these tests. */
export const EVENTS = signedEvents(10, { from: 1000, to: 2000 });

export const LIMITS: SubscriptionLimits = {
  idleTimeoutMs: 60_000, // longer than a test: a page that ends sooner ends for another reason
  totalTimeoutMs: 120_000,
  maxEvents: 10_000,
  maxBytes: 64 * 1024 * 1024,
};

/** Tests that read pages: `visit` starts a relay with `EVENTS` and connects to it, without junk limit by default. */
export const pageTest = connectionTest.extend('visit', ({ startRelay, open }) => {
  return async (
    options: ScriptedRelayOptions = {},
    junkLimit = new JunkLimit(Number.POSITIVE_INFINITY),
    inFlight = new ByteBudget(Number.POSITIVE_INFINITY),
  ): Promise<{ relay: ScriptedRelay; connection: RelayConnection }> => {
    const relay = await startRelay({ events: EVENTS, ...options });
    return { relay, connection: await open(relay.url, { junkLimit, inFlight }) };
  };
});

interface Page {
  readonly events: unknown[];
  readonly end: PageEnd;
}

/** Reads a page to its end. `onStep` is awaited between two steps: a slow reader. */
export async function read(
  connection: RelayConnection,
  options: Partial<SubscriptionLimits> & {
    readonly filter?: ReqFilter;
    readonly signal?: AbortSignal;
    readonly onStep?: (events: unknown[]) => unknown;
  } = {},
): Promise<Page> {
  const { filter = { limit: 500 }, signal, onStep, ...limits } = options;
  const page = readPage(connection, filter, { ...LIMITS, ...limits }, signal);
  const events: unknown[] = [];
  for (;;) {
    const step = await page.next();
    if (step.done) return { events, end: step.value };
    events.push(...step.value);
    await onStep?.(step.value);
  }
}

export const ids = (events: readonly unknown[]) => events.map((event) => (event as NostrEvent).id);

/** The number of CLOSE messages that a relay has received. */
export const closesSeen = ({ messages }: ScriptedRelay) =>
  messages.filter(({ message }) => Array.isArray(message) && message[0] === 'CLOSE').length;
