import { setTimeout as sleep } from 'node:timers/promises';
import type { Stored } from '../database/bigbrotr.ts';
import type { EventFilter } from '../nostr/filter.ts';
import { isKept } from '../nostr/kinds.ts';
import { type PageEnd, readLive, sizesOf } from '../relay-client/subscription.ts';
import { crashPoint } from '../telemetry/crash-point.ts';
import { EVERY_EVENT } from './event-intake.ts';
import type { Visit } from './visit.ts';

/** Unusable events allowed from a followed relay, plus one for each usable event. */
const MAX_JUNK_LIVE_EVENTS = 1000;
/** Wait after a batch of live events, in milliseconds: a transaction for each event would be expensive. */
const LIVE_BATCH_MS = 250;

/**
 * Keeps a live subscription open and archives its events until the relay or the signal ends it. Ephemeral events are
 * dropped. It has no `since`, so that it also brings backdated events. Events that arrive while a batch is stored, and
 * shortly after, form the next batch. It ends when the relay sends too much junk: forged events, repeats, or its whole
 * history because it takes `limit: 0` for no limit.
 *
 * @throws DatabaseError
 */
export async function follow(
  visit: Visit,
  filters: readonly EventFilter[],
  signal: AbortSignal,
): Promise<PageEnd> {
  await visit.pace(signal);
  const requests = filters.map((filter) => ({ ...filter, limit: 0 }));
  const page = readLive(visit.session.connection, requests, signal, { asText: true });
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
      visit.intake.reportInvalid();
      received += lasting.length;
      const useful = usefulIn(visit.stored) - before;
      if (received - useful > MAX_JUNK_LIVE_EVENTS + useful)
        return { type: 'overflow', text: `${useful} of ${received} events were new` };
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

/** Events that were new for this relay: a repeat makes no sighting. */
function usefulIn({ sightings, quarantined }: Stored): number {
  return sightings + quarantined;
}
