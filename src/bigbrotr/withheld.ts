import { NOW, type Query } from '../database.ts';
import type { Window } from '../nostr/filter.ts';
import type { Relay } from './batch.ts';

/** The part of `Bigbrotr` that remembers the events that relays list (NIP-77) and do not serve. */

/** Why an event is withheld: EOSE without it, or CLOSED and what that says. */
export type WithheldReason = 'not_served' | 'auth_required' | 'restricted' | 'refused';

/** An event that a relay lists and does not serve: it was created in one of the seconds of its window. */
export interface Withheld extends Window {
  readonly id: string;
}

/** The withheld events of one relay, as one filter finds them. */
export interface WithheldOf {
  readonly relay: Relay;
  readonly filterId: number;
}

/** Rows of one statement. */
const ROWS_AT_A_TIME = 10_000;
const DAY = 86_400;
const LONGEST_DELAY_DAYS = 30;
/** A time to try again further ahead than the longest delay, in seconds, was noted while the clock was wrong. */
const FURTHEST_AHEAD = (LONGEST_DELAY_DAYS + 1) * DAY;
const COLUMNS = `encode(id, 'hex') as id, lower(stretch) as since, upper(stretch) - 1 as until`;

type Row = Withheld & Record<string, unknown>;

export class WithheldArchive {
  readonly #query: Query;

  constructor(query: Query) {
    this.#query = query;
  }

