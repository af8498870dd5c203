import type { Withheld, WithheldReason } from '../bigbrotr/withheld.ts';
import { crashPoint } from '../crash-point.ts';
import { refusalOf } from '../nostr/message.ts';
import { withoutNip77 } from '../relay/manners.ts';
import type { PageEnd } from '../relay/subscription.ts';
import { type Comparison, withheldOf } from './compare-window.ts';
import type { Visit } from './visit.ts';
import { windowsOf } from './withheld-times.ts';

/** Ids asked for in one REQ: 67 bytes each, within the 64 KB of message that relays take unless they say otherwise. */
const IDS_A_REQ = 500;
const BYTES_AN_ID = 67;
/** A REQ without its ids. */
const ENVELOPE = 64;
/** REQs by ids that a relay may refuse in one visit: an id that is refused among 500 is found in about 20. */
const MAX_REFUSED_REQUESTS = 100;
/** The same for one that has served no event by its id. */
const MAX_REFUSED_UNSERVED = 20;
/** Answers in a row without any of the ids asked for, after which they are not served. */
const EMPTY_ANSWERS = 2;
/** A refusal of what was asked for, unlike an error of the relay. */
const REFUSED =
  /^\s*(?:error:\s*)?(invalid|unsupported|pow|mute)|not (allowed|served|permitted)|denied|refus/i;
/** Withheld ids remembered of a relay: 40 bytes each in a comparison. */
const MAX_WITHHELD = 100_000;
/** Withheld ids asked for again in one visit. */
const MAX_RETRIED = 1000;
/** Known ids asked for to find out whether a relay serves events by id at all. */
const CONTROL_IDS = 3;

/** What came of asking for ids. */
interface Fetched {
  /** Ids that came, or are archived already, with their `created_at`. */
  readonly times: Map<string, number>;
  /** Ids that the relay answered without. */
  readonly withheld: Map<string, WithheldReason>;
  /** Whether the answer for some was lost, so that nothing is known of them. */
  isIncomplete: boolean;
}

/**
 * Fetches what the archive lacks of a list; what the relay lists and does not serve is remembered as withheld.
 *
 * @param isPaged whether the window was just read page by page, so that nothing else can bring what is missing
 * @returns whether each listed event is archived now, was shown and refused for what it is, or is withheld
 * @throws DatabaseError
 */
export async function fetchListed(
  visit: Visit,
  list: Comparison,
  isPaged: boolean,
): Promise<boolean> {
  const fetched = newFetched();
  const wanted = await noteArchived(visit, list.need, fetched);
  await fetchByIds(visit, wanted, fetched);
  const { withheld, isIncomplete } = fetched;
  if (withheld.size === 0) return !isIncomplete;
  if (!isPaged && !visit.nip77.hasServed && !(await servesKnownIds(visit, list))) return false;
  const windows = windowsOf(list.runs, new Set(withheld.keys()), fetched.times, list.window);
  return (await noteWithheld(visit, windows, withheld)) && !isIncomplete;
}

/** Asks once more for withheld events that are due, and stores those that come. @throws DatabaseError */
export async function retryWithheld(visit: Visit): Promise<void> {
  const { withheld } = visit.context.bigbrotr;
  const key = withheldOf(visit);
  const due = (await withheld.due(key, visit.isAuthenticated, MAX_RETRIED)).filter(
    ({ id }) => !visit.nip77.askedInVain.has(id),
  );
  if (due.length === 0) return;
  const fetched = newFetched();
  const ids = due.map(({ id }) => id);
  await fetchByIds(visit, await noteArchived(visit, ids, fetched), fetched);
  await visit.writer.flush();
  await withheld.forget(
    key,
    ids.filter((id) => fetched.times.has(id)),
  );
  await noteWithheld(visit, due, fetched.withheld);
}

function newFetched(): Fetched {
  return { times: new Map(), withheld: new Map(), isIncomplete: false };
}

/** @returns false where the relay withholds more than is remembered; NIP-77 ends for it then. */
async function noteWithheld(
  visit: Visit,
  windows: readonly Withheld[],
  reasons: ReadonlyMap<string, WithheldReason>,
): Promise<boolean> {
  const { withheld } = visit.context.bigbrotr;
  const key = withheldOf(visit);
  const rows = windows.flatMap((row) => {
    const reason = reasons.get(row.id);
    return reason ? [{ ...row, reason }] : [];
  });
  if (rows.length === 0) return true;
  const known = await withheld.among(
    key,
    rows.map(({ id }) => id),
  );
  if ((await withheld.count(key)) + rows.length - known.length > MAX_WITHHELD) {
    visit.manners = withoutNip77(visit.manners, 'too_many_withheld', visit.context.now());
    return false;
  }
  await withheld.note(key, rows, visit.isAuthenticated);
  for (const { id } of rows) visit.nip77.askedInVain.add(id);
  return true;
}

