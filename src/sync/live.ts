/**
 * Live subscriptions of a worker. After a visit that has read what was missing, the connection stays open with a REQ that
 * brings new events, which are archived as they arrive. They prove nothing: the next visit reads the same seconds.
 *
 * States of a relay, and what leads from one to another:
 * - **visited**: it has no live subscription. `follow` at the end of a visit makes it followed, unless the visit did not
 *   catch up, the worker follows `max` relays already, or the relay takes no filter or only one subscription.
 * - **followed**: `follow.ts` stores what arrives. `take` lends the session to a visit.
 * - **taken**: a visit uses the connection while the subscription goes on. `follow` makes it followed again, with other
 *   filters where the visit found that the relay takes others. A visit that fails closes the connection.
 * - **ending**: the relay closed the subscription or the connection, sent too much junk, was not visited for `forgetMs`,
 *   or `close` or `reconnect` was called. Events that have arrived are still stored; then the relay is visited only.
 *
 * Guaranteed: a relay has one connection; a connection is closed once, by the visit that has taken it or here; `close`
 * resolves when everything that has arrived is stored. A refusal of the subscription does not change the relay policy,
 * except for a rate limit. If live events cannot be stored, or our own network failed, the relay is reported as unfollowed
 * and visited at once.
 */
import type { Logger } from 'pino';
import { ClaimLost } from '../database/claims.ts';
import type { BlocklistWatch } from '../network/blocklist-watch.ts';
import { afterVisit, policyOf } from '../network/relay-policy.ts';
import type { RelayUrl } from '../network/url.ts';
import { canonicalFilter, type EventFilter } from '../nostr/filter.ts';
import type { ClientRefusal } from '../nostr/message.ts';
import { follow } from './follow.ts';
import type { RelaySession, Visit } from './visit.ts';

export interface LiveOptions {
  /** Relays followed at a time; further ones are only visited. */
  readonly max: number;
  /** Interval of pings, in milliseconds: a half-open connection is noticed within twice this. */
  readonly keepAliveMs: number;
  /** The subscription ends when the relay was not visited for this long, in milliseconds: it is blocked, or not listed any more. */
  readonly forgetMs: number;
  readonly log: Logger;
  /** A relay that comes to be on it is left at once. */
  readonly blocklist?: Pick<BlocklistWatch, 'onBlocked'>;
}

interface Followed {
  readonly session: RelaySession;
  /** The filters of the subscription. */
  readonly filters: readonly EventFilter[];
  readonly stop: AbortController;
  readonly forget: NodeJS.Timeout;
}

const NOTHING = { events: 0, sightings: 0, quarantined: 0, invalid: {} };

/** The live subscriptions of one worker. */
export class LiveRelays {
  readonly #options: LiveOptions;
  readonly #followed = new Map<string, Followed>();
  /** Subscriptions that run, and those whose last events are still being stored. */
  readonly #running = new Set<Promise<void>>();
  /** Those that are let go because our own network was away. */
  readonly #lost = new WeakSet<Followed>();
  /** Sessions that a visit uses: it closes them, or gives them back. */
  readonly #taken = new WeakSet<RelaySession>();

  constructor(options: LiveOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#followed.size;
  }

