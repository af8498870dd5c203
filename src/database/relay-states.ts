import type { Query } from './connection.ts';
import type { Relay } from './relays.ts';

/** A change from up to down, or from down to up. */
export interface RelayStateChange {
  readonly state: 'up' | 'down';
  /** When the first check found it so, Unix seconds. */
  readonly since: number;
}

/** The latest change of a relay between up and down, whatever was unknown between; null: it has been one of them only. */
export async function latestStateChange(
  query: Query,
  { relayId }: Pick<Relay, 'relayId'>,
): Promise<RelayStateChange | null> {
  const { rows } = await query<{ state: 'up' | 'down'; since: number }>(
    `select state, from_at as since
     from (
         select state, from_at, lag(state) over (order by from_at) as before
         from relay_states where relay_id = $1 and state <> 'unknown'
     ) s
     where before <> state
     order by from_at desc limit 1`,
    [relayId],
  );
  return rows[0] ?? null;
}
