import { type DocumentRetry, LONGEST_RETRY_AFTER } from '../network/retry-after.ts';
import type { ClaimedWork } from './claims.ts';
import { NOW, type Query } from './connection.ts';
import { type Relay, tokenOf } from './relays.ts';

/** Table `relay_manners`: when relays asked to be contacted again (`Retry-After`), for all services. */

/** A time ahead of what is allowed by more than these seconds was recorded while the clock was wrong. */
export const CLOCK_SLACK = 3600;

/** SQL: whether relay_manners `m` forbids contact with the relay now. Never null. */
export const ASKED_TO_WAIT = `(coalesce(m.retry_at, 0) > ${NOW} and m.retry_at <= ${NOW} + ${LONGEST_RETRY_AFTER + CLOCK_SLACK})`;

type Claimed = Pick<Relay, 'relayId' | 'token'>;

/** Records the `Retry-After` that a check received for the relay, its NIP-11 document, or both; nothing where its claim was lost. */
export async function setRetryTimes(
  query: Query,
  relay: Claimed,
  { seconds, nip11 }: { seconds: number | null; nip11: { seconds: number; reason: string } | null },
): Promise<void> {
  if (seconds !== null) await setRelayRetry(query, relay, seconds, 'check');
  if (nip11) await setDocumentRetry(query, relay, nip11.seconds, nip11.reason);
}

/** Records the `Retry-After` with which a relay refused a connection; nothing where the claim was lost. */
export async function setRelayRetry(
  query: Query,
  relay: Claimed,
  seconds: number,
  work: ClaimedWork = 'visit',
): Promise<void> {
  await query(
    `insert into relay_manners (relay_id, retry_at)
     select $1::integer, ${NOW} + $2 where holds_claim($3, $1, $4)
     on conflict (relay_id) do update set retry_at = excluded.retry_at`,
    [relay.relayId, seconds, work, tokenOf(relay)],
  );
}

/** The same for its NIP-11 document, for which a check asks. */
async function setDocumentRetry(
  query: Query,
  relay: Claimed,
  seconds: number,
  reason: string,
): Promise<void> {
  await query(
    `insert into relay_manners (relay_id, nip11_retry_at, nip11_retry_reason)
     select $1::integer, ${NOW} + $2, $3 where holds_claim('check', $1, $4)
     on conflict (relay_id) do update
     set nip11_retry_at = excluded.nip11_retry_at, nip11_retry_reason = excluded.nip11_retry_reason`,
    [relay.relayId, seconds, reason, tokenOf(relay)],
  );
}

/** The time before which the document of a relay is not requested; null if it may be requested now. */
export async function documentRetry(
  query: Query,
  { relayId }: Pick<Relay, 'relayId'>,
): Promise<DocumentRetry | null> {
  const { rows } = await query<DocumentRetry & Record<string, unknown>>(
    `select nip11_retry_reason as reason, nip11_retry_at as until from relay_manners
     where relay_id = $1 and nip11_retry_at > ${NOW}
         and nip11_retry_at <= ${NOW} + ${LONGEST_RETRY_AFTER + CLOCK_SLACK}`,
    [relayId],
  );
  return rows[0] ?? null;
}
