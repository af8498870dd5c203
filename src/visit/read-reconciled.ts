import { crashPoint } from '../crash-point.ts';
import type { Window } from '../nostr/filter.ts';
import { afterLostReconciliation, mayReconcile } from '../relay/manners.ts';
import type { Gap } from '../relay/paging.ts';
import type { Reconciliation } from '../relay/reconcile.ts';
import { compareWindow } from './compare-window.ts';
import { checkList } from './list-check.ts';
import type { Visit } from './visit.ts';

/** What reconciling left to be read page by page, and why it stopped where it did. */
export interface ReconciledEnd {
  readonly rest: Gap[];
  /** The relay refuses or is gone: paging would fare no better. */
  readonly stopped: string | null;
  readonly interrupted: string | null;
}

/** Ids asked for in one REQ: 67 bytes each, within the 64 KB of message that relays take unless they say otherwise. */
const IDS_A_REQ = 500;
const BYTES_AN_ID = 67;
/** A REQ without its ids. */
const ENVELOPE = 64;
/** Nostr began in November 2020: a window from 1970 on is halved from there. */
const GENESIS = 1_604_188_800;
const NIP = 77;

/**
 * Whether gaps of this relay may be reconciled: it says that it does NIP-77, was not found not to, and the filter is
 * one that the archive can answer by itself.
 */
export function canReconcile({ terms, manners, context }: Visit): boolean {
  const hasTags = Object.keys(context.filter).some((key) => key.startsWith('#'));
  return (
    !hasTags && (terms.supportedNips ?? []).includes(NIP) && mayReconcile(manners, context.now())
  );
}

/**
 * Closes gaps by NIP-77: the events of a window that this relay is known to hold are compared with those it says it
 * holds. An event that the archive has becomes a sighting without its body, the others are fetched by id. A finished
 * comparison whose events have all come proves the window.
 *
 * @param provenBefore whether these gaps were covered, and are only read anew
 * @throws DatabaseError
 */
export async function readReconciled(
  visit: Visit,
  gaps: readonly Gap[],
  provenBefore: boolean,
): Promise<ReconciledEnd> {
  const windows = [...gaps].sort((a, b) => a.until - b.until);
  const rest: Gap[] = [];
  const end = (why: { stopped?: string; interrupted?: string } = {}): ReconciledEnd => ({
    rest: [...rest, ...windows],
    stopped: why.stopped ?? null,
    interrupted: why.interrupted ?? null,
  });
  for (let window = windows.at(-1); window; window = windows.at(-1)) {
    const interrupted = visit.interruption();
    if (interrupted) return end({ interrupted });
    if (!canReconcile(visit)) return end(); // it was found out meanwhile
    const result = await compareWindow(visit, window);
    const step = result ? await judge(visit, result) : 'halve';
    if (visit.refusal !== null) return end({ stopped: `${visit.refusal} during NIP-77` });
    if (step === 'again') continue;
    if (step === 'give up') return end();
    if (step === 'interrupted') return end({ interrupted: 'stopped' });
    windows.pop();
    if (step === 'halve' || !result) {
      const halves = halve(window);
      if (halves) windows.push(...halves);
      else rest.push(window);
    } else rest.push(...(await prove(visit, window, result, provenBefore)));
    if (visit.refusal !== null) return end({ stopped: `${visit.refusal} during NIP-77` });
  }
  return end();
}

