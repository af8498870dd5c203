import type { Evidence } from '../../database/bigbrotr.ts';
import type { Withheld, WithheldReason } from '../../database/withheld.ts';
import type { Window } from '../../nostr/window.ts';
import { boundsOf, joined, minus } from '../windows.ts';

/** An event that the relay has listed by NIP-77 and that has not arrived; `reason` is from the answer to its request. */
export interface ListedEvent extends Withheld {
  /** Null if no answer came to its end. */
  readonly reason: WithheldReason | null;
}

/** Coverage by pages of seconds in which listed events may lie. */
export interface Deferred {
  readonly windows: readonly Window[];
  readonly evidence: Evidence;
}

/** Maximum number of separate windows; with more they are merged into one. */
const MAX_WINDOWS = 1000;

/** Windows of listed events, joined where they touch. */
export function windowsOfListed(events: readonly Window[]): Window[] {
  const windows = joined(events);
  const bounds = boundsOf(windows);
  return windows.length > MAX_WINDOWS && bounds !== null ? [bounds] : windows;
}

/**
 * Events that a relay has listed in this visit, for the filter that is read now, and that did not arrive. Nothing proves
 * the seconds in which they may lie: what pages prove of these is deferred until the events are settled.
 */
export class ListedIds {
  readonly #events = new Map<string, ListedEvent>();
  #windows: Window[] = [];
  #deferred: Deferred[] = [];

  get isEmpty(): boolean {
    return this.#events.size === 0;
  }

  has(id: string): boolean {
    return this.#events.has(id);
  }

  note(events: readonly ListedEvent[]): void {
    if (events.length === 0) return;
    for (const event of events) this.#events.set(event.id, event);
    this.#windows = windowsOfListed([...this.#events.values()]);
  }

  /** Defers coverage that is not proven yet. @returns what is proven */
  defer<P extends { readonly proven: readonly Window[]; readonly evidence: Evidence }>(
    proof: P,
  ): P {
    if (this.#windows.length === 0 || proof.proven.length === 0) return proof;
    const proven = minus(proof.proven, this.#windows);
    const windows = minus(proof.proven, proven);
    if (windows.length > 0) this.#deferred.push({ windows, evidence: proof.evidence });
    return { ...proof, proven };
  }

  /** Returns all events and deferred coverage, and clears them. */
  take(): { readonly events: readonly ListedEvent[]; readonly deferred: readonly Deferred[] } {
    const taken = { events: [...this.#events.values()], deferred: this.#deferred };
    this.#events.clear();
    this.#windows = [];
    this.#deferred = [];
    return taken;
  }
}
