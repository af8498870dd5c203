import { NEWEST } from './event-set.ts';
import type { BenchDatabase } from './server.ts';

const AT_A_TIME = 100_000;
const SPAN_SECONDS = 2 * 365 * 86_400;
const RELAYS = 100;
/** Sightings of three events. */
const SIGHTINGS_OF_THREE = 14;
/** One event in so many is on the relay with a large set. */
export const LARGE_SET = 6;
export const LARGE_RELAY = 'wss://large.example.com/';
/** Bytes of disk an event with its sightings, and beside them WAL and room to sort. */
const EVENT_BYTES = 1500;
const SPARE_BYTES = 8e9;

/** Disk that an archive of this size needs, in bytes. */
export function diskNeeded(events: number): number {
  return events * EVENT_BYTES + SPARE_BYTES;
}

/**
 * Fills the archive by SQL, in the order of time as history is not read, so that pages of indexes are as full as they
 * become: random ids, 70 events an author, tags, half a kilobyte of content, each on four or five of a hundred relays, one
 * in six on the relay with a large set.
 */
export async function fillSize(
  { query }: BenchDatabase,
  count: number,
  say: (text: string) => void,
): Promise<void> {
  await query('set synchronous_commit = off');
  await query(
    `insert into relays (url, network)
     select 'wss://relay' || i || '.example.com/', 'clearnet' from generate_series(1, $1::integer) i
     union all select $2, 'clearnet'`,
    [RELAYS, LARGE_RELAY],
  );
  const started = performance.now();
  for (let from = 0, told = 0; from < count; from += AT_A_TIME) {
    const to = Math.min(count, from + AT_A_TIME) - 1;
    await query(EVENTS, [NEWEST, SPAN_SECONDS, count, from, to, Math.ceil(count / 70)]);
    await query(SIGHTINGS, [
      from,
      to,
      RELAYS,
      SIGHTINGS_OF_THREE,
      LARGE_SET,
      LARGE_RELAY,
      NEWEST,
      SPAN_SECONDS,
      count,
    ]);
    if (to + 1 - told < count / 10 && to + 1 < count) continue;
    told = to + 1;
    say(`  ${told} events after ${Math.round((performance.now() - started) / 1000)} s`);
  }
  await query('insert into days select distinct created_day from events on conflict do nothing');
  await query('reset synchronous_commit');
  await query('vacuum analyze events');
  await query('vacuum analyze sightings');
}

/** SQL: the second of event number \`i\`. $n: NEWEST, seconds of all events, their number. */
const second = (newest: number, span: number, count: number) =>
  `$${newest}::bigint - $${span}::bigint + i * $${span}::bigint / $${count}::bigint`;

const EVENTS = `
insert into events (event_key, created_at, kind, created_day, id, pubkey, sig, tags, tagvalues, content)
select event_key_floor(t) + i % 16777216, t, (array[1, 1, 1, 7, 7, 6, 0, 3])[1 + i % 8], t / 86400, sha256(int8send(i)),
       sha256(int4send(author)), sha512(int8send(-i)),
       jsonb_build_array(jsonb_build_array('e', e), jsonb_build_array('p', p), jsonb_build_array('t', 'topic')),
       jsonb_build_array('e:' || e, 'p:' || p, 't:topic'), repeat(e, 8)
from (
    select i, ${second(1, 2, 3)} as t, floor(random() * $6::integer)::integer as author,
           encode(sha256(int8send(i + 7000000000)), 'hex') as e,
           encode(sha256(int4send(floor(random() * $6::integer)::integer)), 'hex') as p
    from generate_series($4::bigint, $5::bigint) i
) s`;

/** Relays of an event follow from its number, and no relay comes twice. */
const SIGHTINGS = `
insert into sightings (event_key, relay_id, seen_at, created_day)
select event_key_floor(t) + i % 16777216, r.relay_id, 0, t / 86400
from (select i, ${second(7, 8, 9)} as t from generate_series($1::bigint, $2::bigint) i) e
cross join lateral (
    select 1 + (i * 7919 + n * 23) % $3::integer as number
    from generate_series(1, ($4::integer + i % 3) / 3 - case when i % $5::integer = 0 then 1 else 0 end) n
    union all
    select 0 where i % $5::integer = 0
) n
join relays r on r.url = case when n.number = 0 then $6 else 'wss://relay' || n.number || '.example.com/' end`;
