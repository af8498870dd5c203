import type { VisitEnd, VisitGaps, Wanted } from '../bigbrotr.ts';
import { type Stopped, stopText } from '../relay/pager-stop.ts';
import { FilterTree, type Node } from './filter-tree.ts';
import type { PagesEnd } from './read-pages.ts';
import type { Visit } from './visit.ts';
import { stopOf, stopOfFlaws } from './visit-stop.ts';

export interface GapsEnd extends PagesEnd {
  /** Whether all that was missing has been asked for, proven or not. */
  readonly caughtUp: boolean;
}

export interface FilterEnd extends GapsEnd {
  /** What of the filter cannot be proven, though all was read that the relay may be asked for; null when nothing. */
  readonly lacking: string | null;
}

/** Reads gaps with the filter that the visit has now. */
export type ReadGaps = (visit: Visit, gaps: VisitGaps) => Promise<GapsEnd>;

const REFUSED = 'filter_refused';
/** Filters with one value each that are refused in a row before the relay is given up that has taken none. */
const MAX_REFUSED_IN_A_ROW = 5;
/** Filters in one REQ that a relay is followed with, unless its document says otherwise (NIP-11 `max_filters`). */
const MAX_LIVE_FILTERS = 50;

/**
 * Reads the wanted filter. Where the relay refuses it for its shape, it is asked with parts of it, which begin, read
 * and end as visits of their own, over one connection and within the time of one visit. What is proven of all parts is
 * recorded as proven of the filter; where it is asked by kinds, which are not all, nothing is.
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
      return { ...end, lacking: null };
    }
    if (!(await tree.refuse(root))) return { ...end, lacking: null };
  }
  return new PartsReader(visit, wanted, tree, readGaps).read();
}

function isRefused(visit: Visit, { stopped }: PagesEnd): boolean {
  return visit.filterRefusal !== null && stopped?.reason === REFUSED;
}

/** One reading of all parts of a filter. */
class PartsReader {
  readonly #visit: Visit;
  readonly #wanted: Wanted;
  readonly #tree: FilterTree;
  readonly #readGaps: ReadGaps;
  /** Parts with nothing left to divide that the relay refuses, and what it said. */
  readonly #refused: { readonly node: Node; readonly text: string }[] = [];
  /** Why parts could not be read whole. */
  readonly #troubles: string[] = [];
  #hasTaken = false;
  #stopped: Stopped | null = null;
  #interrupted: string | null = null;

  constructor(visit: Visit, wanted: Wanted, tree: FilterTree, readGaps: ReadGaps) {
    this.#visit = visit;
    this.#wanted = wanted;
    this.#tree = tree;
    this.#readGaps = readGaps;
  }

  async read(): Promise<FilterEnd> {
    const visit = this.#visit;
    const { root } = this.#tree;
    visit.holdsOthers = await visit.context.bigbrotr.filterParts.hasSightings(visit.relay);
    await this.#tree.addKinds();
    const queue = this.#tree.toAsk(root).sort(byAge);
    for (let node = queue.shift(); node && !this.#isOver; node = queue.shift()) {
      this.#interrupted = visit.interruption();
      if (this.#interrupted === null) queue.unshift(...(await this.#readPart(node)));
    }
    await visit.turnTo(root.filter, root.filterId);
    await this.#tree.record(root);
    this.#followParts();
    return this.#end();
  }

  get #isOver(): boolean {
    return this.#stopped !== null || this.#interrupted !== null;
  }

  /** @returns what is to be asked instead */
  async #readPart(node: Node): Promise<Node[]> {
    const visit = this.#visit;
    if (!this.#tree.mayAsk(node)) return this.#tree.halve(node);
    const told = this.#tree.refusedLately(node);
    if (told !== null) {
      this.#refused.push({ node, text: told });
      return [];
    }
    const { bigbrotr } = visit.context;
    await visit.turnTo(node.filter, node.filterId);
    const wanted = { ...this.#wanted, filterId: node.filterId };
    await this.#tree.record(node); // one with parts that is tried again lacks what they lack
    const gaps = await bigbrotr.beginVisit(visit.relay, wanted, visit.context, true);
    const before = { requests: visit.requests, proved: visit.proved };
    visit.proved = false;
    const end = await this.#readGaps(visit, gaps);
    await visit.writer.flush();
    const report = await this.#reportOf(end, wanted, visit.requests - before.requests);
    visit.proved ||= before.proved;
    visit.holdsOthers ||= visit.stored.sightings > 0;
    this.#hasTaken ||= visit.isAnswered || (end.stopped === null && end.interrupted === null);
    await bigbrotr.endVisit(visit.relay, node.filterId, report);
    if (isRefused(visit, end)) return this.#refuse(node);
    if (visit.isAnswered) await this.#tree.join(node);
    this.#note(end, report);
    return [];
  }

  async #reportOf(end: GapsEnd, wanted: Wanted, pages: number): Promise<VisitEnd> {
    const { bigbrotr } = this.#visit.context;
    if (end.interrupted !== null)
      return { outcome: 'unfinished', ...stopOf(end.interrupted), pages };
    if (end.stopped !== null)
      return {
        outcome: this.#visit.proved ? 'partial' : 'failed',
        ...stopOf(stopText(end.stopped)),
        pages,
      };
    const { relay } = this.#visit;
    const { holes } = await bigbrotr.countFlaws(relay, wanted);
    const withheld = await bigbrotr.withheld.countUnseen(
      { relay, filterId: wanted.filterId },
      wanted,
    );
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

  /** A part that could not be read does not cost the others, unless the relay is gone or has had enough. */
  #note({ stopped, interrupted }: GapsEnd, { outcome, reason, detail }: VisitEnd): void {
    const visit = this.#visit;
    this.#interrupted = interrupted;
    const isTold = reason === 'withheld'; // the visit of the whole filter tells what is withheld of all parts
    if (outcome !== 'complete' && detail !== null && !isTold) this.#troubles.push(detail);
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
    return { stopped, interrupted, caughtUp, lacking: this.#lacking(leaves.length) };
  }

  #lacking(filters: number): string | null {
    const [refused] = this.#refused;
    if (this.#tree.isByKinds) {
      const kinds = new Set(this.#tree.leaves().flatMap(({ filter }) => filter.kinds ?? []));
      return `${REFUSED}: asked by ${kinds.size} kinds with ${filters} filters`;
    }
    if (refused) return `${REFUSED}: ${this.#refused.length} of ${filters} parts: ${refused.text}`;
    return this.#troubles[0] ?? null;
  }

  #followParts(): void {
    const refused = new Set(this.#refused.map(({ node }) => node.filterId));
    const taken = this.#tree.leaves().filter(({ filterId }) => !refused.has(filterId));
    const most = this.#visit.terms.limitation?.max_filters || MAX_LIVE_FILTERS;
    this.#visit.liveFilters = taken.length > most ? [] : taken.map(({ filter }) => filter);
  }
}

/** Those that were read longest ago come first, so that a visit that is cut begins elsewhere the next time. */
function byAge(a: Node, b: Node): number {
  return (a.startedAt ?? -1) - (b.startedAt ?? -1) || a.filterId - b.filterId;
}
