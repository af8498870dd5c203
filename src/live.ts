import type { Logger } from 'pino';
import type { RelayUrl } from './relay/url.ts';
import type { RelaySession, Visit } from './visit.ts';

interface Followed {
  readonly session: RelaySession;
  readonly stop: AbortController;
  readonly ended: Promise<void>;
}

/** A connection that is only half there is noticed within twice this, in milliseconds. */
const KEEP_ALIVE_MS = 60_000;

/**
 * The relays of a worker that are caught up and followed: a subscription stays open and what it brings is
 * archived at once. Nothing of it counts as proof; the next visit reads the same stretch over the same connection.
 */
export class LiveRelays {
  readonly #max: number;
  readonly #log: Logger;
  readonly #followed = new Map<RelayUrl, Followed>();

  /** @param max relays followed at a time; further ones are only visited */
  constructor(max: number, log: Logger) {
    this.#max = max;
    this.#log = log;
  }

  get size(): number {
    return this.#followed.size;
  }

  /** The open session of a relay that is followed: one connection a relay. */
  session(url: RelayUrl): RelaySession | null {
    const followed = this.#followed.get(url);
    return followed?.session.connection.isOpen ? followed.session : null;
  }

  /** Follows the relay of a visit that is over, on its connection. @returns whether the connection is kept */
  follow(visit: Visit): boolean {
    const { url } = visit.relay;
    if (this.#followed.get(url)?.session === visit.session) return true;
    const allowed = visit.terms.limitation?.max_subscriptions;
    if (this.#followed.size >= this.#max || !visit.session.connection.isOpen || allowed === 1)
      return false;
    visit.session.connection.keepAlive(KEEP_ALIVE_MS);
    const stop = new AbortController();
    const ended = this.#run(visit, stop.signal).finally(() => {
      if (this.#followed.get(url)?.session === visit.session) this.#followed.delete(url);
      visit.session.connection.close();
    });
    this.#followed.set(url, { session: visit.session, stop, ended });
    return true;
  }

  /** Stops following, with everything stored that had arrived. */
  async close(): Promise<void> {
    const followed = [...this.#followed.values()];
    for (const { stop } of followed) stop.abort();
    await Promise.all(followed.map(({ ended }) => ended));
  }

  async #run(visit: Visit, signal: AbortSignal): Promise<void> {
    const relay = visit.relay.url;
    try {
      const end = await visit.follow(signal);
      this.#log.debug({ relay, end: end.type }, 'no longer followed');
    } catch (err) {
      this.#log.warn({ relay, err }, 'no longer followed: the archive could not be written');
    }
  }
}
