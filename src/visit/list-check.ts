import type { Window } from '../nostr/filter.ts';
import type { Gap } from '../relay/paging.ts';
import type { Reconciliation } from '../relay/reconcile.ts';
import { compareWindow } from './compare-window.ts';
import type { Visit } from './visit.ts';

/**
 * Whether a relay listed all of a window, as NIP-77 asks for, or the newest so many, which it has no word for.
 * - `whole`: nothing speaks against it.
 * - `cut`: the relay holds what it did not list.
 * - `dense`: the whole list lies in its oldest second, and nothing tells a second that holds so many events from one
 *   that was cut there. What is above and below that second was listed.
 * - `unknown`: the relay did not answer when it was asked again.
 */
export type ListCheck =
  | { readonly type: 'whole' }
  | { readonly type: 'cut' }
  | { readonly type: 'dense'; readonly second: number }
  | { readonly type: 'unknown' };

/** A list shorter than this is not thought to be cut. */
const SMALLEST_CAP = 20;

/**
 * Asks the relay again about the end of its list: for an event older than all of them, by REQ, and for its oldest
 * second alone, by NIP-77, since a list may be cut in the middle of it. The window's events have been stored or
 * refused by now. Where it was proven before and next to nothing has changed since, the relay is believed.
 *
 * @throws DatabaseError
 */
export async function checkList(
  visit: Visit,
  window: Gap,
  list: Reconciliation,
  provenBefore: boolean,
): Promise<ListCheck> {
  const { need, have, relayIds } = list;
  const changed = need.length >= SMALLEST_CAP || have.length >= SMALLEST_CAP;
  if ((relayIds ?? 0) < SMALLEST_CAP && !changed) return { type: 'whole' };
  if (provenBefore && !changed) return { type: 'whole' };
  await visit.writer.flush();
  const oldest = await oldestListed(visit, list);
  if (oldest === null) return (await showsAny(visit, window)) ? { type: 'cut' } : { type: 'whole' };
  const below = { since: window.since, until: oldest - 1 };
  if (below.since <= below.until && (await showsAny(visit, below))) return { type: 'cut' };
  return checkSecond(visit, window, oldest, list);
}

async function checkSecond(
  visit: Visit,
  { anchor }: Gap,
  second: number,
  list: Reconciliation,
): Promise<ListCheck> {
  const again = await compareWindow(visit, { since: second, until: second });
  if (again?.end.type !== 'done') return { type: 'unknown' };
  const listed = new Set(list.need);
  if (again.need.some((id) => !listed.has(id))) return { type: 'cut' };
  const inSecond = again.relayIds ?? 0;
  if (inSecond < (list.relayIds ?? 0) || inSecond < visit.longestList) return { type: 'whole' };
  // Down to where it showed an event before, its list is longer, unless this is as long as its lists are.
  const longer =
    anchor === null ? null : await compareWindow(visit, { since: anchor, until: second });
  return (longer?.relayIds ?? 0) > inSecond ? { type: 'whole' } : { type: 'dense', second };
}

/** `created_at` of the oldest event listed whose time is known. */
async function oldestListed(visit: Visit, list: Reconciliation): Promise<number | null> {
  const needed = await visit.context.bigbrotr.oldestOf(visit.relay, list.need);
  if (needed === null || list.oldestShared === null) return needed ?? list.oldestShared;
  return Math.min(needed, list.oldestShared);
}

async function showsAny(visit: Visit, { since, until }: Window): Promise<boolean> {
  let shows = false;
  await visit.ask(
    { ...visit.context.filter, since, until, limit: 1 },
    {
      add: (_id, createdAt) => {
        shows ||= createdAt >= since && createdAt <= until;
        return true;
      },
    },
  );
  return shows;
}
