import type { NostrEvent } from '../../src/nostr/event.ts';
import { newestFirst, signedEvent, signedEvents } from '../fixtures/events.ts';

/** Where the relay of this test answers, as the containers see it: a whole archive and a priority relay. */
export const RELAY_PORT = 7777;
export const RELAY_URL = `ws://relay.test:${RELAY_PORT}`;
export const PRIORITY_RELAY_URL = `ws://relay.test:${RELAY_PORT}/priority`;

/** It answers there too, and nobody is told but by one of its events. */
export const FOUND_RELAY_URL = `ws://relay.test:${RELAY_PORT}/found`;

/** What the relay holds: the same in its container and in the test. */
export function relayEvents(): NostrEvent[] {
  const relayList = signedEvent({
    created_at: 1_700_300_000,
    kind: 10_002,
    tags: [['r', FOUND_RELAY_URL]],
  });
  const others = signedEvents(700, {
    from: 1_700_000_000,
    to: 1_700_600_000,
    seed: 8,
    kinds: [1, 7, 30_023],
  });
  return [relayList, ...others].sort(newestFirst);
}
