import { parseRelayUrl, type RelayAddress } from '../network/url.ts';
import type { Query } from './connection.ts';

/** Table `relays`. */

/** A relay of the archive: its address and its short key. */
export interface Relay extends RelayAddress {
  readonly relayId: number;
  /**
   * Fencing token of the claim under which this process works on it: writes that rest on the claim fail once it is lost.
   * Absent if none is needed: for commands of an operator.
   */
  readonly token?: number;
}

/** The fencing token of a relay as a parameter of SQL. */
export function tokenOf({ token }: Pick<Relay, 'token'>): number | null {
  return token ?? null;
}

export type RelayRow = { relay_id: number; url: string };

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

/** Returns the relays of these URLs in the order given; adds those that are not known yet. */
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

/** Sets the priority list to exactly these relays; adds those that are not known yet. */
export async function setPriorityRelays(
  query: Query,
  relays: readonly RelayAddress[],
): Promise<void> {
  await insertRelays(query, relays);
  await query('update relays set priority = (url = any ($1)) where priority <> (url = any ($1))', [
    relays.map(({ url }) => url),
  ]);
}

/** Keys of those of these relays that are on the priority list, or of those that are not. */
export async function relaysWithPriority(
  query: Query,
  relayIds: readonly number[],
  priority: boolean,
): Promise<number[]> {
  if (relayIds.length === 0) return [];
  const { rows } = await query<{ relay_id: number }>(
    'select relay_id from relays where relay_id = any ($1) and priority = $2',
    [relayIds, priority],
  );
  return rows.map(({ relay_id }) => relay_id);
}

/**
 * Looks relays up, and once more without the rows that are no relays: a result is short only where no more are there.
 *
 * @param look finds rows, except those with some keys
 */
export async function lookUpRelays<Row extends RelayRow>(
  except: readonly number[],
  look: (except: readonly number[]) => Promise<readonly Row[]>,
): Promise<(Relay & Omit<Row, keyof RelayRow>)[]> {
  const rows = await look(except);
  const relays = asRelays(rows);
  if (relays.length === rows.length) return relays;
  const known = new Set(relays.map(({ relayId }) => relayId));
  const others = rows.flatMap(({ relay_id }) => (known.has(relay_id) ? [] : [relay_id]));
  return lookUpRelays([...except, ...others], look);
}

/** Parses URLs that were read from the archive: only the parser makes a `RelayUrl`. */
function asRelays<Row extends RelayRow>(
  rows: readonly Row[],
): (Relay & Omit<Row, keyof RelayRow>)[] {
  return rows.flatMap(({ relay_id, url, ...more }) => {
    const parsed = parseRelayUrl(url);
    if (!parsed.ok) return [];
    return [{ ...more, relayId: relay_id, url: parsed.url, network: parsed.network }];
  });
}
