import type { Window } from '../nostr/filter.ts';
import { isFilterRefusal } from '../nostr/filter-refusal.ts';
import { type Refusal, refusalOf } from '../nostr/message.ts';
import { mayReconcile, type Nip77Obstacle, withoutNip77 } from '../relay/manners.ts';
import type { Gap } from '../relay/paging.ts';
import { type Comparison, compareWindow, withheldOf } from './compare-window.ts';
import { fetchListed } from './fetch-listed.ts';
import { checkList, type ReconciledWindows } from './list-check.ts';
import type { Visit } from './visit.ts';

/** What reconciling left to be read page by page, and why it stopped where it did. */
export interface ReconciledEnd {
  readonly rest: Gap[];
  readonly interrupted: string | null;
}

/** Nostr began in November 2020: a window from 1970 on is halved from there. */
const GENESIS = 1_604_188_800;
const NIP = 77;
/** Windows that a relay may call too large: a single second is reached after 28 in a row. */
const MAX_BLOCKED_IN_A_ROW = 32;
const MAX_BLOCKED = 300;

/**
 * Whether gaps of this relay may be reconciled: it says that it does NIP-77, was not found not to, and the filter is
 * one that the archive can answer by itself.
 */
export function canReconcile({ terms, manners, context, session }: Visit): boolean {
  const hasTags = Object.keys(context.filter).some((key) => key.startsWith('#'));
  return (
    !hasTags &&
    (terms.supportedNips ?? []).includes(NIP) &&
    mayReconcile(manners, context.now()) &&
    session.connection.isOpen
  );
}

/**
 * Closes gaps by NIP-77: the events of a window that this relay is known to hold are compared with those it says it
 * holds. An event that the archive has becomes a sighting without its body, the others are fetched by id. A finished
 * comparison whose events have all come, or are remembered as withheld, proves the window. However NIP-77 fails, it
 * ends for this relay for a while and the rest is left to paging.
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
  const end = (interrupted: string | null = null) => ({ rest: [...rest, ...windows], interrupted });
  for (let window = windows.at(-1); window; window = windows.at(-1)) {
    const interrupted = visit.interruption();
    if (interrupted) return end(interrupted);
    if (!canReconcile(visit)) return end(); // it was found out meanwhile
    const { since, until, anchor } = window;
    const result = await compareWindow(visit, { since: anchor ?? since, until });
    const step = result ? await judge(visit, result) : 'halve';
    if (step === 'again') continue;
    if (step === 'give up') return end();
    if (step === 'interrupted') return end('stopped');
    if (step === 'fetch some' && result && (await fetchSome(visit, result, about))) continue;
    windows.pop();
    if (step === 'halve' || !result) {
      const halves = halve(window);
      if (halves) windows.push(...halves);
      else rest.push(window);
    } else if (step === 'fetch some') rest.push(window);
    else rest.push(...(await prove(visit, window, result, about)));
  }
  return end();
}

/** Fetches the first part of a list that is longer than is taken at once. @returns whether the archive knows more of it now */
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

/** Fetches what the archive lacks of a window; what is proven then is stored. @returns what paging has to prove */
async function prove(
  visit: Visit,
  window: Gap,
  result: Comparison,
  about: ReconciledWindows,
): Promise<Gap[]> {
  const refused = visit.intake.notKept;
  if (!(await fetchListed(visit, result, about.isPaged))) return [window];
  if (result.need.length > 0) await visit.writer.flush();
  // Of what the quarantine had no room for nothing is known: it would seem that the relay holds what it did not list.
  if (visit.intake.notKept > refused) return [window];
  const check = await checkList(visit, window, result, about);
  if (check.type === 'cut') endNip77(visit, 'cut');
  if (check.type === 'cut' || check.type === 'unknown') return [window];
  await visit.context.bigbrotr.withheld.forget(withheldOf(visit), result.gone);
  const second = check.type === 'dense' && check.second >= window.since ? check.second : null;
  const { proven, rest } =
    second === null ? { proven: [windowOf(window)], rest: [] } : takeOut(second, window);
  visit.proved ||= proven.length > 0;
  visit.claims.note(visit.context.filterId, 'nip77', proven);
  await visit.writer.endPage({ proven, holes: [], evidence: 'nip77' });
  return rest;
}

function windowOf({ since, until }: Gap): Window {
  return { since, until };
}

/** A window without one of its seconds, and that second, which paging takes for itself. */
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

async function judge(visit: Visit, { end, relayIds }: Comparison): Promise<Judgement> {
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

/** Halving a window helps only where some window is small enough. */
function judgeBlocked(visit: Visit): Judgement {
  const { nip77 } = visit;
  nip77.longestList = Number.POSITIVE_INFINITY;
  nip77.blocked += 1;
  nip77.blockedInARow += 1;
  const isHopeless = nip77.blockedInARow >= MAX_BLOCKED_IN_A_ROW || nip77.blocked >= MAX_BLOCKED;
  return isHopeless ? endNip77(visit, 'too_large') : 'halve';
}

/** A refusal of the filter says nothing of NIP-77: paging divides the filter, and its parts are tried by NIP-77 again. */
function judgeRefusal(visit: Visit, refusal: Refusal): 'give up' {
  if (isFilterRefusal(refusal)) return 'give up';
  return endNip77(visit, refusal === 'limit' || refusal === 'other' ? 'failed' : refusal);
}

function endNip77(visit: Visit, why: Nip77Obstacle): 'give up' {
  visit.manners = withoutNip77(visit.manners, why, visit.context.now());
  return 'give up';
}

/** The newer half comes last, to be taken first; null when there is nothing to halve. */
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
