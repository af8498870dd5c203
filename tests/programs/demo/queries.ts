/** Questions that an archive can answer, as anyone would ask them in psql. */
export interface ExampleQuery {
  readonly question: string;
  readonly sql: string;
}

export const EXAMPLE_QUERIES: readonly ExampleQuery[] = [
  {
    question: 'Which relays can be read, the fastest first (milliseconds)?',
    sql: `select relay_url, rtt_open, rtt_read, rtt_write
from readable_relays`,
  },
  {
    question: 'How were they found?',
    sql: `select relay_url, state, first_source, times, authors, left(encode(first_author, 'hex'), 16) as first_author
from relay_provenance order by answered_at, relay_url`,
  },
  {
    question: 'Which names have not answered yet, and why?',
    sql: `select relay_url, first_source, tries, reason, (next_try_at - last_try_at) / 60 as minutes_to_the_next_try
from relay_candidates`,
  },
  {
    question: 'Which kinds of events are there most?',
    sql: `select kind, count(*) as events, to_timestamp(min(created_at))::date as first,
       to_timestamp(max(created_at))::date as last
from events
group by kind order by events desc limit 8`,
  },
  {
    question: 'Which events are held by the most relays?',
    sql: `select left(encode(event_id, 'hex'), 16) as id, count(*) as relays
from events_relays
group by event_id order by relays desc, id limit 5`,
  },
  {
    question: 'How much of each relay is proven complete?',
    sql: `select relay_url, share, gaps, holes, outcome, to_timestamp(last_second)::timestamp(0) as until
from relay_coverage order by relay_url`,
  },
  {
    question: 'Which software do relays run, by their own word (NIP-11)?',
    sql: `select software, count(*) as relays
from relay_metadata_latest
where nip11_id is not null
group by software order by relays desc, software`,
  },
];
