import type { ReqFilter } from '../../nostr/filter.ts';
import type { Gap, Window } from '../../nostr/window.ts';
import type { Visit } from '../visit.ts';
import { type Comparison, compareWindow } from './compare-window.ts';
import { fetchListed } from './fetch-listed.ts';

/**
 * Whether a relay listed all of a window, as NIP-77 requires. NIP-77 cannot signal a list that is truncated to the newest
 * N, or an index that is missing or stale.
 * - `whole`: no evidence against it.
 * - `cut`: the relay holds an event that it did not list.
 * - `dense`: the whole list lies in its oldest second, which may hold exactly these events or be truncated. Everything
 *   above and below that second was listed.
 * - `unknown`: a probe that decides it was not answered.
 */
export type ListCheck =
  | { readonly type: 'whole' }
  | { readonly type: 'cut' }
  | { readonly type: 'dense'; readonly second: number }
  | { readonly type: 'unknown' };

/** The result of a probe: `unknown` if the answer did not come to its end. */
type Shown = 'shown' | 'nothing' | 'unknown';

/** What is known of the windows that are reconciled. */
export interface ReconciledWindows {
  /** Whether they were covered, and are only proven anew. */
  readonly provenBefore: boolean;
  /** Whether they were just read page by page, and are only confirmed now. */
  readonly isPaged: boolean;
}

/** A list shorter than this is assumed not to be truncated within a second. */
const SMALLEST_CAP = 20;
/** A list must show one of this many newest known events: single events are replaced or deleted. */
const NEWEST_KNOWN = 3;

const WHOLE: ListCheck = { type: 'whole' };
const CUT: ListCheck = { type: 'cut' };
const UNKNOWN: ListCheck = { type: 'unknown' };

/**
 * Checks a list against known events of the relay, and by probes if these do not suffice. A list is believed if it
 * reaches down to the anchor, a known event below the gap, or shows next to no change of a window that was proven before.
 * Otherwise its end is probed: by REQ for an event older than all of it, and by NIP-77 for its oldest second alone, since
 * the list may be truncated in the middle of it. The events of the window have been stored or refused before this check.
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
  const beyond =
    below.since <= below.until ? await showsAny(visit, below, new Set(need)) : 'nothing';
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
  if (await listsMore(visit, again, list)) return CUT;
  if (again?.end.type !== 'done') return UNKNOWN;
  const inSecond = again.relayIds ?? 0;
  if (inSecond < (list.relayIds ?? 0) || inSecond < visit.nip77.longestList) return WHOLE;
  if (anchor === null || anchor >= second) return { type: 'dense', second };
  // A list down to a second with a known event is longer, unless the lists of this relay are limited to this length.
  const longer = await compareWindow(visit, { since: anchor, until: second });
  if (await listsMore(visit, longer, list)) return CUT;
  if (longer?.end.type !== 'done') return UNKNOWN;
  return (longer.relayIds ?? 0) > inSecond ? WHOLE : { type: 'dense', second };
}

/** Fetches events that a further list has and the first one lacked. @returns whether there are any */
async function listsMore(
  visit: Visit,
  further: Comparison | null,
  { need }: Comparison,
): Promise<boolean> {
  const listed = new Set(need);
  const more = further?.need.filter((id) => !listed.has(id)) ?? [];
  if (further && more.length > 0) await fetchListed(visit, { ...further, need: more }, false);
  return more.length > 0;
}

/** `created_at` of the oldest event listed whose time is known. */
async function oldestListed(visit: Visit, list: Comparison): Promise<number | null> {
  const needed = await visit.context.bigbrotr.oldestOf(visit.relay, list.need);
  if (needed === null || list.oldestShared === null) return needed ?? list.oldestShared;
  return Math.min(needed, list.oldestShared);
}

/** Whether the relay shows an event of a window. A listed event that did not arrive by its id may hide others there. */
async function showsAny(
  visit: Visit,
  { since, until }: Window,
  listed: ReadonlySet<string>,
): Promise<Shown> {
  const filter = { ...visit.context.filter, since, until, limit: 1 };
  let isListed = false;
  const shown = await shows(visit, filter, (id, createdAt) => {
    isListed ||= listed.has(id);
    return createdAt >= since && createdAt <= until && !listed.has(id);
  });
  return shown === 'nothing' && isListed ? 'unknown' : shown;
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
  let unreadable = 0; // events that may be the ones asked for
  const addUnreadable = (count: number) => {
    unreadable += count;
  };
  const add = (id: string, createdAt: number) => {
    shown ||= isWanted(id, createdAt);
    return true;
  };
  const patience = { lingerMs: visit.lingerMs };
  const end = await visit.askOptional(filter, { add, addUnreadable }, patience);
  if (shown) return 'shown';
  if (unreadable > 0) return 'unknown';
  await visit.checkLate();
  if (visit.proofs.distrusted) return 'unknown'; // its EOSE is not believed
  return end.type === 'eose' || end.type === 'finish' ? 'nothing' : 'unknown';
}
