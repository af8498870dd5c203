import { NOW, type Query } from '../connection.ts';

/** Tables that follow from the samples of all days together. */

/** Keeps other refreshers from replacing the same rows until the transaction ends. */
async function lockSamples(query: Query): Promise<void> {
  await query(`select pg_advisory_xact_lock(hashtext('bigbrotr samples'))`);
}

/**
 * Counts anew how many sampled references lead to events that the archive lacks. Nothing is written before all are looked
 * up: readers of the journal wait for transactions that have written.
 */
export async function countReferences(query: Query): Promise<void> {
  await lockSamples(query);
  await query('create temporary table found_targets (id bytea) on commit drop');
  await query('declare targets no scroll cursor for select distinct target from daily_references');
  for (;;) {
    const { rows } = await query<{ target: Buffer }>(`fetch ${TARGETS_AT_A_TIME} from targets`);
    await query('insert into found_targets select id from events where id = any ($1::bytea[])', [
      rows.map(({ target }) => target),
    ]);
    if (rows.length < TARGETS_AT_A_TIME) break;
  }
  const { rows } = await query<{ columns: string[]; as_of: number }>(
    `select array[coalesce(array_agg(kind), '{}')::text, coalesce(array_agg("references"), '{}')::text,
                  coalesce(array_agg(missing), '{}')::text] as columns, figures_as_of() as as_of
     from (
         select r.kind, sum(r."references")::bigint as "references",
                coalesce(sum(r."references") filter (where f.id is null), 0)::bigint as missing
         from daily_references r
         left join found_targets f on f.id = r.target
         group by r.kind
     ) counted`,
  );
  await query('delete from reference_totals');
  await query(
    `insert into reference_totals (kind, "references", missing, as_of)
     select *, $4 from unnest($1::integer[], $2::bigint[], $3::bigint[])`,
    [...(rows[0]?.columns ?? []), rows[0]?.as_of],
  );
}

/** Targets that are looked up by one statement. */
const TARGETS_AT_A_TIME = 2000;

interface RelaySet {
  readonly relays: readonly number[];
  readonly events: number;
}

/** Ranks relays anew by how much each adds to those before it. */
export async function rankRelays(query: Query): Promise<void> {
  await lockSamples(query);
  const { rows: times } = await query<{ as_of: number }>('select figures_as_of() as as_of');
  const { rows } = await query<RelaySet & Record<string, unknown>>(
    'select relays, sum(events)::bigint as events from daily_samples group by relays',
  );
  const ranks = coverRanks(rows);
  const sampled = rows.reduce((sum, { events }) => sum + events, 0);
  await query('delete from cover_ranks');
  await query(
    `insert into cover_ranks (rank, relay_id, new_events, covered, sampled, as_of)
     select place, relay_id, events, sum(events) over (order by place), $3, coalesce($4, ${NOW})
     from unnest($1::integer[], $2::bigint[]) with ordinality as t (relay_id, events, place)`,
    [
      ranks.map(({ relay }) => relay),
      ranks.map(({ events }) => events),
      sampled,
      times[0]?.as_of ?? null,
    ],
  );
}

/** Greedy set cover: the relay with the most events that none before it has; of equal ones the lowest key. */
export function coverRanks(sets: readonly RelaySet[]): { relay: number; events: number }[] {
  const setsOf = new Map<number, RelaySet[]>();
  const left = new Map<number, number>();
  for (const set of sets)
    for (const relay of set.relays) {
      const held = setsOf.get(relay);
      if (held) held.push(set);
      else setsOf.set(relay, [set]);
      left.set(relay, (left.get(relay) ?? 0) + set.events);
    }
  const covered = new Set<RelaySet>();
  const ranks: { relay: number; events: number }[] = [];
  for (;;) {
    const [best] = [...left].sort(([a, ofA], [b, ofB]) => ofB - ofA || a - b);
    if (!best || best[1] === 0) return ranks;
    const [relay, events] = best;
    ranks.push({ relay, events });
    for (const set of setsOf.get(relay) ?? []) {
      if (covered.has(set)) continue;
      covered.add(set);
      for (const other of set.relays) left.set(other, (left.get(other) ?? 0) - set.events);
    }
  }
}
