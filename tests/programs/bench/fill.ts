import { NEWEST } from './event-set.ts';
import type { BenchDatabase } from './server.ts';

const DAY = 86_400;
const AT_A_TIME = 250_000;
/** Sightings of each event, on average. */
export const SIGHTINGS = 5;
/** Relays of an author, of which each event is seen on a choice of its own. */
const RELAYS_OF_AUTHOR = 20;
const RELAYS = 50;
/** Events of each author on average; of the network's two billion it is about seventy. */
const EVENTS_OF_AUTHOR = 70;

/**
 * Fills days by SQL: ids at random, authors of whom a few write most, eight kinds. An author has up to twenty of fifty
 * relays, the first ones more often than the last, and each event is seen on some of them.
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
    `insert into relays (url, network)
     select 'wss://relay' || i || '.example.com/', case when i % 25 = 0 then 'tor' else 'clearnet' end
     from generate_series(1, $1) i
     on conflict do nothing`,
    [RELAYS],
  );
  for (let done = 0; done < count; done += AT_A_TIME) {
    const last = Math.min(count, done + AT_A_TIME) - 1;
    await db.query(
      `insert into events (event_key, created_at, kind, created_day, id, pubkey, sig, tags, tagvalues, content)
       select event_key_floor(t) + i % 16777216, t, (array[1, 1, 1, 7, 7, 7, 6, 6, 0, 3, 10002, 30023, 1, 7, 1, 9735])[1 + (i * 7919) % 16], t / 86400, sha256(int8send(i + $1::bigint)),
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
  // A relay may be drawn twice for an event: seven draws are five or six relays.
  await db.query(
    `insert into sightings (event_key, relay_id, seen_at, created_day)
     select distinct e.event_key, r.relay_id, 0, e.created_day
     from events e
     cross join generate_series(0, $3::integer + 1) n
     join relays r on r.url = 'wss://relay' || 1 + floor($4::integer * power(
         get_byte(e.pubkey, (hashint8(e.event_key * 8 + n) & 1023) % $5::integer) / 256.0, 2
     ))::integer || '.example.com/'
     where e.created_at >= $1 and e.created_at < $2`,
    [from, from + days * DAY, SIGHTINGS, RELAYS, RELAYS_OF_AUTHOR],
  );
  await db.query('insert into days select distinct created_day from events on conflict do nothing');
  await db.query('vacuum analyze events');
  await db.query('vacuum analyze sightings');
}
