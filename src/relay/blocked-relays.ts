import { type Blocklist, readBlocklist } from './blocklist.ts';
import type { RelayUrl } from './url.ts';

/** The blocklist is read again after this, in milliseconds. */
const READ_AGAIN_MS = 10_000;

/** The blocklist as a look-up in the archive uses it: read again every 10 s, with the keys of relays that it was found to block. */
export class BlockedRelays {
  readonly #path: string | null;
  #blocklist: Blocklist | null = null;
  #readAt = 0;
  readonly #keys = new Set<number>();

  /** @param path null when there is no list */
  constructor(path: string | null) {
    this.#path = path;
  }

  /** Reads the list where that is due. @returns keys of relays that it blocks, as far as known. @throws BlocklistError */
  async read(): Promise<Iterable<number>> {
    const now = performance.now();
    if (!this.#blocklist || now - this.#readAt >= READ_AGAIN_MS) {
      this.#blocklist = await readBlocklist(this.#path);
      this.#readAt = now;
      this.#keys.clear();
    }
    return this.#keys;
  }

  /** Those that are not blocked. The keys of the others are remembered until the list is read again. */
  without<Item extends { readonly relayId: number; readonly url: RelayUrl }>(
    relays: readonly Item[],
  ): Item[] {
    return relays.filter(({ relayId, url }) => {
      const isBlocked = this.#blocklist?.blocks(url) ?? false;
      if (isBlocked) this.#keys.add(relayId);
      return !isBlocked;
    });
  }
}
