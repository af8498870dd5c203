import type { Relay } from '../database/bigbrotr.ts';
import type { ClaimKeeper } from '../runtime/claim-keeper.ts';
import type { Ending } from '../runtime/due-loop.ts';
import { endClaim } from '../runtime/service-parts.ts';

export interface HeldRelaysOptions {
  readonly claims: Pick<ClaimKeeper, 'release' | 'lose' | 'holds' | 'onLost'>;
  /** Ends what a worker does with a relay. */
  readonly cancel: (relay: Relay) => void;
  /** Aborts when the service stops: what is given up then is due at once, for whichever process. */
  readonly signal: AbortSignal;
}

/**
 * The relays that this process holds by a claim because it visits or follows them. The claim of a relay that is followed
 * after its visit stays; it is released when neither goes on any more.
 */
export class HeldRelays {
  readonly #options: HeldRelaysOptions;
  readonly #visited = new Map<number, Relay>();
  readonly #followed = new Map<number, { readonly relay: Relay; readonly slot: number }>();
  /** Followed relays that are given up for the other synchronizer. */
  readonly #handedOver = new Set<number>();

  constructor(options: HeldRelaysOptions) {
    this.#options = options;
    options.claims.onLost('visit', (relayId) => {
      const relay = this.#visited.get(relayId) ?? this.#followed.get(relayId)?.relay;
      this.#followed.delete(relayId);
      if (relay) options.cancel(relay);
    });
  }

  visitBegins(relay: Relay): void {
    this.#visited.set(relay.relayId, relay);
  }

  visitEnds(relay: Relay, ending: Ending): void {
    const { relayId } = relay;
    const isKept = this.#followed.has(relayId) && ending !== 'claim_lost';
    if (!isKept) endClaim(this.#options, 'visit', relayId, ending);
    this.#visited.delete(relayId);
    // The claim was lost before the worker began to follow: what ended the visit came too early for that.
    if (this.#followed.has(relayId) && !this.#options.claims.holds('visit', relayId)) {
      this.#followed.delete(relayId);
      this.#options.cancel(relay);
    }
  }

  /** The worker of a slot follows a relay that it visits. */
  followBegins(relayId: number, slot: number): void {
    const relay = this.#visited.get(relayId);
    if (relay) this.#followed.set(relayId, { relay, slot });
  }

  /** Keys of the relays that are followed and not visited now. */
  get followedAlone(): readonly number[] {
    return [...this.#followed.keys()].filter((relayId) => !this.#visited.has(relayId));
  }

  /** Ends the live subscription of a relay that the other synchronizer visits from now on: it is due there at once. */
  handOver(relayId: number): void {
    const followed = this.#followed.get(relayId);
    if (!followed || this.#visited.has(relayId)) return;
    this.#handedOver.add(relayId);
    this.#options.cancel(followed.relay);
  }

  /** A relay is not followed any more; where its events could not be stored, or it was handed over, it is due at once. */
  followEnds(relayId: number, isStored: boolean): void {
    const { claims, signal } = this.#options;
    const isHandedOver = this.#handedOver.delete(relayId);
    if (signal.aborted || !this.#followed.delete(relayId) || this.#visited.has(relayId)) return;
    claims.release('visit', relayId, isStored && !isHandedOver ? 'done' : 'interrupted');
  }

  /** The worker of a slot died: the relays that it followed are due at once. */
  workerDied(slot: number): void {
    for (const [relayId, followed] of this.#followed)
      if (followed.slot === slot) this.followEnds(relayId, false);
  }
}
