import type { Query } from './connection.ts';
import { type DescribedRow, describedRow as row } from './descriptions.ts';

/**
 * What an operator asks of an archive beside `archive_status`: its rate, what is left and until when, which relays fail,
 * and what is not proven. Reads no large table as a whole.
 */

/** Batches of the journal that the rate is taken from, at most: the newest ones. */
const RATED_BATCHES = 5000;
const RATED_SECONDS = 3600;
/** Relays whose missing events are estimated, at most; the sum is scaled to all that are not caught up. */
const SAMPLED_RELAYS = 20;
const SHOWN_RELAYS = 10;
const DAY = 86_400;

/** How fast the archive grows, and what that rests on. */
export interface Growth {
  /** New events a second, over the last hour at most; deletions are not subtracted. */
  readonly eventsPerSecond: number;
  /** The time that was measured, in seconds. */
  readonly seconds: number;
  /** Bytes of the whole database for each event. */
  readonly bytesPerEvent: number;
}

export async function growth(query: Query): Promise<Growth> {
  const { rows } = await query<{ events: number; seconds: number; bytes: number; held: number }>(
    `select coalesce(sum(cardinality(j.event_keys)) filter (where is_recent), 0)::bigint as events,
            case when count(*) = $1 and bool_and(is_recent) then greatest(unix_now() - min(written_at), 1) else $2 end as seconds,
            pg_database_size(current_database()) as bytes, (rows_of('public.events'::regclass)).amount as held
     from (
         select event_keys, written_at, written_at > unix_now() - $2 as is_recent
         from journal order by xid desc, batch_id desc limit $1
     ) j`,
    [RATED_BATCHES, RATED_SECONDS],
  );
  const { events = 0, seconds = RATED_SECONDS, bytes = 0, held = 0 } = rows[0] ?? {};
  return { eventsPerSecond: events / seconds, seconds, bytesPerEvent: bytes / Math.max(held, 1) };
}

/** The archive's rate as rows. */
export function growthRows({ eventsPerSecond, seconds, bytesPerEvent }: Growth): DescribedRow[] {
  return [
    row('archive', `new events in the last ${seconds} seconds`, eventsPerSecond * seconds, 'count'),
    row('archive', 'new events a day at this rate', eventsPerSecond * DAY, 'estimate'),
    row('archive', 'growth in a day at this rate', eventsPerSecond * DAY * bytesPerEvent, 'bytes'),
  ];
}

/**
 * How many events are left, by a sample of the relays that are not caught up, and how long they take at the rate of new
 * events. Events that other relays brought already go faster, so it is an upper bound for what is known to be left.
 */
export async function backlogRows(query: Query, rate: Growth): Promise<DescribedRow[]> {
  const { rows } = await query<{ relays: number; sampled: number; known: number; left: number }>(
    `with behind as materialized (
         select relay_id, filter_id, wanted from visits where not is_part and not caught_up
     )
     select (select count(*) from behind) as relays, count(*) as sampled, count(e.events) as known,
            coalesce(sum(e.events), 0)::bigint as left
     from (select * from behind order by md5(relay_id || ' ' || filter_id) limit $1) s
     cross join lateral (
         select coalesce(range_agg(covered), '{}') as covered
         from coverage where relay_id = s.relay_id and filter_id = s.filter_id
     ) c
     cross join lateral (select events_left(s.relay_id, s.wanted, c.covered) as events) e`,
    [SAMPLED_RELAYS],
  );
  const { relays = 0, sampled = 0, known = 0, left = 0 } = rows[0] ?? {};
  if (relays === 0)
    return [row('coverage', 'done', 'every relay that was visited is read to its end', 'text')];
  const share = known / relays;
  const all = known === 0 ? null : Math.round(left / share);
  const basis = `a sample of ${sampled} of ${relays} relays not read to their end, ${known} of them with events to go by`;
  return [
    row('coverage', 'relays not read to their end', relays, 'count'),
    ...(all === null ? [] : [row('coverage', 'events left', all, 'estimate')]),
    row('coverage', 'done', doneBy(all, rate), 'text'),
    row('coverage', 'this estimate rests on', basis, 'text'),
  ];
}

function doneBy(left: number | null, { eventsPerSecond }: Growth): string {
  if (left === null) return 'not known: none of these relays has shown events yet';
  if (eventsPerSecond === 0) return 'not known: nothing new was stored in the last hour';
  const days = left / eventsPerSecond / DAY;
  const [count, unit] = days < 1 ? [Math.ceil(days * 24), 'hour'] : [Math.ceil(days), 'day'];
  const span = `${count} ${unit}${count === 1 ? '' : 's'}`;
  return `in at most ${span} at the rate of new events, if no more relays and events come`;
}

/** The relays that fail for longest, with what stopped their latest visit. */
export async function failingRows(query: Query): Promise<DescribedRow[]> {
  const { rows } = await query<{
    url: string;
    failures: number;
    since: string;
    reason: string | null;
    detail: string | null;
  }>(
    `select r.url, v.failures, utc_time(v.failing_since) as since, v.stop_reason as reason, v.detail
     from visits v
     join relays r on r.relay_id = v.relay_id
     where v.failures > 0 and not v.is_part
     order by r.priority desc, v.failing_since, r.url
     limit $1`,
    [SHOWN_RELAYS],
  );
  return rows.map(({ url, failures, since, reason, detail }) => {
    const times = `${failures} failed visit${failures === 1 ? '' : 's'} since ${since}`;
    return row('failing', url, `${reason ?? 'failed'}: ${detail ?? 'no detail'}; ${times}`, 'text');
  });
}

/** What could not be proven, by the reason of the hole, and what relays withhold. */
export async function unprovenRows(query: Query): Promise<DescribedRow[]> {
  const { rows } = await query<{ name: string; amount: number }>(
    `select 'holes: ' || reason as name, count(*) as amount from holes group by reason
     union all
     select 'withheld: ' || reason, count(*) from withheld group by reason
     union all
     select 'relays whose visits fail', count(*) from visits where failures > 0 and not is_part
     union all
     select 'relays not read: ' || reason, count(*) from unread_relays group by reason
     order by name`,
  );
  return rows.map(({ name, amount }) => row('not proven', name, amount, 'count'));
}
