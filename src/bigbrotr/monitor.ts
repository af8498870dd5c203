import { NOW, type Query } from '../database.ts';
import type { RelayAddress } from '../relay/url.ts';
import { type CheckRow, insertCheckResults } from './checks.ts';
import { ASKED_TO_WAIT } from './retry-times.ts';

/** The part of `Bigbrotr` that keeps what the monitor finds: snapshots, states of relays, and when each is due again. */

/** One check of one relay, as the database takes it: documents as plain JSON. */
export interface SnapshotRow {
  readonly relay: RelayAddress;
  readonly generatedAt: number;
  readonly nip11: object | null;
  readonly nip66: object | null;
  readonly checks?: readonly CheckRow[];
}

/** The default of MONITOR_FREQUENCY_HOUR, in seconds. */
const CHECK_INTERVAL_SECONDS = 8 * 3600;

/**
 * Adds snapshots, after the results that they share; in one statement with each its relay's state and next check.
 * @returns how many were new
 */
export async function insertSnapshots(
  query: Query,
  snapshots: readonly SnapshotRow[],
  intervalSeconds = CHECK_INTERVAL_SECONDS,
): Promise<number> {
  const sorted = [...snapshots].sort((a, b) => (a.relay.url < b.relay.url ? -1 : 1));
  await insertCheckResults(
    query,
    sorted.flatMap((snapshot) => snapshot.checks ?? []),
  );
  const { rows } = await query<{ count: number }>(
    `select count(*) filter (where case
         when insert_relay_metadata(url, network, generated_at, nip11, nip66, checks)
         then record_relay_check(url, generated_at, nip66, $7)
     end) as count
     from unnest($1::text[], $2::text[], $3::bigint[], $4::jsonb[], $5::jsonb[], $6::jsonb[])
         as t (url, network, generated_at, nip11, nip66, checks)`,
    [
      sorted.map(({ relay }) => relay.url),
      sorted.map(({ relay }) => relay.network),
      sorted.map(({ generatedAt }) => generatedAt),
      sorted.map(({ nip11 }) => nip11 && JSON.stringify(nip11)),
      sorted.map(({ nip66 }) => nip66 && JSON.stringify(nip66)),
      sorted.map(({ checks }) => checks && JSON.stringify(checks)),
      intervalSeconds,
    ],
  );
  return rows[0]?.count ?? 0;
}

/** When a relay is due for a check, in seconds. */
export interface CheckAges {
  /** How often a living relay is checked. */
  readonly intervalSeconds: number;
  /** Relays that come due within this time are due already. */
  readonly aheadSeconds: number;
  /** The schedule makes no relay due again sooner than this after its latest check: 0 unless told. */
  readonly leastSeconds?: number;
}

export type RelayRow = { relay_id: number; url: string };

/**
 * Relays that are due: never checked, seen again, or due by the schedule. A relay that is not down is due in any case
 * when its latest check is an interval old, also where the schedule was written with a longer one; a relay that has
 * snapshots and no schedule (written by insert_relay_metadata alone) is due by the age of the latest. None is due
 * before the time that it named itself (`Retry-After`).
 */
export async function relaysToCheck(
  query: Query,
  { intervalSeconds, aheadSeconds, leastSeconds = 0 }: CheckAges,
  limit: number | null,
  except: readonly number[],
): Promise<RelayRow[]> {
  const { rows } = await query<RelayRow>(
    `select r.relay_id, r.url
     from relays r
     left join relay_schedule c on c.relay_id = r.relay_id
     left join relay_manners m on m.relay_id = r.relay_id
     left join lateral (
         select max(generated_at) as checked_at from snapshots where relay_id = r.relay_id and c.relay_id is null
     ) s on true
     where (coalesce(c.due_at, s.checked_at + $1, 0) <= ${NOW} + $2
             and coalesce(c.checked_at, s.checked_at, 0) <= ${NOW} - $3
         or c.seen_again_at is not null
         or (c.failures = 0 and c.checked_at + greatest($1, $3) <= ${NOW} + $2))
         and r.relay_id <> all ($5)
         and not ${ASKED_TO_WAIT}
     order by c.checked_at is not null, c.seen_again_at is null, c.due_at, r.relay_id
     limit $4`,
    [intervalSeconds, aheadSeconds, leastSeconds, limit, except],
  );
  return rows;
}

/** Makes relays due at once that were named anew. @returns how many wait now that did not. */
export async function recheckRelays(
  query: Query,
  relays: readonly RelayAddress[],
): Promise<number> {
  const { rows } = await query<{ woken: number }>('select recheck_relays($1) as woken', [
    relays.map(({ url }) => url),
  ]);
  return rows[0]?.woken ?? 0;
}
