import type { NostrEvent } from '../nostr/event.ts';
import type { Query } from './connection.ts';
import { dayGroups, dayOfKey } from './days.ts';
import { EVENT_BYTES, eventFields } from './event-fields.ts';

/** Events that were looked up by their keys. */
export interface EventBodies {
  /** By key; events that were deleted are missing. */
  readonly events: ReadonlyMap<string, NostrEvent>;
  /** How many of the keys these are: fewer than given where the bytes were reached. */
  readonly read: number;
  /** Bytes of content and tags. */
  readonly bytes: number;
}

type BodyRow = NostrEvent & { key: string; place: number; bytes: number } & Record<string, unknown>;

/**
 * Reads events by their keys, in the order of the keys, by one statement for each shard.
 *
 * @param bytes the events end with the one that reaches this many bytes of content and tags
 * @param shards number of shards of `events`
 */
export async function eventsByKeys(
  query: Query,
  keys: readonly string[],
  bytes: number,
  shards: number,
): Promise<EventBodies> {
  const placed = keys.map((key, place) => ({ key, place, day: dayOfKey(key) }));
  const found: BodyRow[] = [];
  for (const group of dayGroups(new Set(placed.map(({ day }) => day)), shards)) {
    const asked = placed.filter(({ day }) => group.has(day));
    const { rows } = await query<BodyRow>(BODIES, [
      asked.map(({ key }) => key),
      asked.map(({ place }) => place),
      bytes,
      shards > 1,
      group.days,
    ]);
    found.push(...rows);
  }
  found.sort((a, b) => a.place - b.place);
  const events = new Map<string, NostrEvent>();
  let sum = 0;
  for (const { key, place, bytes: own, ...event } of found) {
    events.set(key, event);
    sum += own;
    if (sum >= bytes) return { events, read: place + 1, bytes: sum };
  }
  return { events, read: keys.length, bytes: sum };
}

/** The size of an event is known without reading long ones. $4 and $5: where there are several servers, the days are named. */
const BODIES = `
select key::text, place, bytes, ${eventFields('e')}
from (
    select k.key, k.place, e.*, sum(e.bytes) over (order by k.place)::bigint as bytes_so_far
    from unnest($1::bigint[], $2::integer[]) as k (key, place)
    cross join lateral (
        select id, pubkey, created_at, kind, tags, content, sig, ${EVENT_BYTES} as bytes
        from events
        where (not $4 or created_day = any ($5)) and event_key = k.key and created_day = event_key_day(k.key) limit 1
    ) e
) e
where bytes_so_far - bytes < $3::bigint
order by place`;
