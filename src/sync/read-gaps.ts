import type { Gap, Window } from '../nostr/window.ts';
import type { Stopped, Verdict } from './paging/pager.ts';
import { type PagesEnd, readPages } from './paging/read-pages.ts';
import { withheldOf } from './reconcile/compare-window.ts';
import { retryWithheld } from './reconcile/fetch-listed.ts';
import { canReconcile, readReconciled } from './reconcile/read-reconciled.ts';
import { settleListed } from './reconcile/settle-listed.ts';
import { retryByKind } from './reconcile/withheld-kinds.ts';
import type { Visit } from './visit.ts';
import { boundsOf } from './windows.ts';

/** A window at least this long, in seconds, of which nothing is known is read page by page first. */
const LONG_WINDOW = 86_400;
/** Pages after which it is seen whether the archive has most of their events from other relays. */
const SAMPLE_PAGES = 2;
/** Events needed to decide: smaller samples say nothing. */
const SMALLEST_SAMPLE = 20;

/**
 * Reads gaps in the cheapest way. NIP-77 lists ids, which is cheap where most events are archived; where none are, the list
 * is an additional cost. Such gaps are read page by page, unless the first pages show mostly events that are archived
 * from other relays; then NIP-77 confirms them, and finds events that pages leave out.
 *
 * @param provenBefore whether these gaps were covered, and are only read anew
 * @throws DatabaseError
 */
export async function readGaps(
  visit: Visit,
  gaps: readonly Gap[],
  provenBefore: boolean,
): Promise<PagesEnd> {
  if (!canReconcile(visit)) return readPages(visit, gaps);
  for (const { isKnown, gaps: group } of await groupsOf(visit, gaps, provenBefore)) {
    const end = isKnown
      ? await readKnown(visit, group, provenBefore)
      : await readUnknown(visit, group, provenBefore);
    if (end.stopped !== null || end.interrupted !== null) return end;
    await reopen(visit);
  }
  return { stopped: null, interrupted: null };
}

/**
 * Settles what the relay has listed and not served, after all of the filter was read: until then pages prove nothing of
 * the seconds in which it may lie. @throws DatabaseError
 */
export async function settle(visit: Visit, end: PagesEnd): Promise<PagesEnd> {
  const interrupted = end.interrupted ?? (visit.listed.isEmpty ? null : visit.interruption());
  const isCutOff = end.stopped !== null || interrupted !== null;
  const stopped = await settleListed(visit, isCutOff);
  return { stopped: end.stopped ?? stopped, interrupted };
}

/**
 * Asks once more for what the relay has listed and given no answer for in an earlier visit: by one comparison, which names
 * it again where it still does. Pages have been read there, and say nothing of it. @throws DatabaseError
 */
export async function readUnanswered(visit: Visit, windows: readonly Window[]): Promise<PagesEnd> {
  const bounds = boundsOf(windows);
  if (bounds === null || visit.interruption() !== null || !canReconcile(visit))
    return { stopped: null, interrupted: null };
  const about = { provenBefore: true, isPaged: true };
  const window = { ...bounds, anchor: null };
  const { rest, interrupted } = await readReconciled(visit, [window], about);
  const isProven = rest.every(({ since, until }) => since > bounds.since || until < bounds.until);
  if (interrupted === null) await reopen(visit);
  await visit.writer.flush();
  const { bigbrotr, filterId } = visit.context;
  if (isProven) await bigbrotr.forgetUnanswered(visit.relay, filterId, bounds);
  return { stopped: null, interrupted };
}

/** Asks once more for what the relay withholds, where that is due. @throws DatabaseError */
export async function readWithheld(visit: Visit): Promise<void> {
  if (visit.interruption() === null && visit.session.connection.isOpen)
    await retryByKind(visit, () => retryWithheld(visit));
}

interface Group {
  readonly isKnown: boolean;
  readonly gaps: Gap[];
}

/** Newest first; apart are gaps that are long and in which the relay has shown nothing yet. */
async function groupsOf(
  visit: Visit,
  gaps: readonly Gap[],
  provenBefore: boolean,
): Promise<Group[]> {
  const groups: Group[] = [];
  for (const gap of [...gaps].sort((a, b) => b.until - a.until)) {
    const isLong = gap.until - gap.since >= LONG_WINDOW;
    const isKnown = provenBefore || !isLong || (await hasShown(visit, gap));
    const latest = groups.at(-1);
    if (latest?.isKnown === isKnown) latest.gaps.push(gap);
    else groups.push({ isKnown, gaps: [gap] });
  }
  return groups;
}

/** Its last second apart, in which the page has ended that was read before a visit was interrupted. */
async function hasShown({ relay, context }: Visit, gap: Gap): Promise<boolean> {
  if (typeof gap.known === 'number' && gap.known < gap.until) return true;
  const below = { since: gap.since, until: gap.until - 1 };
  for await (const records of context.bigbrotr.sightedRecords(relay, context.filter, below))
    if (records.length > 0) return true;
  return false;
}

