import type { VisitGaps } from '../database/bigbrotr.ts';
import type { NostrEvent } from '../nostr/event.ts';
import { matchesFilter, type ReqFilter } from '../nostr/filter.ts';
import { refusalOf } from '../nostr/message.ts';
import type { PageEnd } from '../relay-client/subscription.ts';
import type { Node } from './filter-tree.ts';
import type { Visit } from './visit.ts';
import type { Tally } from './visit-context.ts';
import { boundsOf } from './windows.ts';

/** A part of the wanted filter, and what has to be read of it. */
export interface PartGaps {
  readonly node: Node;
  readonly gaps: VisitGaps;
}

/** Filters in one REQ (NIP-01), unless the document of the relay says otherwise (NIP-11 `max_filters`). */
const FILTERS_A_REQ = 20;
const MAX_FILTERS_A_REQ = 50;
/** With fewer parts to ask about, each is asked for by itself. */
export const LEAST_PARTS = 4;
/** Events asked for with each filter. An answer of as many in all may be cut: `limit` is taken for the whole REQ by some. */
const LIMIT = 5;
/** Control events that may be gone from the relay; after that many, parts are read one by one in this visit. */
const MAX_CONTROLS = 3;
/** REQs about one group of parts. */
const MAX_ASKS = 10;

type Place = 'first' | 'last';

/** An answer: what it shows. */
interface Answer {
  readonly end: PageEnd;
  readonly hasControl: boolean;
  /** Events of it, and those that are broken. */
  readonly count: number;
  readonly broken: number;
  /** Keys of the parts of which it shows something that is missing, or as much as was asked for. */
  readonly shown: ReadonlySet<number>;
}

/**
 * Finds the parts of a filter of which a relay holds nothing in the time that is missing, many with each REQ. One more
 * filter of each REQ asks for an event that the relay is known to hold, the control. A part is empty after two such
 * answers that come to their end, show the control and nothing of the part, and are far from any limit: one with the
 * control first, one with it last, so that a relay which reads only some of the filters of a REQ is found out.
 */
export class EmptyParts {
  readonly #visit: Visit;
  readonly #root: Node;
  #controls: Control[] = [];
  #most: number;
  /** Whether the relay is not asked so any more in this visit. */
  #isOff = false;

  constructor(visit: Visit, root: Node) {
    this.#visit = visit;
    this.#root = root;
    const most = visit.terms.limitation?.max_filters || FILTERS_A_REQ;
    this.#most = Math.min(most, MAX_FILTERS_A_REQ);
  }

  /** Whether the relay may be asked about several parts at once. */
  get isUsable(): boolean {
    return !this.#isOff && this.#most > LEAST_PARTS;
  }

  /** Looks for controls: events that one of these parts would show. @returns whether there is one. @throws DatabaseError */
  async findControls(leaves: readonly Node[]): Promise<boolean> {
    if (this.#controls.length > 0) return true;
    const visit = this.#visit;
    await visit.writer.flush();
    const known = await visit.context.bigbrotr.filterParts.shownEvents(visit.relay);
    this.#controls = known.flatMap((event) => controlOf(event, leaves)).slice(0, MAX_CONTROLS);
    return this.#controls.length > 0;
  }

  /** @returns those of these parts of which the relay holds nothing that is missing. @throws DatabaseError */
  async find(parts: readonly PartGaps[]): Promise<PartGaps[]> {
    const empty: PartGaps[] = [];
    let left = [...parts];
    while (left.length > 0 && this.isUsable && this.#visit.interruption() === null) {
      const group = left.slice(0, this.#most - 1);
      const found = await this.#emptyOf(group);
      if (found === 'again') continue;
      empty.push(...found);
      left = left.slice(group.length);
    }
    return empty;
  }

  async #emptyOf(group: readonly PartGaps[]): Promise<PartGaps[] | 'again'> {
    let open = [...group];
    const places: Place[] = ['first', 'last'];
    for (let asks = 0; asks < MAX_ASKS && open.length > 0 && !this.#isOff; asks += 1) {
      const [place] = places;
      if (place === undefined) return open;
      const answer = await this.#ask(open, place);
      const judged = this.#judge(answer, place);
      if (judged === 'smaller') return 'again';
      if (judged === 'unknown') continue;
      open = open.filter(({ node }) => !answer.shown.has(node.filterId));
      if (mayCount(answer)) places.shift();
    }
    return places.length === 0 && !this.#isOff ? open : [];
  }

  #judge({ end, hasControl }: Answer, place: Place): 'answered' | 'smaller' | 'unknown' {
    if (end.type === 'closed' && !isOfClient(end.text)) return this.#shrink();
    if (end.type !== 'eose' && end.type !== 'finish' && end.type !== 'more') {
      this.#isOff = true;
      return 'unknown';
    }
    if (hasControl) return 'answered';
    if (place === 'last') return this.#shrink(); // it reads fewer filters of a REQ
    this.#controls.shift(); // the event is gone, or the first filter is not read
    this.#isOff = this.#controls.length === 0;
    return 'unknown';
  }

