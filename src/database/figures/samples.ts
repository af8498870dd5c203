import { NOW, type Query } from '../connection.ts';

/** Tables that follow from the samples of all days together. */

/** Keeps other refreshers from replacing the same rows until the transaction ends. */
async function lockSamples(query: Query): Promise<void> {
  await query(`select pg_advisory_xact_lock(hashtext('bigbrotr samples'))`);
}

/** Sampled references that are looked up, at most: some tens of seconds on a disk that seeks. */
const MOST_REFERENCES = 500_000;
/** References that are looked up by one statement. */
const AT_A_TIME = 2000;
/** Parts of the sample, by the second byte of a target. */
const PARTS = 256;

interface Reference extends Record<string, unknown> {
  readonly kind: number;
  readonly target: Buffer;
  readonly references: number;
}

/**
 * Counts anew how many sampled references lead to events that the archive lacks. Where the sample has more references than
 * may be looked up, only those to a part of its targets are counted. Nothing is written before all are looked up, not even
 * a temporary table: readers of the journal wait for transactions that have written.
 *
 * @param most references that may be looked up
 */
export async function countReferences(query: Query, most = MOST_REFERENCES): Promise<void> {
  await lockSamples(query);
  const { rows: times } = await query<{ as_of: number }>('select figures_as_of() as as_of');
  const sampled = await partsWithin(query, most);
  const totals = await lookedUp(query, sampled);
  await query('delete from reference_totals');
  await query(
    `insert into reference_totals (kind, "references", missing, as_of, sampled)
     select t.*, $4, $5 from unnest($1::integer[], $2::bigint[], $3::bigint[]) t`,
    [
      totals.map(({ kind }) => kind),
      totals.map(({ references }) => references),
      totals.map(({ missing }) => missing),
      times[0]?.as_of ?? 0,
      sampled,
    ],
  );
}

/** References by kind, and those of them whose target is not archived. */
async function lookedUp(query: Query, sampled: number) {
  const totals = new Map<number, { kind: number; references: number; missing: number }>();
  await query(
    `declare sampled no scroll cursor for
     select kind, target, "references" from daily_references where get_byte(target, 1) < $1 order by target`,
    [sampled],
  );
  for (;;) {
    const { rows } = await query<Reference>(`fetch ${AT_A_TIME} from sampled`);
    const targets = rows.map(({ target }) => target);
    const { rows: found } = await query<{ id: Buffer }>(
      'select id from events where id = any ($1::bytea[])',
      [targets],
    );
    const archived = new Set(found.map(({ id }) => id.toString('hex')));
    for (const { kind, target, references } of rows) {
      const total = totals.get(kind) ?? { kind, references: 0, missing: 0 };
      total.references += references;
      if (!archived.has(target.toString('hex'))) total.missing += references;
      totals.set(kind, total);
    }
    if (rows.length < AT_A_TIME) break;
  }
  await query('close sampled');
  return [...totals.values()];
}

/** How many parts of the sample may be looked up: a power of two, 1 at least. */
async function partsWithin(query: Query, most: number): Promise<number> {
  const { rows } = await query<{ byte: number; held: number }>(
    'select get_byte(target, 1) as byte, count(*) as held from daily_references group by 1',
  );
  const heldBelow = (parts: number) =>
    rows.reduce((sum, { byte, held }) => (byte < parts ? sum + held : sum), 0);
  let parts = PARTS;
  while (parts > 1 && heldBelow(parts) > most) parts /= 2;
  return parts;
}

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
