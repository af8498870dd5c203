import type { EventFilter } from '../../src/nostr/filter.ts';
import { signedEvent } from './events.ts';
import type { ScriptedRelay } from './scripted-relay.ts';
import { visitBench } from './visit-bench.ts';
import type { VisitOptions } from './visit-context.ts';

/** The time of every visit of a `filterBench`, Unix seconds. */
export const T = Math.floor(Date.now() / 1000) - 10;
export const KINDS = [
  ...[0, 1, 3, 5, 6, 7, 16, 20, 21, 22],
  ...[1111, 1984, 9734, 9735, 10000, 10002, 10050, 30023, 30024, 30311],
];
/** Three of each kind. */
export const EVENTS = KINDS.flatMap((kind, place) =>
  [1, 2, 3].map((number) =>
    signedEvent({ kind, created_at: T - 40_000 + place * 500 + number, content: `${number}` }),
  ),
);

/** For tests of filters that a relay refuses for their shape: relays with `EVENTS`, visits at `T`, and what is known afterwards. */
export async function filterBench() {
  const { archive, start } = await visitBench({ events: EVENTS });

  const visit = (relay: ScriptedRelay, filter: EventFilter, options: VisitOptions = {}) =>
    archive.visit(relay.url, { filter, now: () => T, stopTimestamp: T, ...options });

  async function coverage({ url }: ScriptedRelay) {
    return archive.db.query<Record<string, unknown>>(
      `select filter, share::float as share, asked_by, filters_asked::integer as filters_asked, outcome, detail,
              asked_share::float as asked_share
       from relay_coverage where relay_url = $1`,
      [url],
    );
  }

  async function coveredOf({ url }: ScriptedRelay, filter: EventFilter): Promise<string> {
    const id = await archive.bigbrotr.filterId(filter);
    const [row] = await archive.db.query<{ covered: string }>(
      `select coalesce(range_agg(covered), '{}')::text as covered
       from coverage join relays using (relay_id) where url = $1 and filter_id = $2`,
      [url, id],
    );
    return `${row?.covered}`;
  }

  async function manners({ url }: ScriptedRelay) {
    const [row] = await archive.db.query<Record<string, unknown>>(
      `select reason, refusals, max_filter_values from relay_manners join relays using (relay_id) where url = $1`,
      [url],
    );
    return row;
  }

  return { archive, start, visit, coverage, coveredOf, manners };
}
