import type { Query } from '../database.ts';
import { parseRelayUrl, type RelayAddress } from '../relay/url.ts';
import type { Relay } from './batch.ts';
import type { RelayRow } from './monitor.ts';

/** The part of `Bigbrotr` that adds relays, and gives rows back as relays. */

/** Adds relays that are not known yet. @returns how many were new. */
export async function insertRelays(query: Query, relays: readonly RelayAddress[]): Promise<number> {
  const sorted = [...relays].sort((a, b) => (a.url < b.url ? -1 : 1));
  const { rows } = await query<{ count: number }>(
    `select count(*) filter (where insert_relay(url, network)) as count
     from unnest($1::text[], $2::text[]) as t (url, network)`,
    [sorted.map(({ url }) => url), sorted.map(({ network }) => network)],
  );
  return rows[0]?.count ?? 0;
}

/** The relays of these URLs; those that are not known yet are added. In the order given. */
export async function relaysOf(query: Query, addresses: readonly RelayAddress[]): Promise<Relay[]> {
  await insertRelays(query, addresses);
  const { rows } = await query<RelayRow>(
    `select r.relay_id, r.url
     from unnest($1::text[]) with ordinality as t (url, place)
     join relays r on r.url = t.url
     order by t.place`,
    [addresses.map(({ url }) => url)],
  );
  return asRelays(rows);
}

/** URLs come back from the archive through the parser: nothing else makes a `RelayUrl`. */
export function asRelays<Row extends RelayRow>(
  rows: readonly Row[],
): (Relay & Omit<Row, keyof RelayRow>)[] {
  return rows.flatMap(({ relay_id, url, ...more }) => {
    const parsed = parseRelayUrl(url);
    if (!parsed.ok) return [];
    return [{ ...more, relayId: relay_id, url: parsed.url, network: parsed.network }];
  });
}
