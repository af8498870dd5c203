import { NEW_RELAY_POLICY, type RelayPolicy } from '../network/relay-policy.ts';
import type { Nip11Limitation } from '../nostr/nip11.ts';
import { ClaimLost } from './claims.ts';
import { NOW, type Query } from './connection.ts';
import { type Relay, tokenOf } from './relays.ts';

/** Table `relay_manners`: the policy of relays, with limits, pace and pauses. */

/** Claims of a relay's NIP-11 document, and its learnt policy. */
export interface RelayTerms extends RelayPolicy {
  /** Whether a policy of it is stored. */
  readonly hasPolicy: boolean;
  readonly limitation: Nip11Limitation | null;
  readonly supportedNips: readonly number[] | null;
  /** Whether it refuses a filter for its shape, and is asked with parts of it. */
  readonly isDivided: boolean;
  /** Whether it lists events that it does not serve, as far as earlier visits found. */
  readonly isWithholding: boolean;
}

/** The claims of a relay's latest NIP-11 document, and its policy as learnt so far. */
export async function relayTerms(query: Query, relay: Relay): Promise<RelayTerms> {
  const { rows } = await query<RelayTerms & Record<string, unknown>>(
    `select d.limitation, d.supported_nips as "supportedNips",
            coalesce(m.not_before, 0) as "notBefore", m.reason, coalesce(m.refusals, 0) as refusals,
            coalesce(m.pace_ms, 0) as "paceMs", m.page_limit as "pageLimit", m.page_limit_at as "pageLimitAt",
            m.max_filter_values as "maxFilterValues", m.max_filter_values_at as "maxFilterValuesAt",
            m.nip77_not_before as "nip77NotBefore", m.nip77_reason as "nip77Reason",
            m.relay_id is not null as "hasPolicy",
            exists (select from filter_parts where relay_id = r.relay_id) as "isDivided",
            exists (select from withheld where relay_id = r.relay_id) as "isWithholding"
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
  return (
    rows[0] ?? {
      ...NEW_RELAY_POLICY,
      ...{ hasPolicy: false, limitation: null, supportedNips: null },
      ...{ isDivided: false, isWithholding: false },
    }
  );
}

/** Stores the policy of a relay. @throws ClaimLost when another process holds the claim on it */
export async function setRelayPolicy(
  query: Query,
  relay: Relay,
  policy: RelayPolicy,
): Promise<void> {
  const { rowCount } = await query(
    `insert into relay_manners as m
         (relay_id, not_before, reason, refusals, pace_ms, page_limit, page_limit_at, nip77_not_before, nip77_reason,
          max_filter_values, max_filter_values_at, nip77_refused_at)
     select $1::integer, $2::bigint, $3, $4::integer, $5::integer, $6::integer, $7::bigint, $8::bigint, $9, $10::integer,
            $11::bigint, case when $8::bigint is not null then ${NOW} end
     where holds_claim('visit', $1, $12)
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
      policy.notBefore,
      policy.reason,
      policy.refusals,
      policy.paceMs,
      policy.pageLimit,
      policy.pageLimitAt,
      policy.nip77NotBefore,
      policy.nip77Reason,
      policy.maxFilterValues,
      policy.maxFilterValuesAt,
      tokenOf(relay),
    ],
  );
  if (rowCount === 0) throw new ClaimLost('visit', relay.relayId);
}

/** Ends the pause of every relay that pauses for this reason. @returns how many relays */
export async function endPauses(query: Query, reason: string): Promise<number> {
  const { rowCount } = await query(
    'update relay_manners set not_before = 0 where reason = $1 and not_before > 0',
    [reason],
  );
  return rowCount ?? 0;
}
