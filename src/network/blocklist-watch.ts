import { setMaxListeners } from 'node:events';
import { type Blocklist, READ_AGAIN_MS, readBlocklist } from './blocklist.ts';
import type { RelayUrl } from './url.ts';

/** Ends what is under way at a relay when the blocklist comes to name it: a visit, a check, a live subscription. */
export class BlocklistWatch {
  readonly #path: string | null;
  readonly #onBlocked = new Map<RelayUrl, Set<() => void>>();
  readonly #timer: NodeJS.Timeout | null;
  #blocklist: Blocklist;

  private constructor(path: string | null, blocklist: Blocklist, everyMs: number) {
    this.#path = path;
    this.#blocklist = blocklist;
    this.#timer = path === null ? null : setInterval(() => void this.#read(), everyMs);
    this.#timer?.unref();
  }

  /** @param path null when there is no list. @throws BlocklistError */
  static async start(path: string | null, everyMs = READ_AGAIN_MS): Promise<BlocklistWatch> {
    return new BlocklistWatch(path, await readBlocklist(path), everyMs);
  }

  /** As of the last ten seconds. */
  blocks(url: RelayUrl): boolean {
    return this.#blocklist.blocks(url);
  }

  /** Calls back once when the relay is blocked, at once if it is. @returns a function that ends this */
  onBlocked(url: RelayUrl, callback: () => void): () => void {
    if (this.#blocklist.blocks(url)) {
      callback();
      return () => {};
    }
    const callbacks = this.#onBlocked.get(url) ?? new Set();
    this.#onBlocked.set(url, callbacks.add(callback));
    return () => {
      callbacks.delete(callback);
      if (callbacks.size === 0 && this.#onBlocked.get(url) === callbacks)
        this.#onBlocked.delete(url);
    };
  }

  /** Does work at a relay with a signal that aborts with the given one, and when the relay is blocked. */
  async run<T>(
    url: RelayUrl,
    signal: AbortSignal,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const stop = new AbortController();
    setMaxListeners(0, stop.signal);
    const onAbort = () => stop.abort(signal.reason);
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
    const release = this.onBlocked(url, () =>
      stop.abort(new DOMException(`${url} was put on the blocklist`, 'AbortError')),
    );
    try {
      return await work(stop.signal);
    } finally {
      release();
      signal.removeEventListener('abort', onAbort);
    }
  }

  close(): void {
    if (this.#timer) clearInterval(this.#timer);
  }

  /** A list that cannot be read ends the service, where relays are looked up. */
  async #read(): Promise<void> {
    try {
      this.#blocklist = await readBlocklist(this.#path);
    } catch {
      return;
    }
    for (const [url, callbacks] of this.#onBlocked) {
      if (!this.#blocklist.blocks(url)) continue;
      this.#onBlocked.delete(url);
      for (const callback of callbacks) callback();
    }
  }
}
