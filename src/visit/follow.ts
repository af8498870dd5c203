import { setTimeout as sleep } from 'node:timers/promises';
import type { Stored } from '../bigbrotr.ts';
import { crashPoint } from '../crash-point.ts';
import { isKept } from '../nostr/kinds.ts';
import { type PageEnd, readLive, sizesOf } from '../relay/subscription.ts';
import { EVERY_EVENT } from './event-intake.ts';
import type { Visit } from './visit.ts';

/** A relay that is followed may send so many events that are of no use, and one more for each that is. */
const MAX_USELESS_LIVE_EVENTS = 1000;
/** So long after a batch of live events the next one begins, in milliseconds: a transaction for each event is dear. */
const LIVE_BATCH_MS = 250;

/**
 * Keeps a subscription open and archives what it brings as it comes, until the relay or the signal ends it.
 * Ephemeral events are let go: they are no history. It has no `since`, so that what the relay receives late is heard of
 * as well. What arrives while a batch is stored, and shortly after it, makes the next one. A relay that sends too much
 * of no use is let go: forged events, repeats, or all that it has because it takes `limit: 0` for no limit.
 *
 * @throws DatabaseError
 */
export async function follow(visit: Visit, signal: AbortSignal): Promise<PageEnd> {
  await visit.pace(signal);
  const filters = visit.liveFilters ?? [visit.context.filter];
  const requests = filters.map((filter) => ({ ...filter, limit: 0 }));
  const page = readLive(visit.session.connection, requests, signal);
  const before = usefulIn(visit.stored);
  let received = 0;
  try {
    for (;;) {
      const step = await page.next();
      if (step.done) return step.value;
      const { lasting, sizes } = withoutEphemeral(step.value);
      await visit.intake.receive(lasting, sizes, EVERY_EVENT);
      if (lasting.length > 0) crashPoint('live-batch', visit.relay.url);
      await visit.writer.flush();
      visit.intake.beginAnswer();
      visit.intake.tellInvalid();
      received += lasting.length;
      const useful = usefulIn(visit.stored) - before;
      if (received - useful > MAX_USELESS_LIVE_EVENTS + useful)
        return { type: 'overflow', text: `${received} events, of use ${useful}` };
      await sleep(LIVE_BATCH_MS, undefined, { signal }).catch(() => {});
    }
  } finally {
    await page.return({ type: 'aborted' });
  }
}

/** The events of a step that are no ephemeral ones, and the size of each. */
function withoutEphemeral(step: readonly unknown[]) {
  const sizes = sizesOf(step);
  const lasting: unknown[] = [];
  const sizesOfLasting: number[] = [];
  for (const [index, value] of step.entries()) {
    if (isEphemeral(value)) continue;
    lasting.push(value);
    sizesOfLasting.push(sizes[index] ?? 0);
  }
  return { lasting, sizes: sizesOfLasting };
}

/** Kinds that relays are not expected to store (NIP-01), the monitor's own test event among them. */
function isEphemeral(value: unknown): boolean {
  const kind = typeof value === 'object' && value !== null && 'kind' in value ? value.kind : null;
  return typeof kind === 'number' && !isKept(kind);
}

/** Events that told us something: of ones that we know the relay to hold there is no new sighting. */
function usefulIn({ sightings, quarantined }: Stored): number {
  return sightings + quarantined;
}
