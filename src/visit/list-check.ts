import type { ReqFilter, Window } from '../nostr/filter.ts';
import type { Gap } from '../relay/paging.ts';
import { type Comparison, compareWindow } from './compare-window.ts';
import type { Visit } from './visit.ts';

/**
 * Whether a relay listed all of a window, as NIP-77 asks for. NIP-77 cannot signal a list that is cut to the newest N,
 * nor that of an index that was not built or is behind.
 * - `whole`: nothing speaks against it.
 * - `cut`: the relay holds what it did not list.
 * - `dense`: the whole list lies in its oldest second, and nothing tells a second that holds so many events from one
 *   that was cut there. What is above and below that second was listed.
 * - `unknown`: a question that decides it was not answered.
 */
export type ListCheck =
  | { readonly type: 'whole' }
  | { readonly type: 'cut' }
  | { readonly type: 'dense'; readonly second: number }
  | { readonly type: 'unknown' };

/** What a relay shows when it is asked for something: `unknown` where it did not answer to the end. */
type Shown = 'shown' | 'nothing' | 'unknown';

/** What is known of the windows that are reconciled. */
export interface ReconciledWindows {
  /** Whether they were covered, and are only read anew. */
  readonly provenBefore: boolean;
  /** Whether they were just read page by page, and are only confirmed. */
  readonly isPaged: boolean;
}

/** A list shorter than this is not thought to be cut within a second. */
const SMALLEST_CAP = 20;
/** Newest known events of which a list must show one: single ones are replaced or deleted. */
const NEWEST_KNOWN = 3;

const WHOLE: ListCheck = { type: 'whole' };
const CUT: ListCheck = { type: 'cut' };
const UNKNOWN: ListCheck = { type: 'unknown' };

/**
 * Tests a list against what is known of the relay, and where that does not suffice by asking it again. A list that
 * reaches down to the anchor, a known event below the gap, or that shows next to no change where the window was
 * proven before, is believed. Of another the end is looked for: an event older than all of it by REQ, and its oldest
 * second alone by NIP-77, since a list may be cut in the middle of it. The window's events have been stored or refused
 * by now.
 *
 * @throws DatabaseError
 */
export async function checkList(
  visit: Visit,
  gap: Gap,
  list: Comparison,
  { provenBefore, isPaged }: ReconciledWindows,
): Promise<ListCheck> {
  await visit.writer.flush();
  const newest = newestUnlisted(list);
  const shown = newest.length > 0 ? await showsIds(visit, newest) : 'nothing';
  if (shown !== 'nothing') return shown === 'shown' ? CUT : UNKNOWN;
  if (listsAnchor(gap, list)) return WHOLE;
  const { need, have, relayIds } = list;
  const isEmpty = (relayIds ?? 0) === 0;
  const changed = need.length >= SMALLEST_CAP || have.length >= SMALLEST_CAP;
  if (provenBefore && !changed && (!isEmpty || isPaged)) return WHOLE;
  const oldest = isEmpty ? null : await oldestListed(visit, list);
  const below = { since: list.window.since, until: oldest === null ? gap.until : oldest - 1 };
  const beyond = below.since <= below.until ? await showsAny(visit, below) : 'nothing';
  if (beyond !== 'nothing') return beyond === 'shown' ? CUT : UNKNOWN;
  const isShort = (relayIds ?? 0) < SMALLEST_CAP && !changed;
  return oldest === null || isShort ? WHOLE : checkSecond(visit, gap, oldest, list);
}

/** The newest events that the relay was known to hold, where its list has none of them. */
function newestUnlisted({ local, have }: Comparison): string[] {
  const missing = new Set(have);
  const newest: string[] = [];
  for (let position = local.size - 1; position >= 0 && newest.length < NEWEST_KNOWN; position--) {
    if (local.unplaced.has(position)) continue;
    if (!missing.has(position)) return [];
    newest.push(local.id(position));
  }
  return newest;
}

/** Whether the list shows a known event from below the gap. */
function listsAnchor({ since }: Gap, { local, have }: Comparison): boolean {
  const missing = new Set(have);
  for (let position = 0; position < local.size && local.createdAt(position) < since; position++) {
    if (!missing.has(position) && !local.unplaced.has(position)) return true;
  }
  return false;
}

async function checkSecond(
  visit: Visit,
  { anchor }: Gap,
  second: number,
  list: Comparison,
): Promise<ListCheck> {
  const again = await compareWindow(visit, { since: second, until: second });
  if (again?.end.type !== 'done') return UNKNOWN;
  const listed = new Set(list.need);
  if (again.need.some((id) => !listed.has(id))) return CUT;
  const inSecond = again.relayIds ?? 0;
  if (inSecond < (list.relayIds ?? 0) || inSecond < visit.nip77.longestList) return WHOLE;
  if (anchor === null || anchor >= second) return { type: 'dense', second };
  // Down to where it showed an event before, its list is longer, unless this is as long as its lists are.
  const longer = await compareWindow(visit, { since: anchor, until: second });
  if (longer?.end.type !== 'done') return UNKNOWN;
  return (longer.relayIds ?? 0) > inSecond ? WHOLE : { type: 'dense', second };
}

/** `created_at` of the oldest event listed whose time is known. */
async function oldestListed(visit: Visit, list: Comparison): Promise<number | null> {
  const needed = await visit.context.bigbrotr.oldestOf(visit.relay, list.need);
  if (needed === null || list.oldestShared === null) return needed ?? list.oldestShared;
  return Math.min(needed, list.oldestShared);
}

function showsAny(visit: Visit, { since, until }: Window): Promise<Shown> {
  const filter = { ...visit.context.filter, since, until, limit: 1 };
  return shows(visit, filter, (_id, createdAt) => createdAt >= since && createdAt <= until);
}

function showsIds(visit: Visit, ids: readonly string[]): Promise<Shown> {
  return shows(visit, { ids, limit: ids.length }, (id) => ids.includes(id));
}

async function shows(
  visit: Visit,
  filter: ReqFilter,
  isWanted: (id: string, createdAt: number) => boolean,
): Promise<Shown> {
  let shown = false;
  const add = (id: string, createdAt: number) => {
    shown ||= isWanted(id, createdAt);
    return true;
  };
  const end = await visit.askOptional(filter, { add }, { lingerMs: visit.lingerMs });
  if (shown) return 'shown';
  await visit.checkLate();
  if (visit.distrust) return 'unknown'; // its EOSE is no end
  return end.type === 'eose' || end.type === 'finish' ? 'nothing' : 'unknown';
}
