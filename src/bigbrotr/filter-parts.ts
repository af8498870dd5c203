import type { Query } from '../database.ts';
import { canonicalFilter, type EventFilter } from '../nostr/filter.ts';
import type { Division } from '../nostr/filter-parts.ts';
import type { Relay } from './batch.ts';
import type { VisitOutcome } from './visits.ts';

/** The part of `Bigbrotr` that knows with which filters a relay is asked in place of one that it refuses. */

type Transaction = <T>(work: (query: Query) => Promise<T>) => Promise<T>;

/** A filter that stands for a part of another, and how it was read last. */
export interface FilterPart {
  /** The filter that is refused. */
  readonly wholeId: number;
  readonly filterId: number;
  readonly filter: EventFilter;
  readonly dividedBy: Division;
  /** When the relay last refused the whole, Unix seconds. */
  readonly refusedAt: number;
  /** When the part was last begun and ended, Unix seconds; null when it was not. */
  readonly startedAt: number | null;
  readonly endedAt: number | null;
  readonly outcome: VisitOutcome | null;
  readonly detail: string | null;
}

/** What the archive knows of filters that relays refuse. */
export class FilterParts {
  readonly #query: Query;
  readonly #transaction: Transaction;

  constructor(query: Query, transaction: Transaction) {
    this.#query = query;
    this.#transaction = transaction;
  }

  /** All parts of all filters that this relay refuses. */
  async of(relay: Relay): Promise<FilterPart[]> {
    type Row = Omit<FilterPart, 'filter'> & { filter: string } & Record<string, unknown>;
    const { rows } = await this.#query<Row>(
      `select p.filter_id as "wholeId", p.part_id as "filterId", f.filter, p.divided_by as "dividedBy",
              p.refused_at as "refusedAt", v.started_at as "startedAt", v.ended_at as "endedAt", v.outcome, v.detail
       from filter_parts p
       join filters f on f.filter_id = p.part_id
       left join visits v on v.relay_id = p.relay_id and v.filter_id = p.part_id
       where p.relay_id = $1
       order by p.part_id`,
      [relay.relayId],
    );
    return rows.map((row) => ({ ...row, filter: JSON.parse(row.filter) as EventFilter }));
  }

  /** Notes the parts of a filter that a relay refuses now. What was proven of the filter is proven of them. */
  async divide(
    relay: Relay,
    wholeId: number,
    parts: readonly EventFilter[],
    dividedBy: Division,
    refusedAt: number,
  ): Promise<void> {
    const ids = await filterIds(this.#query, parts);
    await this.#transaction((query) =>
      query('select divide_filter($1, $2, $3, $4, $5)', [
        ...[relay.relayId, wholeId, ids, dividedBy, refusedAt],
      ]),
    );
  }

  /** Forgets the parts of a filter: the relay takes it whole. */
  async join(relay: Relay, wholeId: number): Promise<void> {
    await this.#query('delete from filter_parts where relay_id = $1 and filter_id = $2', [
      relay.relayId,
      wholeId,
    ]);
  }

  /** Records as proven of a filter what is proven of all its parts, unless they are less than the filter. */
  async record(relay: Relay, wholeId: number): Promise<void> {
    await this.#transaction((query) =>
      query('select record_parts_coverage($1, $2)', [relay.relayId, wholeId]),
    );
  }

  /** The kinds that the archive holds, the smallest first, ephemeral ones left out. */
  async archivedKinds(): Promise<number[]> {
    const { rows } = await this.#query<{ kind: number }>(
      `with recursive kinds as (
           (select kind from events order by kind limit 1)
           union all
           select (
               select e.kind from events e
               where e.kind > case when k.kind between 19999 and 29999 then 29999 else k.kind end
               order by e.kind limit 1
           )
           from kinds k where k.kind is not null
       )
       select kind from kinds where kind is not null and kind not between 20000 and 29999 limit $1`,
      [MAX_KINDS_LOOKED_UP],
    );
    return rows.map(({ kind }) => kind);
  }

  /** Whether any event was seen on this relay. */
  async hasSightings(relay: Relay): Promise<boolean> {
    const { rowCount } = await this.#query('select from sightings where relay_id = $1 limit 1', [
      relay.relayId,
    ]);
    return (rowCount ?? 0) > 0;
  }
}

/** Steps through the index of kinds: each takes one look-up. */
const MAX_KINDS_LOOKED_UP = 3000;

/** The key of a filter; the same for every spelling of it. */
export async function filterId(query: Query, filter: EventFilter): Promise<number> {
  const [id] = await filterIds(query, [filter]);
  if (id === undefined)
    throw new Error(`filter ${canonicalFilter(filter)} vanished while it was looked up`);
  return id;
}

/** The keys of filters, in their order; the same for every spelling of one. */
async function filterIds(query: Query, filters: readonly EventFilter[]): Promise<number[]> {
  const texts = filters.map(canonicalFilter);
  await query(
    `insert into filters (filter)
     select text from unnest($1::text[]) text
     where not exists (select from filters where filter = text)
     order by text
     on conflict do nothing`,
    [texts],
  );
  const { rows } = await query<{ filter_id: number }>(
    `select f.filter_id
     from unnest($1::text[]) with ordinality as t (filter, place)
     join filters f on f.filter = t.filter
     order by t.place`,
    [texts],
  );
  return rows.map(({ filter_id }) => filter_id);
}
