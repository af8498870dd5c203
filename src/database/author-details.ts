import type { NostrEvent } from '../nostr/event.ts';
import type { Query } from './connection.ts';
import { eventFields } from './event-fields.ts';

/** What the archive knows of one author. Keys are hex. */

/** Figures of an author; null where nothing of the author is counted. */
export interface AuthorFigures {
  readonly events: number;
  readonly kinds: number;
  /** Unix seconds. */
  readonly firstEventAt: number | null;
  readonly lastEventAt: number | null;
  readonly follows: number;
  readonly followers: number;
}

export async function authorFigures(query: Query, pubkey: string): Promise<AuthorFigures | null> {
  const { rows } = await query<AuthorFigures & Record<string, unknown>>(
    `select coalesce(s.events, 0) as events, coalesce(kind_count(s.kinds), 0) as kinds,
            s.first_at as "firstEventAt", s.last_at as "lastEventAt",
            (select count(*) from follow_edges where follower_id = a.author_id) as follows,
            (select count(*) from follow_edges where followed_id = a.author_id) as followers
     from authors a
     left join scope_authors s on s.scope = 0 and s.author_id = a.author_id
     where a.pubkey = $1`,
    [Buffer.from(pubkey, 'hex')],
  );
  return rows[0] ?? null;
}

/** The current event of a replaceable kind; null without one. Found by the key of current_events. */
export async function currentEvent(
  query: Query,
  pubkey: string,
  kind: number,
): Promise<NostrEvent | null> {
  const { rows } = await query<NostrEvent & Record<string, unknown>>(
    `with wanted as materialized (
         select c.event_key from authors a
         join current_events c on c.author_id = a.author_id and c.kind = $2 and c.d_key = ''
         where a.pubkey = $1
     )
     select ${eventFields('e')} from events e
     where e.event_key = (select event_key from wanted) and e.created_day = (select event_key_day(event_key) from wanted)
     limit 1`,
    [Buffer.from(pubkey, 'hex'), kind],
  );
  return rows[0] ?? null;
}

/** Whom an author follows, or who follows an author, in the order of the keys of authors in the archive. */
export async function followsOf(
  query: Query,
  pubkey: string,
  side: 'follows' | 'followers',
  after: number | null,
  limit: number,
): Promise<{ authorId: number; pubkey: string }[]> {
  const [own, other] =
    side === 'follows' ? ['follower_id', 'followed_id'] : ['followed_id', 'follower_id'];
  const { rows } = await query<{ authorId: number; pubkey: string }>(
    `select f.${other} as "authorId", encode(o.pubkey, 'hex') as pubkey
     from authors a
     join follow_edges f on f.${own} = a.author_id
     join authors o on o.author_id = f.${other}
     where a.pubkey = $1 and ($2::integer is null or f.${other} > $2)
     order by f.${other} limit $3`,
    [Buffer.from(pubkey, 'hex'), after, limit],
  );
  return rows;
}
