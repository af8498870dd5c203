/**
 * Reads the wanted filter of a visit, with the filter itself or with parts of it that the relay takes.
 *
 * States of a filter in the tree of parts (`filter-tree.ts`), and what leads from one to another:
 * - **whole**: it is asked as it is. A refusal of its shape ("too many kinds") makes it divided: a list that is too long
 *   is halved, a filter without kinds is replaced by filters of ten kinds.
 * - **divided**: its parts are asked instead, each of which is whole or divided again. After a week the filter itself is
 *   tried once more; if the relay takes it, it is whole again and its parts are forgotten.
 * - **refused**: it names one value and is refused all the same. It is a gap with the reason `filter_refused`, and is tried
 *   again after a week.
 *
 * Order of one reading: the filter itself, unless it was refused within a week; then the parts, those read longest ago
 * first. Parts of which the relay holds nothing are found many at once (`empty-parts.ts`). Each part begins, is read and
 * ends as a visit of its own, over the same connection and within the time of one visit.
 *
 * Guaranteed: what is proven of all parts is recorded as proven of the filter; where it is asked by kinds, which are not
 * all kinds, nothing is. A part that fails does not stop the others, unless the relay is gone or refuses the client. Five
 * refusals in a row, before the relay has taken any part, stop the reading.
 */
import type { VisitEnd, VisitGaps, Wanted } from '../database/bigbrotr.ts';
import type { EventFilter } from '../nostr/filter.ts';
import { longestList } from '../nostr/filter-parts.ts';
import { EmptyParts, LEAST_PARTS, type PartGaps } from './empty-parts.ts';
import { FilterTree, type Node } from './filter-tree.ts';
import type { Stopped } from './paging/pager-stop.ts';
import type { PagesEnd } from './paging/read-pages.ts';
import type { Visit } from './visit.ts';
import {
  type Interruption,
  stopOfFlaws,
  stopOfInterruption,
  stopOfReading,
  type VisitStop,
} from './visit-stop.ts';

export interface GapsEnd extends PagesEnd {
  /** Whether all that was missing has been asked for, proven or not. */
  readonly caughtUp: boolean;
}

export interface FilterEnd extends GapsEnd {
  /** What of the filter cannot be proven although everything was requested; null when nothing. */
  readonly lacking: VisitStop | null;
  /** What the relay is to be followed with: the filter, or the parts that it takes; none where these are too many. */
  readonly live: readonly EventFilter[];
}

/** Reads gaps with the filter that the visit has now. */
export type ReadGaps = (visit: Visit, gaps: VisitGaps) => Promise<GapsEnd>;

const REFUSED = 'filter_refused';
/** Filters with one value each that are refused in a row before reading stops, where none was taken. */
const MAX_REFUSED_IN_A_ROW = 5;
/** Filters in the REQ of a live subscription, unless NIP-11 `max_filters` says otherwise. */
const MAX_LIVE_FILTERS = 50;

/**
 * Reads the wanted filter, or the parts of it that the relay takes.
 *
 * @param gaps of the filter itself
 * @throws DatabaseError
 */
export async function readFilter(
  visit: Visit,
  wanted: Wanted,
  gaps: VisitGaps,
  readGaps: ReadGaps,
): Promise<FilterEnd> {
  const tree = await FilterTree.load(visit);
  const { root } = tree;
  if (tree.mayAsk(root)) {
    const end = await readGaps(visit, gaps);
    if (!isRefused(visit, end)) {
      if (visit.isAnswered) await tree.join(root);
      return { ...end, lacking: null, live: [root.filter] };
    }
    if (!(await tree.refuse(root))) return { ...end, lacking: null, live: [root.filter] };
  }
  return new PartsReader(visit, wanted, tree, readGaps).read();
}

function isRefused(visit: Visit, { stopped }: PagesEnd): boolean {
  return visit.filterRefusal !== null && stopped?.reason === REFUSED;
}

/** What a visit had sent and proven before it began with a part. */
interface PartBefore {
  readonly requests: number;
  readonly proofs: number;
}

/** One reading of all parts of a filter. */
class PartsReader {
  readonly #visit: Visit;
  readonly #wanted: Wanted;
  readonly #tree: FilterTree;
  readonly #readGaps: ReadGaps;
  /** Parts that cannot be divided and that the relay refuses, and what it said. */
  readonly #refused: { readonly node: Node; readonly text: string }[] = [];
  /** Why parts were not read completely. */
  readonly #partStops: VisitStop[] = [];
  #hasTaken = false;
  /** Values in the longest list of a part that the relay has taken; 0 before it has. */
  #longestTaken = 0;
  readonly #emptyParts: EmptyParts;
  /** Parts that the relay was asked about together with others. */
  readonly #askedAbout = new Set<number>();
  #stopped: Stopped | null = null;
  #interrupted: Interruption | null = null;

