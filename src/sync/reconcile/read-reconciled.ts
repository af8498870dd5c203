import { mayReconcile, type Nip77Obstacle, withoutNip77 } from '../../network/relay-policy.ts';
import { isFilterRefusal } from '../../nostr/filter-refusal.ts';
import { type Refusal, refusalOf } from '../../nostr/message.ts';
import type { Gap, Window } from '../../nostr/window.ts';
import type { Visit } from '../visit.ts';
import type { Interruption } from '../visit-stop.ts';
import { boundsOf, minus } from '../windows.ts';
import { compareLarge, type LargeComparison } from './compare-large.ts';
import { type Comparison, compareWindow, withheldOf } from './compare-window.ts';
import { fetchListed } from './fetch-listed.ts';
import { checkList, type ReconciledWindows } from './list-check.ts';

/** The gaps that reconciliation left to paging, and why it stopped. */
export interface ReconciledEnd {
  readonly rest: Gap[];
  readonly interrupted: Interruption | null;
}

/** Nostr began in November 2020: a window that starts earlier is halved from there. */
const GENESIS = 1_604_188_800;
const NIP = 77;
/** Maximum number of windows in a row that a relay refuses as too large: halving reaches a single second after 28. */
const MAX_BLOCKED_IN_A_ROW = 32;
const MAX_BLOCKED = 300;
/** Maximum number of windows of missing listed events that are paged separately. */
const MAX_WINDOWS_TO_PAGE = 4;

/**
 * Whether gaps of this relay may be reconciled: it claims NIP-77, has not refused it, and the archive can evaluate the
 * filter itself.
 */
export function canReconcile({ terms, policy, context, session }: Visit): boolean {
  const hasTags = Object.keys(context.filter).some((key) => key.startsWith('#'));
  return (
    !hasTags &&
    (terms.supportedNips ?? []).includes(NIP) &&
    mayReconcile(policy.current, context.now()) &&
    session.connection.isOpen
  );
}

/**
 * Closes gaps by NIP-77: compares the events of a window that this relay is known to hold with those that it lists. For
 * an archived event a sighting is stored without its body; the others are fetched by id. A finished comparison proves the
 * window when its events have all arrived or are recorded as withheld. If NIP-77 fails, it ends for this relay for a while
 * and the rest is left to paging.
 *
 * @throws DatabaseError
 */
export async function readReconciled(
  visit: Visit,
  gaps: readonly Gap[],
  about: ReconciledWindows,
): Promise<ReconciledEnd> {
  const windows = [...gaps].sort((a, b) => a.until - b.until);
  const rest: Gap[] = [];
  const end = (interrupted: Interruption | null = null) => ({
    rest: [...rest, ...windows],
    interrupted,
  });
  for (let window = windows.at(-1); window; window = windows.at(-1)) {
    const interrupted = visit.interruption();
    if (interrupted) return end(interrupted);
    if (!canReconcile(visit)) return end(); // NIP-77 has ended during this reading
    const { since, until, anchor } = window;
    const result = await compareWindow(visit, { since: anchor ?? since, until });
    // What was proven before is mostly unchanged.
    const large = !result && about.provenBefore ? await compareLarge(visit, window) : null;
    const compared = result ?? large;
    const step = compared ? await judge(visit, compared) : 'halve';
    if (result && isBrokenOff(result)) await fetchListed(visit, result, about.isPaged);
    if (step === 'again') continue;
    if (step === 'give up') return end();
    if (step === 'interrupted') return end('stopped');
    if (step === 'fetch some' && result && (await fetchSome(visit, result, about))) continue;
    windows.pop();
    if (large && step === 'fetch') windows.push(...(await proveSame(visit, large)));
    else if (step === 'halve' || !result) {
      const halves = halve(window);
      if (halves) windows.push(...halves);
      else rest.push(window);
    } else if (step === 'fetch some') rest.push(window);
    else rest.push(...(await prove(visit, window, result, about)));
  }
  return end();
}

/** Whether the session broke off after it listed ids that the archive lacks. */
function isBrokenOff({ end, need }: Comparison): boolean {
  const isFull = end.type === 'blocked' && end.isFull === true; // handled by `fetchSome`
  return end.type !== 'done' && !isFull && need.length > 0;
}

/** Fetches the first part of a list that is too long for one comparison. @returns whether any event was stored or recorded as withheld */
async function fetchSome(
  visit: Visit,
  result: Comparison,
  { isPaged }: ReconciledWindows,
): Promise<boolean> {
  const { withheld } = visit.context.bigbrotr;
  const known = async () =>
    visit.stored.sightings + visit.stored.quarantined + (await withheld.count(withheldOf(visit)));
  const before = await known();
  await fetchListed(visit, result, isPaged);
  await visit.writer.flush();
  return (await known()) > before;
}

