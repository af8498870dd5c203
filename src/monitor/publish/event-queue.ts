import { isAddressableKind } from 'nostr-tools/kinds';
import type { NostrEvent } from '../../nostr/event.ts';

/** Bounds of the queue of one relay, in events and in characters of their content: the oldest event is dropped. */
const MAX_WAITING = 20_000;
const MAX_WAITING_LENGTH = 32 * 1024 * 1024;

/** Events that wait for one relay, the newest of each address (NIP-01). */
export class EventQueue {
  readonly #waiting = new Map<string, NostrEvent>();
  #length = 0;

  get size(): number {
    return this.#waiting.size;
  }

  get oldest(): NostrEvent | undefined {
    return this.#waiting.values().next().value;
  }

  /** Adds an event in the place of one with its address. @returns how many others were dropped */
  add(event: NostrEvent): number {
    const address = addressOf(event);
    this.#removeAt(address); // a map keeps the position of a key that is set again
    this.#waiting.set(address, event);
    this.#length += event.content.length;
    let dropped = 0;
    for (const oldest of this.#waiting.keys()) {
      if (this.#waiting.size <= MAX_WAITING && this.#length <= MAX_WAITING_LENGTH) break;
      this.#removeAt(oldest);
      dropped += 1;
    }
    return dropped;
  }

  /** Removes an event, but not one that has replaced it. */
  remove(event: NostrEvent): void {
    const address = addressOf(event);
    if (this.#waiting.get(address) === event) this.#removeAt(address);
  }

  #removeAt(address: string): void {
    this.#length -= this.#waiting.get(address)?.content.length ?? 0;
    this.#waiting.delete(address);
  }
}

function addressOf({ kind, tags }: NostrEvent): string {
  const d = isAddressableKind(kind) ? tags.find(([name]) => name === 'd')?.[1] : undefined;
  return `${kind}:${d ?? ''}`;
}