/** Events that the archive has become sightings. @returns the ids of the others */
async function noteArchived(
  visit: Visit,
  listed: readonly string[],
  { times }: Fetched,
): Promise<string[]> {
  const unknown: string[] = [];
  for (const ids of chunks(listed, IDS_A_REQ)) {
    const archived = await visit.context.bigbrotr.archivedIds(ids);
    for (const id of ids) {
      const createdAt = archived.get(id);
      if (createdAt === undefined) unknown.push(id);
      else {
        times.set(id, createdAt);
        await visit.writer.addSighted(id);
      }
    }
  }
  return unknown;
}

/** Ids of one REQ, and how often the relay has answered without any of them. */
interface Asked {
  readonly ids: readonly string[];
  readonly empty: number;
}

/** Asks until each id has come or was answered without twice: a single answer may be capped, or empty by chance. */
async function fetchByIds(
  visit: Visit,
  wanted: readonly string[],
  fetched: Fetched,
): Promise<void> {
  const open: Asked[] = [...chunks(wanted, idsARequest(visit))].map((ids) => ({ ids, empty: 0 }));
  open.reverse();
  for (let asked = open.pop(); asked; asked = open.pop()) {
    if (visit.interruption() !== null || visit.isFlooded || !visit.session.connection.isOpen) {
      fetched.isIncomplete = true;
      return;
    }
    const end = await askForIds(visit, asked.ids, fetched);
    crashPoint('during-reconcile', visit.relay.url);
    const missing = asked.ids.filter((id) => !fetched.times.has(id));
    const isEmpty = missing.length === asked.ids.length;
    if (missing.length === 0) continue;
    if (end.type === 'closed' && missing.length > 1 && isTooMany(end.text)) {
      visit.maxIds = Math.floor(asked.ids.length / 2);
      open.push(...halves(missing));
    } else if (end.type === 'closed' && !isRateLimited(end)) {
      const answer = reasonOf(visit, end.text, missing.length);
      if (answer === 'halve') open.push(...halves(missing));
      else if (answer === 'unknown') fetched.isIncomplete = true;
      else for (const id of missing) fetched.withheld.set(id, answer);
    } else if (end.type === 'more' && !isEmpty) open.push({ ids: missing, empty: 0 });
    else if (end.type === 'eose' || end.type === 'finish') {
      const empty = isEmpty ? asked.empty + 1 : 1;
      if (empty < EMPTY_ANSWERS) open.push({ ids: missing, empty });
      else for (const id of missing) fetched.withheld.set(id, 'not_served');
    } else {
      fetched.isIncomplete = true; // no answer: it would fare no better with the next
      return;
    }
  }
}

/** What CLOSED says of ids that did not come; more than one are asked for in two halves, so that one does not hide the others. */
function reasonOf(
  visit: Visit,
  text: string,
  missing: number,
): WithheldReason | 'unknown' | 'halve' {
  const { nip77 } = visit;
  nip77.refusedRequests += 1;
  const most = nip77.hasServed ? MAX_REFUSED_REQUESTS : MAX_REFUSED_UNSERVED;
  if (missing > 1 && nip77.refusedRequests < most) return 'halve';
  const refusal = refusalOf(text);
  if (refusal === 'auth_required' || refusal === 'restricted') return refusal;
  return refusal === 'blocked' || REFUSED.test(text) ? 'refused' : 'unknown';
}

async function askForIds(visit: Visit, ids: readonly string[], fetched: Fetched): Promise<PageEnd> {
  const asked = new Set(ids);
  return visit.askOptional(
    { ids, limit: ids.length },
    {
      add: (id, createdAt) => {
        if (!asked.has(id) || fetched.times.has(id)) return false;
        fetched.times.set(id, createdAt);
        visit.nip77.hasServed = true;
        return true;
      },
    },
  );
}

function isTooMany(text: string): boolean {
  return refusalOf(text) === 'too_many_values';
}

function isRateLimited(end: PageEnd): boolean {
  return end.type === 'closed' && refusalOf(end.text) === 'rate_limited';
}

/** Asks for ids that the relay is known to hold: one that shows none of them does not serve events by id. */
async function servesKnownIds(visit: Visit, { local, have }: Comparison): Promise<boolean> {
  const missing = new Set(have);
  const known: string[] = [];
  for (let position = local.size - 1; position >= 0 && known.length < CONTROL_IDS; position--) {
    if (!missing.has(position) && !local.unplaced.has(position)) known.push(local.id(position));
  }
  if (known.length === 0) return false;
  await askForIds(visit, known, newFetched());
  return visit.nip77.hasServed;
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

function halves(ids: readonly string[]): Asked[] {
  const middle = Math.ceil(ids.length / 2);
  return [ids.slice(middle), ids.slice(0, middle)].flatMap((half) =>
    half.length > 0 ? [{ ids: half, empty: 0 }] : [],
  );
}

function* chunks<T>(items: readonly T[], size: number): Generator<T[]> {
  for (let from = 0; from < items.length; from += size) yield items.slice(from, from + size);
}
