import type { Query } from './connection.ts';

/** Every relay as one row, for lists that are filtered and sorted by anything. */

/** A relay: its state, what its latest checks found, and how complete its archive is. Times are Unix seconds. */
export interface RelayFacts {
  readonly url: string;
  readonly network: string;
  readonly priority: boolean;
  /** When it was added. */
  readonly addedAt: number;
  readonly state: 'up' | 'down' | 'unknown';
  readonly checkedAt: number | null;
  readonly openable: boolean | null;
  readonly readable: boolean | null;
  readonly writable: boolean | null;
  readonly rttOpen: number | null;
  readonly rttRead: number | null;
  readonly rttWrite: number | null;
  readonly country: string | null;
  readonly city: string | null;
  readonly asn: number | null;
  readonly organisation: string | null;
  readonly tlsValid: boolean | null;
  readonly tlsNotAfter: number | null;
  readonly software: string | null;
  readonly version: string | null;
  readonly supportedNips: readonly number[] | null;
  readonly visitedAt: number | null;
  readonly outcome: string | null;
  readonly stopReason: string | null;
  readonly failingSince: number | null;
  /** Share of the wanted time that is proven complete; null: never visited. */
  readonly share: number | null;
  readonly caughtUp: boolean;
}

/**
 * All relays in the order of their URLs. With several filters the visit that began last counts. Each relay is read by its
 * indexes.
 *
 * @param url of the only relay that is wanted; null: all
 */
export async function relayTable(query: Query, url: string | null = null): Promise<RelayFacts[]> {
  const { rows } = await query<RelayFacts & Record<string, unknown>>(
    `select r.url, r.network, r.priority, r.inserted_at as "addedAt",
            case when c.known_until >= unix_now() then coalesce(c.state, 'unknown') else 'unknown' end as state,
            c.checked_at as "checkedAt", f.openable, f.readable, f.writable,
            f.rtt_open as "rttOpen", f.rtt_read as "rttRead", f.rtt_write as "rttWrite",
            f.country, f.city, f.asn, f.organisation, f.tls_valid as "tlsValid", f.tls_not_after as "tlsNotAfter",
            f.software, f.version,
            case when jsonb_typeof(f.supported_nips) = 'array' then f.supported_nips end as "supportedNips",
            v.ended_at as "visitedAt", v.outcome, v.stop_reason as "stopReason", v.failing_since as "failingSince",
            v.share::float8 as share, coalesce(v.caught_up, false) as "caughtUp"
     from relays r
     left join relay_schedule c on c.relay_id = r.relay_id
     left join relay_facts f on f.relay_url = r.url
     left join lateral (
         select v.ended_at, v.outcome, v.stop_reason, v.failing_since, v.caught_up,
                coverage_share(v.wanted, p.covered, oldest_known(v.relay_id, v.wanted)) as share
         from visits v
         cross join lateral (
             select coalesce(range_agg(covered), '{}') as covered
             from coverage where relay_id = v.relay_id and filter_id = v.filter_id
         ) p
         where v.relay_id = r.relay_id and not v.is_part
         order by v.started_at desc limit 1
     ) v on true
     where $1::text is null or r.url = $1
     order by r.url collate "C"`,
    [url],
  );
  return rows;
}

/**
 * How much is proven of equal parts of the time since Nostr began, for each of some relays: shares from 0 to 1, null for a
 * part of which nothing was wanted. Relays that were never visited are absent.
 */
export async function coverageStrips(
  query: Query,
  urls: readonly string[],
  parts: number,
): Promise<Map<string, (number | null)[]>> {
  const { rows } = await query<{ url: string; strip: (number | null)[] }>(
    `select r.url, array_agg(
                (seconds_in(p.covered * w.wanted::int8multirange)::float8
                     / nullif(seconds_in(w.wanted::int8multirange), 0))::float8 order by n.part) as strip
     from relays r
     cross join lateral (
         select v.relay_id, v.filter_id, v.wanted from visits v
         where v.relay_id = r.relay_id and not v.is_part order by v.started_at desc limit 1
     ) v
     cross join lateral (
         select coalesce(range_agg(covered), '{}') as covered
         from coverage where relay_id = v.relay_id and filter_id = v.filter_id
     ) p
     cross join (select nostr_began() as began, unix_now() + 1 - nostr_began() as age) t
     cross join generate_series(0, $2::integer - 1) n (part)
     cross join lateral (
         select v.wanted * int8range(t.began + t.age * n.part / $2, t.began + t.age * (n.part + 1) / $2) as wanted
     ) w
     where r.url = any ($1)
     group by r.url`,
    [urls, parts],
  );
  return new Map(rows.map(({ url, strip }) => [url, strip]));
}
