import { setTimeout as sleep } from 'node:timers/promises';
import { isTransientFailure } from '../runtime/failure.ts';
import type { Service } from '../runtime/service.ts';
import type { HeldRelays } from './held-relays.ts';

/** Interval at which it is seen which followed relays belong to the other synchronizer, in milliseconds. */
const LOOK_MS = 5000;

/**
 * Hands relays over that this synchronizer follows and that came to the priority list, or left it: until they are given up
 * the other one cannot claim them, and a live subscription has no end of its own. A relay that is being visited is handed
 * over after that. Until the service stops.
 *
 * @param priority whether this is the priority synchronizer
 * @throws DatabaseError, but for one that passes
 */
export async function handOverRelays(
  held: HeldRelays,
  priority: boolean,
  { bigbrotr, signal, log }: Pick<Service, 'bigbrotr' | 'signal' | 'log'>,
): Promise<void> {
  while (!signal.aborted) {
    await sleep(LOOK_MS, undefined, { signal }).catch(() => {});
    try {
      for (const relayId of await bigbrotr.relaysWithPriority(held.followedAlone, !priority))
        held.handOver(relayId);
    } catch (error) {
      if (!isTransientFailure(error)) throw error;
      log.debug({ err: error }, 'relays to hand over could not be looked up');
    }
  }
}
