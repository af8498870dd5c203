import { NOW, type Query } from '../database.ts';
import type { Nip11Limitation } from '../nostr/nip11.ts';
import { type Manners, NEW_RELAY } from '../relay/manners.ts';
import type { Relay } from './batch.ts';

/** The part of `Bigbrotr` that keeps how relays want to be treated: their limits, their pace and their pauses. */

/** Claims of a relay's NIP-11 document, and what was learnt of it. */
export interface RelayTerms extends Manners {
  readonly limitation: Nip11Limitation | null;
  readonly supportedNips: readonly number[] | null;
  /** Whether it refuses a filter for its shape, so that it is asked with parts of it. */
  readonly isDivided: boolean;
}

/** What is known of how a relay wants to be treated: what its latest NIP-11 says, and what was learnt. */
export async function relayTerms(query: Query, relay: Relay): Promise<RelayTerms> {
  const { rows } = await query<RelayTerms & Record<string, unknown>>(
    `select d.limitation, d.supported_nips as "supportedNips",
            coalesce(m.not_before, 0) as "notBefore", m.reason, coalesce(m.refusals, 0) as refusals,
            coalesce(m.pace_ms, 0) as "paceMs", m.page_limit as "pageLimit", m.page_limit_at as "pageLimitAt",
            m.max_filter_values as "maxFilterValues", m.max_filter_values_at as "maxFilterValuesAt",
            m.nip77_not_before as "nip77NotBefore", m.nip77_reason as "nip77Reason",
            exists (select from filter_parts where relay_id = r.relay_id) as "isDivided"
     from relays r
     left join relay_manners m on m.relay_id = r.relay_id
     left join lateral (
         select nip11_id from snapshots
         where relay_id = r.relay_id and nip11_id is not null order by generated_at desc limit 1
     ) s on true
     left join nip11 d on d.id = s.nip11_id
     where r.relay_id = $1`,
    [relay.relayId],
  );
  return rows[0] ?? { ...NEW_RELAY, limitation: null, supportedNips: null, isDivided: false };
}

/** Remembers how a relay wants to be treated. */
export async function setManners(query: Query, relay: Relay, manners: Manners): Promise<void> {
  await query(
    `insert into relay_manners as m
         (relay_id, not_before, reason, refusals, pace_ms, page_limit, page_limit_at, nip77_not_before, nip77_reason,
          max_filter_values, max_filter_values_at, nip77_refused_at)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, case when $8::bigint is not null then ${NOW} end)
     on conflict (relay_id) do update
     set not_before = excluded.not_before, reason = excluded.reason, refusals = excluded.refusals,
         pace_ms = excluded.pace_ms, page_limit = excluded.page_limit, page_limit_at = excluded.page_limit_at,
         nip77_not_before = excluded.nip77_not_before, nip77_reason = excluded.nip77_reason,
         max_filter_values = excluded.max_filter_values, max_filter_values_at = excluded.max_filter_values_at,
         nip77_refused_at = case
             when excluded.nip77_not_before is distinct from m.nip77_not_before then excluded.nip77_refused_at
             else m.nip77_refused_at
         end`,
    [
      relay.relayId,
      manners.notBefore,
      manners.reason,
      manners.refusals,
      manners.paceMs,
      manners.pageLimit,
      manners.pageLimitAt,
      manners.nip77NotBefore,
      manners.nip77Reason,
      manners.maxFilterValues,
      manners.maxFilterValuesAt,
    ],
  );
}

/** Lets every relay be visited again that pauses for this reason. @returns how many do */
export async function endPauses(query: Query, reason: string): Promise<number> {
  const { rowCount } = await query(
    'update relay_manners set not_before = 0 where reason = $1 and not_before > 0',
    [reason],
  );
  return rowCount ?? 0;
}