/** By NIP-77; page by page what that leaves, but for what pages have settled already. */
async function readKnown(
  visit: Visit,
  gaps: readonly Gap[],
  provenBefore: boolean,
  settled: readonly Window[] = [],
): Promise<PagesEnd> {
  const left = (rest: readonly Gap[]) => rest.flatMap((gap) => without(gap, settled));
  if (!canReconcile(visit)) return readPages(visit, left(gaps));
  const { rest, interrupted } = await readReconciled(visit, gaps, { provenBefore, isPaged: false });
  if (interrupted !== null) return { stopped: null, interrupted };
  await reopen(visit);
  return readPages(visit, left(rest));
}

/** A connection that was lost during NIP-77 is replaced: it is no failure of paging. */
async function reopen(visit: Visit): Promise<void> {
  if (!visit.session.connection.isOpen) await visit.reconnect();
}

async function readUnknown(
  visit: Visit,
  gaps: readonly Gap[],
  provenBefore: boolean,
): Promise<PagesEnd> {
  const { settled, isHandedOver, stopped, interrupted } = await readFirstPages(visit, gaps);
  if (interrupted !== null || visit.refusal !== null) return { stopped, interrupted };
  if (isHandedOver) return readKnown(visit, gaps, provenBefore, settled);
  if (visit.proofs.distrusted) return { stopped, interrupted }; // what pages have settled was taken back
  const rest = gaps.flatMap((gap) => without(gap, settled));
  // Where paging has stopped NIP-77 may do; what that leaves would stop it again.
  if (stopped !== null) return reconcileAfterStop(visit, rest, stopped);
  if (visit.intake.good > 0) await confirm(visit, gaps); // the silence of a relay is asked for anew each time
  return { stopped: null, interrupted: null };
}

async function reconcileAfterStop(
  visit: Visit,
  gaps: readonly Gap[],
  stopped: Stopped,
): Promise<PagesEnd> {
  if (!canReconcile(visit)) return { stopped, interrupted: null };
  const about = { provenBefore: false, isPaged: false };
  const { rest, interrupted } = await readReconciled(visit, gaps, about);
  return { stopped: rest.length > 0 && interrupted === null ? stopped : null, interrupted };
}

interface FirstPagesEnd extends PagesEnd {
  /** What was proven, and holes. */
  readonly settled: Window[];
  /** Whether the archive has most of it, so that NIP-77 goes on. */
  readonly isHandedOver: boolean;
}

/** Reads page by page, unless the archive has most of what the first pages show. */
async function readFirstPages(visit: Visit, gaps: readonly Gap[]): Promise<FirstPagesEnd> {
  const settled: Window[] = [];
  let pages = 0;
  let isHandedOver = false;
  const before = { ...visit.stored };
  const onPage = async ({ proven, holes }: Verdict): Promise<boolean> => {
    settled.push(...proven, ...holes);
    pages += 1;
    if (pages > SAMPLE_PAGES) return false;
    await visit.writer.flush();
    const shown = visit.stored.sightings - before.sightings;
    const fresh = visit.stored.events - before.events;
    isHandedOver = shown >= SMALLEST_SAMPLE && fresh * 2 < shown;
    return isHandedOver;
  };
  const end = await readPages(visit, gaps, onPage);
  return { ...end, settled, isHandedOver };
}

/** What windows leave of a gap. */
function without(gap: Gap, windows: readonly Window[]): Gap[] {
  let parts: Gap[] = [gap];
  for (const { since, until } of windows) {
    parts = parts.flatMap((part) => {
      if (until < part.since || since > part.until) return [part];
      return [
        { since: part.since, until: since - 1, anchor: part.anchor },
        { since: until + 1, until: part.until, anchor: null },
      ].filter((left) => left.since <= left.until);
    });
  }
  return parts;
}

/**
 * One comparison for each gap that was just read page by page: nearly all is known, so that it costs little. With it goes
 * what was read before without such a comparison, as when a first visit takes several. What it does not prove stays
 * proven by pages.
 */
async function confirm(visit: Visit, gaps: readonly Gap[]): Promise<void> {
  const { withheld } = visit.context.bigbrotr;
  const windows: Gap[] = [];
  for (const gap of gaps) {
    if (!canReconcile(visit)) return;
    const window = await withheld.pagedAround(withheldOf(visit), gap);
    const anchor = window.since === gap.since ? gap.anchor : null;
    if (!windows.some(({ since }) => since === window.since)) windows.push({ ...window, anchor });
  }
  await readReconciled(visit, windows, { provenBefore: true, isPaged: true });
}
