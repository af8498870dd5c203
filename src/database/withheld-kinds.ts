import { IS_HELD, writeHeld } from './claims.ts';
import { NOW, type Query } from './connection.ts';
import { DUE, isDueAgain, nextTryAfter, type Withheld, type WithheldOf } from './withheld.ts';

/** Table `withheld`: kinds of the events that relays list (NIP-77) and do not serve. */

/** Those of these ids, in hex, whose kind is unknown and that were requested more than once without success. */
export async function withheldWithoutKind(
  query: Query,
  { relay, filterId }: WithheldOf,
  ids: readonly string[],
): Promise<Withheld[]> {
  if (ids.length === 0) return [];
  const { rows } = await query<Withheld & Record<string, unknown>>(
    `select encode(id, 'hex') as id, lower(stretch) as since, upper(stretch) - 1 as until
     from withheld
     where relay_id = $1 and filter_id = $2 and kind is null and tries > 1
         and withheld.id in (select decode(t.id, 'hex') from unnest($3::text[]) as t (id))`,
    [relay.relayId, filterId, ids],
  );
  return rows;
}

/** Records the kind of these events: the relay listed them for a filter with that kind. @throws ClaimLost */
export async function setWithheldKind(
  query: Query,
  { relay, filterId }: WithheldOf,
  kind: number,
  ids: readonly string[],
): Promise<void> {
  await writeHeld(
    query,
    relay,
    `update withheld set kind = $3
     where relay_id = $1 and filter_id = $2
         and withheld.id in (select decode(t.id, 'hex') from unnest($4::text[]) as t (id)) and ${IS_HELD}`,
    [filterId, kind, ids],
  );
}

/** Sample of the due ids of each kind, of the size that `dueWithheld` uses. */
export async function kindSamples(
  query: Query,
  { relay, filterId }: WithheldOf,
  isAuthenticated: boolean,
): Promise<Map<number, string[]>> {
  const { rows } = await query<{ kind: number; ids: string[] }>(
    `select kind, array_agg(encode(id, 'hex')) as ids
     from ${DUE}
     where kind is not null group by kind`,
    [relay.relayId, filterId, isAuthenticated],
  );
  return new Map(rows.map(({ kind, ids }) => [kind, ids]));
}

/** Records all due events of a kind as requested without success, because its sample was. @throws ClaimLost */
export async function noteKindWithheld(
  query: Query,
  { relay, filterId }: WithheldOf,
  kind: number,
  isAuthenticated: boolean,
): Promise<void> {
  await writeHeld(
    query,
    relay,
    `update withheld
     set last_at = ${NOW}, tries = tries + 1, authenticated = $4, next_try_at = ${nextTryAfter('tries')}
     where relay_id = $1 and filter_id = $2 and kind = $3 and ${isDueAgain('$4')} and ${IS_HELD}`,
    [filterId, kind, isAuthenticated],
  );
}

/** Makes every event of this kind due by itself, because the relay serves the kind. @throws ClaimLost */
export async function forgetWithheldKind(
  query: Query,
  { relay, filterId }: WithheldOf,
  kind: number,
): Promise<void> {
  await writeHeld(
    query,
    relay,
    `update withheld set kind = null, next_try_at = ${NOW}
     where relay_id = $1 and filter_id = $2 and kind = $3 and ${IS_HELD}`,
    [filterId, kind],
  );
}
