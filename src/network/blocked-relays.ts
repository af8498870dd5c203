import type { Logger } from 'pino';
import { type Blocklist, READ_AGAIN_MS, readBlocklist } from './blocklist.ts';
import type { RelayUrl } from './url.ts';

/** The blocklist for queries on the archive: read again every 10 s, with the database keys of blocked relays as they become known. */
export class BlockedRelays {
  readonly #path: string | null;
  #blocklist: Blocklist | null = null;
  #readAt = 0;
  readonly #keys = new Set<number>();
  readonly #log: Pick<Logger, 'info'>;

  /** @param path null when there is no list. @param log says how many entries were read, at first and after a change */
  constructor(path: string | null, log: Pick<Logger, 'info'>) {
    this.#path = path;
    this.#log = log;
  }

  /** Reads the list if that is due. @returns known keys of blocked relays. @throws BlocklistError */
  async read(): Promise<Iterable<number>> {
    const now = performance.now();
    if (!this.#blocklist || now - this.#readAt >= READ_AGAIN_MS) {
      const before = this.#blocklist?.key;
      this.#blocklist = await readBlocklist(this.#path);
      if (this.#path !== null && this.#blocklist.key !== before)
        this.#log.info({ path: this.#path, entries: this.#blocklist.size }, 'blocklist read');
      this.#readAt = now;
      this.#keys.clear();
    }
    return this.#keys;
  }

  /** Returns the relays that are not blocked. Keys of blocked ones are remembered until the list is read again. */
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
