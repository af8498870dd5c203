import { readZap, type Zap } from '../../nostr/zap.ts';
import type { Query } from '../connection.ts';
import { keysOfDay, secondsOf } from './count-day.ts';
import { missingKeys } from './current-events.ts';

/** Table `zaps`: what zap receipts (NIP-57) say. */

const ZAP_RECEIPT = 9735;

type ReadZap = Zap & { readonly key: string };

/** Reads the zap receipts in `taken_up`, and gives those whom they name a short key. */
export async function readZaps(query: Query): Promise<readonly ReadZap[]> {
  const { rows } = await query<{ key: string; tags: string[][] }>(
    `select event_key::text as key, tags from taken_up where kind = ${ZAP_RECEIPT}`,
  );
  const zaps = rows.map(({ key, tags }) => ({ key, ...readZap(tags) }));
  const named = zaps.flatMap(({ sender, recipient }) => [sender, recipient]);
  const keys = [...new Set(named.filter((key) => key !== null))].sort();
  if (keys.length > 0)
    await query(
      `insert into authors (pubkey)
       select k.pubkey from (select decode(key, 'hex') as pubkey from unnest($1::text[]) as t (key)) k
       where not exists (select from authors a where a.pubkey = k.pubkey)
       order by k.pubkey
       on conflict do nothing`,
      [keys],
    );
  return zaps;
}

/** Stores zaps whose receipts are in `taken_up` still. */
export async function addZaps(query: Query, zaps: readonly ReadZap[]): Promise<void> {
  if (zaps.length === 0) return;
  await query(
    `insert into zaps (event_key, sender_id, recipient_id, target, millisats)
     select z.event_key, s.author_id, r.author_id, decode(z.target, 'hex'), z.millisats
     from unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bigint[])
         as z (event_key, sender, recipient, target, millisats)
     join taken_up e on e.event_key = z.event_key
     left join authors s on s.pubkey = decode(z.sender, 'hex')
     left join authors r on r.pubkey = decode(z.recipient, 'hex')
     on conflict do nothing`,
    [
      zaps.map(({ key }) => key),
      zaps.map(({ sender }) => sender),
      zaps.map(({ recipient }) => recipient),
      zaps.map(({ target }) => target),
      zaps.map(({ millisats }) => millisats),
    ],
  );
}

/** Deletes the zaps of these days whose receipts were deleted. */
export async function removeDeletedZaps(query: Query, days: readonly number[]): Promise<void> {
  for (const day of days) {
    const { rows } = await query<{ keys: string[] }>(
      `select coalesce(array_agg(event_key), '{}')::text[] as keys from zaps z where ${keysOfDay('z')}`,
      secondsOf(day),
    );
    const gone = await missingKeys(query, rows[0]?.keys ?? []);
    if (gone.length > 0)
      await query('delete from zaps where event_key = any ($1::bigint[])', [gone]);
  }
}