/** Fetches the missing events of a window and stores what is proven. @returns the gaps that are left to paging */
async function prove(
  visit: Visit,
  window: Gap,
  result: Comparison,
  about: ReconciledWindows,
): Promise<Gap[]> {
  const lost = await fetchListed(visit, result, about.isPaged);
  if (lost.length > 0 && visit.interruption() !== null) return [window];
  if (result.need.length > 0) await visit.writer.flush();
  const check = await checkList(visit, window, result, about);
  if (check.type === 'cut') endNip77(visit, 'cut');
  if (check.type === 'cut' || check.type === 'unknown') return [window];
  await visit.context.bigbrotr.withheld.forget(withheldOf(visit), result.gone);
  const second = check.type === 'dense' && check.second >= window.since ? check.second : null;
  const whole =
    second === null ? { proven: [windowOf(window)], rest: [] } : takeOut(second, window);
  const unread = about.isPaged ? lost : toPage(lost);
  const proven = minus(whole.proven, unread);
  const rest = [...whole.rest, ...unread.map((part) => ({ ...part, anchor: null }))];
  await visit.proofs.add('nip77', { proven, holes: [], evidence: 'nip77' });
  return rest;
}

/** Stores the proof of the parts of a large window that are the same. @returns those that differ */
async function proveSame(
  visit: Visit,
  { same, different }: LargeComparison,
): Promise<readonly Gap[]> {
  if (same.length > 0)
    await visit.proofs.add('nip77', { proven: same, holes: [], evidence: 'nip77' });
  return different;
}

/** Windows of listed events that did not arrive, merged where there are too many to page separately. */
function toPage(lost: readonly Window[]): readonly Window[] {
  const bounds = boundsOf(lost);
  return lost.length > MAX_WINDOWS_TO_PAGE && bounds !== null ? [bounds] : lost;
}

function windowOf({ since, until }: Gap): Window {
  return { since, until };
}

/** Splits a window into the part without one of its seconds, and that second, which is left to paging. */
function takeOut(second: number, { since, until, anchor }: Gap): { proven: Window[]; rest: Gap[] } {
  const around = [
    { since, until: second - 1 },
    { since: second + 1, until },
  ];
  return {
    proven: around.filter((part) => part.since <= part.until),
    rest: [{ since: second, until: second, anchor, known: second }],
  };
}

type Judgement = 'fetch' | 'fetch some' | 'halve' | 'again' | 'give up' | 'interrupted';

async function judge(
  visit: Visit,
  { end, relayIds }: Pick<Comparison, 'end' | 'relayIds'>,
): Promise<Judgement> {
  const { nip77 } = visit;
  switch (end.type) {
    case 'done':
      nip77.blockedInARow = 0;
      nip77.longestList = Math.max(nip77.longestList, relayIds ?? 0);
      return 'fetch';
    case 'blocked':
      return end.isFull ? 'fetch some' : judgeBlocked(visit);
    case 'unsupported':
      return endNip77(visit, 'unsupported');
    case 'failed':
      if (end.reason === 'aborted') return 'interrupted';
      if (end.reason !== 'refused') return endNip77(visit, 'failed');
      if (await visit.authenticateFor(end.text)) return 'again';
      return judgeRefusal(visit, refusalOf(end.text));
  }
}

/** Halving a window helps only if some window is small enough. */
function judgeBlocked(visit: Visit): Judgement {
  const { nip77 } = visit;
  nip77.longestList = Number.POSITIVE_INFINITY;
  nip77.blocked += 1;
  nip77.blockedInARow += 1;
  const isHopeless = nip77.blockedInARow >= MAX_BLOCKED_IN_A_ROW || nip77.blocked >= MAX_BLOCKED;
  return isHopeless ? endNip77(visit, 'too_large') : 'halve';
}

/** A refusal of the filter is not one of NIP-77: paging divides the filter, and its parts are tried by NIP-77 again. */
function judgeRefusal(visit: Visit, refusal: Refusal): 'give up' {
  if (isFilterRefusal(refusal)) return 'give up';
  return endNip77(visit, refusal === 'limit' || refusal === 'other' ? 'failed' : refusal);
}

function endNip77(visit: Visit, why: Nip77Obstacle): 'give up' {
  visit.policy.update((policy) => withoutNip77(policy, why, visit.context.now()));
  return 'give up';
}

/** The newer half is last, and read first; null for a single second. */
function halve(window: Gap): [Gap, Gap] | null {
  const { since, until, anchor } = window;
  if (since === until) return null;
  const from = until > GENESIS ? Math.max(since, GENESIS) : since;
  const middle = Math.min(Math.floor((from + until) / 2), until - 1);
  return [
    { since, until: middle, anchor },
    { since: middle + 1, until, anchor: null },
  ];
}