  /** The open session of a relay that is followed, for a visit, which ends with `follow` or closes it; null without one. */
  take(url: RelayUrl): RelaySession | null {
    const followed = this.#followed.get(url);
    if (!followed?.session.connection.isOpen || this.#lost.has(followed)) return null;
    followed.forget.refresh();
    this.#taken.add(followed.session);
    return followed.session;
  }

  /**
   * Follows the relay of a visit that is over, on its connection. One that is followed already is followed with other
   * filters from now on, where a visit that got to its end would follow it with others.
   *
   * @param filters those that the relay takes: the wanted one, or parts of it; none where it is not to be followed
   * @param caughtUp whether the visit has read what was missing; one that is followed already stays so without it
   * @returns whether the connection is kept
   */
  follow(visit: Visit, filters: readonly EventFilter[], caughtUp: boolean): boolean {
    const { relay, session, terms } = visit;
    this.#taken.delete(session);
    const before = this.#followed.get(relay.url);
    if (before?.session === session) {
      if (caughtUp && filters.length > 0 && !areSame(filters, before.filters)) {
        this.#begin(visit, filters);
        this.#end(before);
      }
      return true;
    }
    const { max, keepAliveMs } = this.#options;
    if (!caughtUp || this.#followed.size >= max || !session.connection.isOpen) return false;
    if (filters.length === 0) return false; // it refuses them all, or is asked with too many
    if (terms.limitation?.max_subscriptions === 1) return false; // that one is for visits
    session.connection.keepAlive(keepAliveMs);
    this.#begin(visit, filters);
    return true;
  }

  #begin(visit: Visit, filters: readonly EventFilter[]): void {
    const { relay, session } = visit;
    const stop = new AbortController();
    const forget = setTimeout(() => stop.abort(), this.#options.forgetMs);
    const release = this.#options.blocklist?.onBlocked(relay.url, () => stop.abort());
    const followed: Followed = { session, filters, stop, forget };
    this.#followed.set(relay.url, followed);
    const running = this.#run(visit, filters, stop.signal).finally(() => {
      clearTimeout(forget);
      release?.();
      this.#running.delete(running);
      if (this.#followed.get(relay.url) !== followed) return; // it is followed with other filters
      this.#followed.delete(relay.url);
      if (!this.#taken.has(session)) session.connection.close();
      const { relayId } = relay;
      const end = this.#lost.has(followed) ? { unfollowed: relayId } : { followEnded: relayId };
      visit.context.onProgress({ ...NOTHING, ...end });
    });
    this.#running.add(running);
  }

  #end({ stop, forget }: Followed): void {
    clearTimeout(forget);
    stop.abort();
  }

  /** Ends the subscription of a relay that another process may hold now, and closes the connection before all is stored. */
  drop(url: string): void {
    const followed = this.#followed.get(url);
    followed?.stop.abort();
    followed?.session.connection.close();
  }

  /** Ends all subscriptions; each relay is to be visited at once over a new connection. */
  reconnect(): void {
    for (const followed of this.#followed.values()) {
      this.#lost.add(followed);
      followed.stop.abort();
    }
  }

  /** Ends all subscriptions. Resolves when everything that has arrived is stored. */
  async close(): Promise<void> {
    for (const { stop } of this.#followed.values()) stop.abort();
    await Promise.all(this.#running);
  }

  async #run(visit: Visit, filters: readonly EventFilter[], signal: AbortSignal): Promise<void> {
    const relay = visit.relay.url;
    try {
      visit.context.onProgress({ ...NOTHING, followed: visit.relay.relayId });
      const end = await follow(visit, filters, signal);
      this.#options.log.debug({ relay, end }, 'no longer followed');
      const refusal = end.type === 'disconnected' ? end.refusal : undefined;
      // Following is optional: only a rate limit concerns visits too.
      if (refusal === 'rate_limited' && !this.#taken.has(visit.session))
        await this.#pause(visit, refusal);
    } catch (err) {
      if (err instanceof ClaimLost) return;
      this.#options.log.warn(
        { relay, err },
        'no longer followed: the archive could not be written',
      );
      const followed = this.#followed.get(relay);
      if (followed) this.#lost.add(followed);
    }
  }

  /** The relay ended the connection with a refusal in the close frame: the next visit waits. */
  async #pause({ relay, context }: Visit, refusal: ClientRefusal): Promise<void> {
    const policy = policyOf(await context.bigbrotr.relayTerms(relay));
    await context.bigbrotr.setRelayPolicy(relay, afterVisit(policy, refusal, context.now()));
  }
}

function areSame(a: readonly EventFilter[], b: readonly EventFilter[]): boolean {
  const texts = (filters: readonly EventFilter[]) => filters.map(canonicalFilter).sort().join();
  return texts(a) === texts(b);
}