  #shrink(): 'smaller' {
    this.#most = Math.floor(this.#most / 2);
    return 'smaller';
  }

  async #ask(open: readonly PartGaps[], place: Place): Promise<Answer> {
    const visit = this.#visit;
    const [control] = this.#controls;
    if (!control) throw new Error('parts were asked about without a control');
    const filters = open.map(questionOf);
    const tally = new PartsTally(open, control.id);
    await visit.turnTo(this.#root.filter, this.#root.filterId);
    const end = await visit.askOptional(
      place === 'first' ? [control.filter, ...filters] : [...filters.reverse(), control.filter],
      tally,
    );
    await visit.writer.flush();
    return { end, ...tally };
  }
}

/** An event that the relay is known to hold, and a filter that shows it. */
interface Control {
  readonly id: string;
  readonly filter: ReqFilter;
}

function controlOf(event: NostrEvent, leaves: readonly Node[]): Control[] {
  const leaf = leaves.find(({ filter }) => matchesFilter(event, filter));
  if (!leaf) return [];
  const { id, created_at } = event;
  const window = { since: Math.max(0, created_at - 1), until: created_at + 1 };
  return [{ id, filter: { ...leaf.filter, ...window, limit: LIMIT } }];
}

/** Asks for all of the time in which something is missing, a second wider, since bounds may be taken as exclusive. */
function questionOf({ node, gaps }: PartGaps): ReqFilter {
  const bounds = boundsOf([...gaps.missing, ...gaps.stale]);
  if (!bounds) throw new Error('a part was asked about of which nothing is missing');
  const since = bounds.since - 1;
  return { ...node.filter, ...(since > 0 && { since }), until: bounds.until + 1, limit: LIMIT };
}

/** Whether an answer was not cut, as far as one can tell, so that it says something of what it does not show. */
function mayCount({ end, count, broken }: Answer): boolean {
  return end.type !== 'more' && count < LIMIT && broken === 0;
}

function isOfClient(text: string): boolean {
  const refusal = refusalOf(text);
  return refusal === 'rate_limited' || refusal === 'auth_required';
}

/** Counts what an answer about several parts shows. */
class PartsTally implements Tally, Omit<Answer, 'end'> {
  hasControl = false;
  count = 0;
  broken = 0;
  readonly shown = new Set<number>();
  readonly #parts: readonly PartGaps[];
  readonly #control: string;
  readonly #seen = new Set<string>();
  readonly #counts = new Map<number, number>();

  constructor(parts: readonly PartGaps[], control: string) {
    this.#parts = parts;
    this.#control = control;
  }

  add(id: string, createdAt: number, event?: NostrEvent): boolean {
    if (this.#seen.has(id)) return false;
    this.#seen.add(id);
    this.count += 1;
    this.hasControl ||= id === this.#control;
    if (!event) this.broken += 1;
    else
      for (const part of this.#parts)
        if (matchesFilter(event, part.node.filter)) this.#note(part, createdAt);
    return true;
  }

  addUnreadable(count: number): void {
    this.broken += count;
  }

  #note({ node, gaps }: PartGaps, createdAt: number): void {
    const count = (this.#counts.get(node.filterId) ?? 0) + 1;
    this.#counts.set(node.filterId, count);
    const isMissing = [...gaps.missing, ...gaps.stale].some(
      ({ since, until }) => since <= createdAt && createdAt <= until,
    );
    if (isMissing || count >= LIMIT) this.shown.add(node.filterId);
  }
}
