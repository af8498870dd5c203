import type { RelayAddress } from '../network/url.ts';
import type { Query } from './connection.ts';
import { appendToJournal } from './journal.ts';
import { archivedIds } from './reading.ts';
import type { Relay } from './relays.ts';
import { SEEN_AT_EPOCH } from './sightings.ts';

/** The part of `Bigbrotr` that imports rows of another archive, with their earlier times. */

/** A relay of another archive, with the time at which that archive first knew it, in Unix seconds. */
export type DatedRelay = RelayAddress & { readonly knownAt: number };

/** Adds relays that are not known yet, with their time. @returns how many were new. @throws DatabaseError */
export async function insertDatedRelays(
  query: Query,
  relays: readonly DatedRelay[],
): Promise<number> {
  const { rows } = await query<{ count: number }>(
    `select count(*) filter (where insert_relay(url, network, known_at)) as count
     from (
         select url, network, known_at
         from unnest($1::text[], $2::text[], $3::bigint[]) as t (url, network, known_at) order by url
     ) sorted`,
    [relays.map((r) => r.url), relays.map((r) => r.network), relays.map((r) => r.knownAt)],
  );
  return rows[0]?.count ?? 0;
}

/**
 * Sets the times of sightings to these, where they are earlier.
 * @param query of a transaction
 * @param seenAt Unix seconds by event id in hex
 * @throws DatabaseError
 */
export async function setEarlierSeenAt(
  query: Query,
  relay: Relay,
  seenAt: ReadonlyMap<string, number>,
): Promise<void> {
  const archived = await archivedIds(query, [...seenAt.keys()]);
  const ids = [...archived.keys()];
  const { rows } = await query<{ day: number }>(
    `update sightings s set seen_at = t.seen_at
     from unnest($2::bigint[], $3::bigint[]) as t (event_key, seen_at)
     where s.relay_id = $1 and s.event_key = t.event_key and s.created_day = event_key_day(t.event_key)
         and s.seen_at > t.seen_at
     returning s.created_day as day`,
    [
      relay.relayId,
      ids.map((id) => archived.get(id)?.key),
      ids.map((id) => (seenAt.get(id) ?? 0) - SEEN_AT_EPOCH),
    ],
  );
  await appendToJournal(query, relay, new Set(rows.map(({ day }) => day)));
}
