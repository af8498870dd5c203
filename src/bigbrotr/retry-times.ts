import { NOW, type Query } from '../database.ts';
import { type DocumentRetry, LONGEST_RETRY_AFTER } from '../relay/retry-after.ts';
import type { Relay } from './batch.ts';

/** The part of `Bigbrotr` that keeps when relays asked to be contacted again (`Retry-After`), for all services alike. */

/** What was noted so many seconds further ahead than it may be was noted while the clock was wrong. */
export const CLOCK_SLACK = 3600;

/** Whether relay_manners `m` forbids to contact the relay now. SQL, never null. */
export const ASKED_TO_WAIT = `(coalesce(m.retry_at, 0) > ${NOW} and m.retry_at <= ${NOW} + ${LONGEST_RETRY_AFTER + CLOCK_SLACK})`;

/** Each method throws DatabaseError when the database stays away or refuses. */
export class RetryTimes {
  readonly #query: Query;

  constructor(query: Query) {
    this.#query = query;
  }

  /** Notes what a check was told: of the relay, of its document, or of both. */
  async set(
    relay: Pick<Relay, 'relayId'>,
    {
      seconds,
      nip11,
    }: { seconds: number | null; nip11: { seconds: number; reason: string } | null },
  ): Promise<void> {
    if (seconds !== null) await this.setRelay(relay, seconds);
    if (nip11) await this.setDocument(relay, nip11.seconds, nip11.reason);
  }

  /** Notes that a relay refused a connection and named when to come again. */
  async setRelay({ relayId }: Pick<Relay, 'relayId'>, seconds: number): Promise<void> {
    await this.#query(
      `insert into relay_manners (relay_id, retry_at) values ($1, ${NOW} + $2)
       on conflict (relay_id) do update set retry_at = excluded.retry_at`,
      [relayId, seconds],
    );
  }

  /** The same for its NIP-11 document. */
  async setDocument(
    { relayId }: Pick<Relay, 'relayId'>,
    seconds: number,
    reason: string,
  ): Promise<void> {
    await this.#query(
      `insert into relay_manners (relay_id, nip11_retry_at, nip11_retry_reason) values ($1, ${NOW} + $2, $3)
       on conflict (relay_id) do update
       set nip11_retry_at = excluded.nip11_retry_at, nip11_retry_reason = excluded.nip11_retry_reason`,
      [relayId, seconds, reason],
    );
  }

  /** Until when the document of a relay is not asked for; null where it may be. */
  async document({ relayId }: Pick<Relay, 'relayId'>): Promise<DocumentRetry | null> {
    const { rows } = await this.#query<DocumentRetry & Record<string, unknown>>(
      `select nip11_retry_reason as reason, nip11_retry_at as until from relay_manners
       where relay_id = $1 and nip11_retry_at > ${NOW}
           and nip11_retry_at <= ${NOW} + ${LONGEST_RETRY_AFTER + CLOCK_SLACK}`,
      [relayId],
    );
    return rows[0] ?? null;
  }
}