  /** How many there are. */
  async count({ relay, filterId }: WithheldOf): Promise<number> {
    const { rows } = await this.#query<{ count: number }>(
      'select count(*) as count from withheld where relay_id = $1 and filter_id = $2',
      [relay.relayId, filterId],
    );
    return rows[0]?.count ?? 0;
  }

  /**
   * How many different ones there are in a window, of this filter and of the parts that the relay is asked with, when
   * those that it has shown meanwhile are forgotten.
   */
  async countUnseen(key: WithheldOf, window: Window): Promise<number> {
    if ((await this.#countWithParts(key, window)) === 0) return 0;
    await this.#forgetSighted(key);
    return this.#countWithParts(key, window);
  }

  /** Those that may lie in a window, a bounded number at a time. */
  async *in({ relay, filterId }: WithheldOf, window: Window): AsyncGenerator<Withheld[]> {
    for (let after = '', seen = ROWS_AT_A_TIME; seen === ROWS_AT_A_TIME; ) {
      const { rows }: { rows: Row[] } = await this.#query<Row>(
        `select ${COLUMNS} from withheld
         where relay_id = $1 and filter_id = $2 and withheld.id > decode($5, 'hex')
             and stretch && int8range($3, $4::bigint + 1)
         order by withheld.id limit $6`,
        [relay.relayId, filterId, window.since, window.until, after, ROWS_AT_A_TIME],
      );
      if (rows.length > 0) yield rows;
      after = rows.at(-1)?.id ?? '';
      seen = rows.length;
    }
  }

  /** Those of these ids, in hex, that are withheld. */
  async among({ relay, filterId }: WithheldOf, ids: readonly string[]): Promise<Withheld[]> {
    if (ids.length === 0) return [];
    const { rows } = await this.#query<Row>(
      `select ${COLUMNS} from withheld
       where relay_id = $1 and filter_id = $2
           and withheld.id in (select decode(t.id, 'hex') from unnest($3::text[]) as t (id))`,
      [relay.relayId, filterId, ids],
    );
    return rows;
  }

  /** Those that are to be asked for again; after an authentication also those that were last asked for without one. */
  async due(
    { relay, filterId }: WithheldOf,
    isAuthenticated: boolean,
    limit: number,
  ): Promise<Withheld[]> {
    const { rows } = await this.#query<Row>(
      `select ${COLUMNS} from withheld
       where relay_id = $1 and filter_id = $2
           and (next_try_at <= ${NOW} or next_try_at > ${NOW} + ${FURTHEST_AHEAD} or ($3 and not authenticated))
       order by next_try_at, withheld.id limit $4`,
      [relay.relayId, filterId, isAuthenticated, limit],
    );
    return rows;
  }

  /**
   * Notes that these were asked for in vain: the first time they are asked for again at the next visit, then after a
   * delay that doubles from one day to 30.
   */
  async note(
    { relay, filterId }: WithheldOf,
    withheld: readonly (Withheld & { readonly reason: WithheldReason })[],
    isAuthenticated: boolean,
  ): Promise<void> {
    const sorted = [...withheld].sort((a, b) => (a.id < b.id ? -1 : 1));
    await this.#query(
      `insert into withheld
           (relay_id, filter_id, id, stretch, reason, first_at, last_at, next_try_at, authenticated)
       select $1, $2, decode(t.id, 'hex'), int8range(t.since, t.until, '[]'), t.reason, ${NOW}, ${NOW}, ${NOW}, $7
       from unnest($3::text[], $4::bigint[], $5::bigint[], $6::text[]) as t (id, since, until, reason)
       on conflict (relay_id, filter_id, id) do update
       set stretch = excluded.stretch, reason = excluded.reason, last_at = excluded.last_at,
           tries = withheld.tries + 1, authenticated = excluded.authenticated,
           next_try_at = ${NOW} + ${DAY} * least(2 ^ least(withheld.tries - 1, 10), ${LONGEST_DELAY_DAYS})::bigint`,
      [
        relay.relayId,
        filterId,
        sorted.map(({ id }) => id),
        sorted.map(({ since }) => since),
        sorted.map(({ until }) => until),
        sorted.map(({ reason }) => reason),
        isAuthenticated,
      ],
    );
  }

  /** Notes that the times of these are known better now. */
  async place({ relay, filterId }: WithheldOf, withheld: readonly Withheld[]): Promise<void> {
    if (withheld.length === 0) return;
    await this.#query(
      `update withheld set stretch = int8range(t.since, t.until, '[]')
       from unnest($3::text[], $4::bigint[], $5::bigint[]) as t (id, since, until)
       where relay_id = $1 and filter_id = $2 and withheld.id = decode(t.id, 'hex')`,
      [
        relay.relayId,
        filterId,
        withheld.map(({ id }) => id),
        withheld.map(({ since }) => since),
        withheld.map(({ until }) => until),
      ],
    );
  }

  /** Forgets these: the relay serves them now, or no longer lists them. */
  async forget({ relay, filterId }: WithheldOf, ids: readonly string[]): Promise<void> {
    if (ids.length === 0) return;
    await this.#query(
      `delete from withheld
       where relay_id = $1 and filter_id = $2
           and withheld.id in (select decode(t.id, 'hex') from unnest($3::text[]) as t (id))`,
      [relay.relayId, filterId, ids],
    );
  }

  /** Forgets those, also of parts of the filter, that this relay has shown meanwhile, by a page or a live subscription. */
  async #forgetSighted({ relay, filterId }: WithheldOf): Promise<void> {
    await this.#query(
      // One look-up an id, by lateral: as a join it scanned all sightings for each of 3,462 ids, over a minute.
      `with shown as (
           select w.id
           from withheld_of($1, $2, int8range(null, null)) w
           cross join lateral (select event_key from events where id = w.id limit 1) e
           cross join lateral (select from sightings where relay_id = $1 and event_key = e.event_key limit 1) s
           union all
           select id from quarantine where relay_id = $1
       )
       delete from withheld where relay_id = $1 and id in (select id from shown)`,
      [relay.relayId, filterId],
    );
  }

  async #countWithParts({ relay, filterId }: WithheldOf, window: Window): Promise<number> {
    const { rows } = await this.#query<{ count: number }>(
      'select count(*) as count from withheld_of($1, $2, int8range($3, $4::bigint + 1))',
      [relay.relayId, filterId, window.since, window.until],
    );
    return rows[0]?.count ?? 0;
  }

  /** The stretch around a window, the window included, that rests on pages alone: NIP-77 has confirmed none of it. */
  async pagedAround({ relay, filterId }: WithheldOf, { since, until }: Window): Promise<Window> {
    const { rows } = await this.#query<{ since: number | null; until: number | null }>(
      `with paged as (
           select range_agg(covered) as covered from coverage
           where relay_id = $1 and filter_id = $2 and evidence in ('paging', 'finish')
       )
       select min(lower(stretch)) as since, max(upper(stretch)) - 1 as until
       from paged, unnest(covered) stretch
       where stretch && int8range($3, $4::bigint + 1) or stretch -|- int8range($3, $4::bigint + 1)`,
      [relay.relayId, filterId, since, until],
    );
    const [found] = rows;
    return {
      since: Math.min(since, found?.since ?? since),
      until: Math.max(until, found?.until ?? until),
    };
  }
}
