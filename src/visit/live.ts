import type { Logger } from 'pino';
import type { ClientRefusal } from '../nostr/message.ts';
import { afterVisit, mannersOf } from '../relay/manners.ts';
import type { RelayUrl } from '../relay/url.ts';
import { follow } from './follow.ts';
import type { RelaySession, Visit } from './visit.ts';

export interface LiveOptions {
  /** Relays followed at a time; further ones are only visited. */
  readonly max: number;
  /** A connection that is only half there is noticed within twice this, in milliseconds. */
  readonly keepAliveMs: number;
  /** A relay that is not visited for so long, in milliseconds, is not ours any more: blocked, or on no list. */
  readonly forgetMs: number;
  readonly log: Logger;
}

interface Followed {
  readonly session: RelaySession;
  readonly stop: AbortController;
  readonly forget: NodeJS.Timeout;
}

/**
 * The relays of a worker that are caught up and followed: a subscription stays open and what it brings is
 * archived at once. Nothing of it counts as proof; the next visit reads the same stretch over the same connection.
 */
export class LiveRelays {
  readonly #options: LiveOptions;
  readonly #followed = new Map<RelayUrl, Followed>();
  /** Those that were let go but whose last events are still being stored are in here too. */
  readonly #running = new Set<Promise<void>>();
  /** Sessions that a visit uses: it closes them, or gives them back. */
  readonly #taken = new WeakSet<RelaySession>();

  constructor(options: LiveOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#followed.size;
  }

  /** The open session of a relay that is followed, for a visit, which ends with `follow` or closes it: one connection a relay. */
  take(url: RelayUrl): RelaySession | null {
    const followed = this.#followed.get(url);
    if (!followed?.session.connection.isOpen) return null;
    followed.forget.refresh();
    this.#taken.add(followed.session);
    return followed.session;
  }

  /**
   * Follows the relay of a visit that is over, on its connection.
   *
   * @param caughtUp whether the visit has read what was missing; one that is followed already stays so without it
   * @returns whether the connection is kept
   */
  follow(visit: Visit, caughtUp: boolean): boolean {
    const { relay, session, terms } = visit;
    this.#taken.delete(session);
    if (this.#followed.get(relay.url)?.session === session) return true;
    const { max, keepAliveMs, forgetMs } = this.#options;
    if (!caughtUp || this.#followed.size >= max || !session.connection.isOpen) return false;
    if (visit.liveFilters?.length === 0) return false; // it refuses them all, or is asked with too many
    if (terms.limitation?.max_subscriptions === 1) return false; // that one is for visits
    session.connection.keepAlive(keepAliveMs);
    const stop = new AbortController();
    const forget = setTimeout(() => stop.abort(), forgetMs);
    this.#followed.set(relay.url, { session, stop, forget });
    const running = this.#run(visit, stop.signal).finally(() => {
      clearTimeout(forget);
      this.#running.delete(running);
      if (this.#followed.get(relay.url)?.session === session) this.#followed.delete(relay.url);
      if (!this.#taken.has(session)) session.connection.close();
    });
    this.#running.add(running);
    return true;
  }

  /** Stops following, with everything stored that had arrived. */
  async close(): Promise<void> {
    for (const { stop } of this.#followed.values()) stop.abort();
    await Promise.all(this.#running);
  }

  async #run(visit: Visit, signal: AbortSignal): Promise<void> {
    const relay = visit.relay.url;
    const nothing = { events: 0, sightings: 0, quarantined: 0, invalid: {} };
    try {
      visit.context.onProgress({ ...nothing, followed: visit.relay.relayId });
      const end = await follow(visit, signal);
      this.#options.log.debug({ relay, end }, 'no longer followed');
      const refusal = end.type === 'disconnected' ? end.refusal : undefined;
      // Following is optional: only a rate limit concerns visits too.
      if (refusal === 'rate_limited' && !this.#taken.has(visit.session))
        await this.#pause(visit, refusal);
    } catch (err) {
      this.#options.log.warn(
        { relay, err },
        'no longer followed: the archive could not be written',
      );
      visit.context.onProgress({ ...nothing, unfollowed: visit.relay.relayId });
    }
  }

  /** The relay ended the connection with a refusal in the close frame: the next visit waits. */
  async #pause({ relay, context }: Visit, refusal: ClientRefusal): Promise<void> {
    const manners = mannersOf(await context.bigbrotr.relayTerms(relay));
    await context.bigbrotr.setManners(relay, afterVisit(manners, refusal, context.now()));
  }
}
