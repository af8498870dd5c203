import { NEWEST } from './event-set.ts';
import type { BenchDatabase } from './server.ts';

const DAY = 86_400;
const AT_A_TIME = 250_000;
/** Sightings of each event. */
export const SIGHTINGS = 5;
/** Events of each author on average; of the network's two billion it is about seventy. */
const EVENTS_OF_AUTHOR = 70;

/**
 * Fills days by SQL: ids at random, authors of whom a few write most, each to five of a hundred relays, five kinds.
 *
 * @param first the first day, in days since 1970; that many days before NEWEST unless told
 * @param hasTags whether events are found by their tags
 */
export async function fill(
  db: BenchDatabase,
  count: number,
  days: number,
  { first, hasTags = false }: { readonly first?: number; readonly hasTags?: boolean } = {},
) {
  const from = (first ?? Math.floor(NEWEST / DAY) - days) * DAY;
  await db.query(
    `insert into relays (url, network) select 'wss://relay' || i || '.example.com/', 'clearnet' from generate_series(1, 100) i
     on conflict do nothing`,
  );
  for (let done = 0; done < count; done += AT_A_TIME) {
    const last = Math.min(count, done + AT_A_TIME) - 1;
    await db.query(
      `insert into events (event_key, created_at, kind, created_day, id, pubkey, sig, tags, tagvalues, content)
       select event_key_floor(t) + i % 16777216, t, (array[1, 1, 1, 7, 7, 6, 0, 3])[1 + i % 8], t / 86400, sha256(int8send(i + $1::bigint)),
              sha256(int4send(author)), sha512(int8send(-i)),
              jsonb_build_array(jsonb_build_array('e', e), jsonb_build_array('p', p), jsonb_build_array('t', 'topic')),
              case when $7::boolean then jsonb_build_array('e:' || e, 'p:' || p, 't:topic') else '[]' end, repeat(e, 4)
       from (
           select i, $1::bigint + i * $2::bigint * 86400 / $3::bigint as t, floor($6::integer * power(random(), 3))::integer as author,
                  encode(sha256(int8send(i + 7000000000)), 'hex') as e,
                  encode(sha256(int4send(floor($6::integer * power(random(), 3))::integer)), 'hex') as p
           from generate_series($4::bigint, $5::bigint) i
       ) s`,
      [from, days, count, done, last, Math.ceil(count / EVENTS_OF_AUTHOR), hasTags],
    );
  }
  await db.query(
    `insert into sightings (event_key, relay_id, seen_at, created_day)
     select e.event_key, r.relay_id, 0, e.created_day
     from events e
     cross join generate_series(0, $3 - 1) n
     join relays r on r.url = 'wss://relay' || 1 + (get_byte(e.pubkey, 0) + 17 * n) % 100 || '.example.com/'
     where e.created_at >= $1 and e.created_at < $2`,
    [from, from + days * DAY, SIGHTINGS],
  );
  await db.query('insert into days select distinct created_day from events on conflict do nothing');
  await db.query('vacuum analyze events');
  await db.query('vacuum analyze sightings');
}