  constructor(visit: Visit, wanted: Wanted, tree: FilterTree, readGaps: ReadGaps) {
    this.#visit = visit;
    this.#wanted = wanted;
    this.#tree = tree;
    this.#readGaps = readGaps;
    this.#emptyParts = new EmptyParts(visit, tree.root);
  }

  async read(): Promise<FilterEnd> {
    const visit = this.#visit;
    const { root } = this.#tree;
    visit.noteHoldsOthers(await visit.context.bigbrotr.filterParts.hasSightings(visit.relay));
    await this.#tree.addKinds();
    let queue = this.#tree.toAsk(root).sort(byAge);
    for (const node of this.#tree.leaves()) if (wasTaken(node)) this.#noteTaken(node);
    while (queue.length > 0 && !this.#isOver) {
      queue = await this.#withoutEmpty(queue);
      this.#interrupted = visit.interruption();
      const node = this.#interrupted === null ? queue.shift() : undefined;
      if (node) queue.unshift(...(await this.#readPart(node)));
    }
    await visit.turnTo(root.filter, root.filterId);
    await this.#tree.record(root);
    return this.#end();
  }

  get #isOver(): boolean {
    return this.#stopped !== null || this.#interrupted !== null;
  }

  /**
   * Finds empty parts many at once, where the relay is known to take such parts and to hold an event of one.
   * @returns the parts that are to be read one by one
   */
  async #withoutEmpty(queue: readonly Node[]): Promise<Node[]> {
    if (this.#longestTaken === 0 || !this.#emptyParts.isUsable) return [...queue];
    const parts = await this.#inAskableParts(queue);
    const asked = parts.filter(
      (node) =>
        longestList(node.filter) <= this.#longestTaken &&
        !this.#askedAbout.has(node.filterId) &&
        !this.#tree.isDivided(node) &&
        this.#tree.refusedLately(node) === null,
    );
    if (asked.length < LEAST_PARTS) return parts;
    if (!(await this.#emptyParts.findControls(this.#tree.leaves()))) return parts;
    const open: PartGaps[] = [];
    for (const node of asked) {
      this.#askedAbout.add(node.filterId);
      const gaps = await this.#begin(node);
      if (gaps.missing.length + gaps.stale.length > 0) open.push({ node, gaps });
    }
    const empty = open.length < LEAST_PARTS ? [] : await this.#emptyParts.find(open);
    if (!this.#visit.session.connection.isOpen) await this.#visit.reconnect();
    this.#hasTaken ||= empty.length > 0;
    const settled = new Set<number>();
    for (const part of empty) if (await this.#settle(part)) settled.add(part.node.filterId);
    return parts.filter(({ filterId }) => !settled.has(filterId));
  }

  #noteTaken({ filter }: Node): void {
    this.#longestTaken = Math.max(this.#longestTaken, longestList(filter));
  }

  /** Divides those that are too long to be asked with. */
  async #inAskableParts(nodes: readonly Node[]): Promise<Node[]> {
    const parts: Node[] = [];
    for (const node of nodes)
      if (this.#tree.mayAsk(node)) parts.push(node);
      else parts.push(...(await this.#inAskableParts(await this.#tree.halve(node))));
    return parts;
  }

  /** Records that the relay holds nothing of a part in the time that was missing. @returns whether it could be */
  async #settle({ node, gaps }: PartGaps): Promise<boolean> {
    const visit = this.#visit;
    await visit.turnTo(node.filter, node.filterId);
    if (visit.proofs.distrusted) return false;
    const proven = [...gaps.missing, ...gaps.stale];
    await visit.proofs.add('paging', { proven, holes: [], evidence: 'paging' });
    const end = { stopped: null, interrupted: null, caughtUp: true };
    this.#note(end, await this.#endPart(node, end, { requests: visit.requests, proofs: 0 }));
    return true;
  }

  async #begin({ filterId }: Node) {
    const { relay, context } = this.#visit;
    return context.bigbrotr.beginVisit(relay, { ...this.#wanted, filterId }, context, true);
  }

  /** @returns what is to be asked instead */
  async #readPart(node: Node): Promise<Node[]> {
    const visit = this.#visit;
    if (!this.#tree.mayAsk(node)) return this.#tree.halve(node);
    const refusal = this.#tree.refusedLately(node);
    if (refusal !== null) {
      this.#refused.push({ node, text: refusal });
      return [];
    }
    await visit.turnTo(node.filter, node.filterId);
    await this.#tree.record(node); // one with parts that is tried again lacks what they lack
    const gaps = await this.#begin(node);
    const before = { requests: visit.requests, proofs: visit.proofs.count };
    const end = await this.#readGaps(visit, gaps);
    const isOfFilter = isRefused(visit, end);
    if (visit.isAnswered) this.#noteTaken(node);
    this.#hasTaken ||= visit.isAnswered || (end.stopped === null && end.interrupted === null);
    const report = await this.#endPart(node, end, before);
    visit.noteHoldsOthers(visit.stored.sightings > 0);
    if (isOfFilter) return this.#refuse(node);
    if (visit.isAnswered) await this.#tree.join(node);
    this.#note(end, report);
    return [];
  }

  /** @param before what the visit had sent and proven before this part */
  async #endPart(node: Node, end: GapsEnd, before: PartBefore): Promise<VisitEnd> {
    const { relay, writer, context } = this.#visit;
    await writer.flush();
    const report = await this.#reportOf(end, { ...this.#wanted, filterId: node.filterId }, before);
    await context.bigbrotr.endVisit(relay, node.filterId, report);
    return report;
  }

  async #reportOf(end: GapsEnd, wanted: Wanted, before: PartBefore): Promise<VisitEnd> {
    const { relay, context, requests, proofs } = this.#visit;
    const { bigbrotr } = context;
    const pages = requests - before.requests;
    if (end.interrupted !== null)
      return { outcome: 'unfinished', ...stopOfInterruption(end.interrupted), pages };
    if (end.stopped !== null) {
      const outcome = proofs.count > before.proofs ? 'partial' : 'failed';
      return { outcome, ...stopOfReading(end.stopped), pages };
    }
    const { holes, withheld } = await bigbrotr.countFlaws(relay, wanted);
    const stop = stopOfFlaws(holes, withheld);
    if (stop === null) return { outcome: 'complete', reason: null, detail: null, pages };
    return { outcome: 'partial', ...stop, pages };
  }

  async #refuse(node: Node): Promise<Node[]> {
    if (await this.#tree.refuse(node)) return this.#tree.toAsk(node);
    const text = this.#visit.filterRefusal?.text ?? '';
    this.#refused.push({ node, text });
    if (!this.#hasTaken && this.#refused.length >= MAX_REFUSED_IN_A_ROW)
      this.#stopped = { reason: REFUSED, text };
    return [];
  }

  /** Notes why a part was not read completely. That stops the reading only where the relay is gone or refuses the client. */
  #note({ stopped, interrupted }: GapsEnd, { outcome, reason, detail }: VisitEnd): void {
    const visit = this.#visit;
    this.#interrupted = interrupted;
    const isReported = reason === 'withheld'; // the visit of the whole filter reports what is withheld of all parts
    if (outcome !== 'complete' && reason !== null && detail !== null && !isReported)
      this.#partStops.push({ reason, detail });
    if (stopped === null) return;
    const isGone = !visit.session.connection.isOpen || stopped.reason === 'timeout';
    if (isGone || visit.refusal !== null || visit.isFlooded) this.#stopped = stopped;
  }

  #end(): FilterEnd {
    const [interrupted, caughtUp] = [this.#interrupted, !this.#isOver];
    const leaves = this.#tree.leaves();
    const [refused] = this.#refused;
    const isRefusedWhole = refused !== undefined && this.#refused.length >= leaves.length;
    const stopped =
      this.#stopped ?? (isRefusedWhole ? { reason: REFUSED, text: refused.text } : null);
    const [lacking, live] = [this.#lacking(leaves.length), this.#toFollow(leaves)];
    return { stopped, interrupted, caughtUp, lacking, live };
  }

  #lacking(filters: number): VisitStop | null {
    const [refused] = this.#refused;
    if (this.#tree.isByKinds) {
      const kinds = new Set(this.#tree.leaves().flatMap(({ filter }) => filter.kinds ?? []));
      const text = `asked by ${kinds.size} kinds with ${filters} filters`;
      return stopOfReading({ reason: REFUSED, text });
    }
    if (!refused) return this.#partStops[0] ?? null;
    const text = `${this.#refused.length} of ${filters} parts: ${refused.text}`;
    return stopOfReading({ reason: REFUSED, text });
  }

  #toFollow(leaves: readonly Node[]): EventFilter[] {
    const refused = new Set(this.#refused.map(({ node }) => node.filterId));
    const taken = leaves.filter(({ filterId }) => !refused.has(filterId));
    const most = this.#visit.terms.limitation?.max_filters || MAX_LIVE_FILTERS;
    return taken.length > most ? [] : taken.map(({ filter }) => filter);
  }
}

function wasTaken({ endedAt, stop }: Node): boolean {
  return endedAt !== null && stop?.reason !== REFUSED;
}

/** Those that were read longest ago come first, so that a visit that is cut begins elsewhere the next time. */
function byAge(a: Node, b: Node): number {
  return (a.startedAt ?? -1) - (b.startedAt ?? -1) || a.filterId - b.filterId;
}