/** Fetches what the archive lacks of a window; what is proven then is stored. @returns what paging has to prove */
async function prove(
  visit: Visit,
  window: Gap,
  result: Reconciliation,
  provenBefore: boolean,
): Promise<Gap[]> {
  const refused = visit.notKept;
  if (!(await fetchNeeded(visit, result.need))) return [window];
  if (result.need.length > 0) await visit.writer.flush();
  // Of what the quarantine had no room for nothing is known: it would seem that the relay holds what it did not list.
  if (visit.notKept > refused) return [window];
  const check = await checkList(visit, window, result, provenBefore);
  if (check.type === 'cut')
    visit.manners = { ...visit.manners, nip77RefusedAt: visit.context.now() };
  if (check.type === 'cut' || check.type === 'unknown') return [window];
  const { proven, rest } =
    check.type === 'whole' ? { proven: [window], rest: [] } : takeOut(check.second, window);
  visit.proved ||= proven.length > 0;
  await visit.writer.endPage({ proven, holes: [], evidence: 'nip77' });
  return rest;
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

type Judgement = 'fetch' | 'halve' | 'again' | 'give up' | 'interrupted';

async function judge(visit: Visit, { end, relayIds }: Reconciliation): Promise<Judgement> {
  switch (end.type) {
    case 'done':
      visit.longestList = Math.max(visit.longestList, relayIds ?? 0);
      return 'fetch';
    case 'blocked':
      visit.longestList = Number.POSITIVE_INFINITY;
      return 'halve';
    case 'unsupported':
      visit.manners = { ...visit.manners, nip77RefusedAt: visit.context.now() };
      return 'give up';
    case 'failed':
      if (end.reason === 'refused' && (await visit.mayAskAgain(end.text))) return 'again';
      if (end.reason === 'disconnected')
        visit.manners = afterLostReconciliation(visit.manners, visit.context.now());
      return end.reason === 'aborted' ? 'interrupted' : 'give up';
  }
}

/** @returns whether each of these events is archived now, or was shown and refused for what it is. */
async function fetchNeeded(visit: Visit, need: readonly string[]): Promise<boolean> {
  const unknown = await noteKnown(visit, need);
  const missing = await fetchByIds(visit, unknown);
  return missing.length === 0 || (await fetchByIds(visit, missing)).length === 0;
}

/** Events that the archive has become sightings. @returns the ids of the others */
async function noteKnown(visit: Visit, need: readonly string[]): Promise<string[]> {
  const unknown: string[] = [];
  for (const ids of chunks(need, IDS_A_REQ)) {
    const archived = await visit.context.bigbrotr.archivedIds(ids);
    for (const id of ids) {
      if (archived.has(id)) await visit.writer.addSighted(id);
      else unknown.push(id);
    }
  }
  return unknown;
}

/** @returns the ids that the relay did not show */
async function fetchByIds(visit: Visit, wanted: readonly string[]): Promise<string[]> {
  const missing: string[] = [];
  for (let from = 0; from < wanted.length; ) {
    const ids = wanted.slice(from, from + idsARequest(visit));
    const shown = new Set<string>();
    if (visit.interruption() === null && visit.refusal === null && !visit.isFlooded) {
      await visit.ask(
        { ids, limit: ids.length },
        { add: (id) => !shown.has(id) && Boolean(shown.add(id)) },
      );
      if (visit.filterRefusal !== null) {
        if (ids.length === 1 || visit.filterRefusal.reason !== 'too_many_values')
          return [...missing, ...wanted.slice(from)];
        visit.maxIds = Math.floor(ids.length / 2);
        continue;
      }
      crashPoint('during-reconcile', visit.relay.url);
    }
    missing.push(...ids.filter((id) => !shown.has(id)));
    from += ids.length;
  }
  return missing;
}

/** As many as the relay's own limits allow: NIP-11 `max_limit`, `max_message_length`, and what it was found to refuse. */
function idsARequest({ terms, manners, maxIds }: Visit): number {
  const { max_limit, max_message_length } = terms.limitation ?? {};
  const fitting = max_message_length
    ? Math.floor((max_message_length - ENVELOPE) / BYTES_AN_ID)
    : IDS_A_REQ;
  const limit = Math.min(max_limit || IDS_A_REQ, manners.pageLimit ?? IDS_A_REQ, maxIds);
  return Math.max(1, Math.min(IDS_A_REQ, limit, fitting));
}

function* chunks<T>(items: readonly T[], size: number): Generator<T[]> {
  for (let from = 0; from < items.length; from += size) yield items.slice(from, from + size);
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
