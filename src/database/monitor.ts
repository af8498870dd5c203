import type { RelayAddress } from '../network/url.ts';
import { type CheckRow, insertCheckResults } from './checks.ts';
import { isHeldByOthers } from './claims.ts';
import { NOW, type Query } from './connection.ts';
import { type Relay, type RelayRow, tokenOf } from './relays.ts';
import { ASKED_TO_WAIT } from './retry-times.ts';

/** Tables of the monitor: snapshots, states of relays, and their schedule. */

/** One check of one relay as a database row: documents as plain JSON. */
export interface SnapshotRow {
  /** With the token of its claim: the schedule is written only while the claim is held. */
  readonly relay: RelayAddress & Pick<Relay, 'token'>;
  readonly generatedAt: number;
  readonly nip11: object | null;
  readonly nip66: object | null;
  readonly checks?: readonly CheckRow[];
}

/** The default of MONITOR_FREQUENCY_HOUR, in seconds. */
const CHECK_INTERVAL_SECONDS = 8 * 3600;

/** The result of adding snapshots. */
export interface AddedSnapshots {
  /** How many were new. */
  readonly added: number;
  /** URLs of relays on which another process holds the claim now: the snapshot was added, state and next check were not written. */
  readonly lost: readonly string[];
}

/** Adds the shared results, then snapshots; each in one statement with the state and next check of its relay. */
export async function insertSnapshots(
  query: Query,
  snapshots: readonly SnapshotRow[],
  intervalSeconds = CHECK_INTERVAL_SECONDS,
): Promise<AddedSnapshots> {
  const sorted = [...snapshots].sort((a, b) => (a.relay.url < b.relay.url ? -1 : 1));
  await insertCheckResults(
    query,
    sorted.flatMap((snapshot) => snapshot.checks ?? []),
  );
  const { rows } = await query<{ added: number; lost: string[] }>(
    `with given as (
         select *, insert_relay_metadata(url, network, generated_at, nip11, nip66, checks) as is_new
         from unnest($1::text[], $2::text[], $3::bigint[], $4::jsonb[], $5::jsonb[], $6::jsonb[], $7::bigint[])
             as t (url, network, generated_at, nip11, nip66, checks, token)
     ), claimed as (
         select g.*, g.token is null or holds_claim('check', r.relay_id, g.token) as is_held
         from given g left join relays r on r.url = g.url
     )
     select count(*) filter (where case
                when is_new and is_held then record_relay_check(url, generated_at, nip66, $8) else is_new
            end) as added,
            coalesce(array_agg(url) filter (where not is_held), '{}') as lost
     from claimed`,
    [
      sorted.map(({ relay }) => relay.url),
      sorted.map(({ relay }) => relay.network),
      sorted.map(({ generatedAt }) => generatedAt),
      sorted.map(({ nip11 }) => nip11 && JSON.stringify(nip11)),
      sorted.map(({ nip66 }) => nip66 && JSON.stringify(nip66)),
      sorted.map(({ checks }) => checks && JSON.stringify(checks)),
      sorted.map(({ relay }) => tokenOf(relay)),
      intervalSeconds,
    ],
  );
  return rows[0] ?? { added: 0, lost: [] };
}

/** When a relay is due for a check, in seconds. */
export interface CheckAges {
  /** Check interval of relays that are up. */
  readonly intervalSeconds: number;
  /** Relays that come due within this time are due already. */
  readonly aheadSeconds: number;
  /** Minimum time after the latest check before the schedule makes a relay due again: 0 by default. */
  readonly leastSeconds?: number;
}

/** Limits the relays that a look-up of due checks returns. */
export interface CheckPicking {
  /** Maximum number; null: all. */
  readonly limit: number | null;
  /** Keys of excluded relays. */
  readonly except: readonly number[];
  /** The calling process: relays held by others are excluded. */
  readonly holder: string;
  /** Whether relays that are reached through Tor are excluded. */
  readonly withoutTor: boolean;
}

const ALL: CheckPicking = { limit: null, except: [], holder: '', withoutTor: false };

/**
 * Relays that are due: never checked, named again, or due by the schedule. A relay that is not down is also due when its
 * latest check is an interval old, even if the schedule was written with a longer one. A relay with snapshots and no
 * schedule (written by insert_relay_metadata alone) is due by the age of the latest. None is due before its `Retry-After`,
 * or while another process checks it.
 */
export async function relaysToCheck(
  query: Query,
  { intervalSeconds, aheadSeconds, leastSeconds = 0 }: CheckAges,
  picking: Partial<CheckPicking> = {},
): Promise<(RelayRow & { seenAt: number | null })[]> {
  const { limit, except, holder, withoutTor } = { ...ALL, ...picking };
  const { rows } = await query<RelayRow & { seenAt: number | null }>(
    `select r.relay_id, r.url, c.checked_at as "seenAt"
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
         and r.relay_id <> all ($5) and not ($7 and r.network = 'tor')
         and not ${ASKED_TO_WAIT}
         and not ${isHeldByOthers('check', 'r.relay_id', '$6')}
     order by c.checked_at is not null, c.seen_again_at is null, c.due_at, r.relay_id
     limit $4`,
    [intervalSeconds, aheadSeconds, leastSeconds, limit, except, holder, withoutTor],
  );
  return rows;
}
