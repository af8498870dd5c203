import type { FilterPart } from '../database/filter-parts.ts';
import { mayRetryFilter, withoutExpiredFilterLimit } from '../network/relay-policy.ts';
import type { EventFilter } from '../nostr/filter.ts';
import { type Division, divisionOf, halves, longestList } from '../nostr/filter-parts.ts';
import { filtersByKinds } from '../nostr/kinds.ts';
import type { Visit } from './visit.ts';
import { saidIn } from './visit-stop.ts';

/** A filter that a relay may be asked with. */
export type Node = Pick<FilterPart, 'filterId' | 'filter' | 'startedAt' | 'endedAt' | 'stop'>;

/**
 * The wanted filter and the parts that it was divided into for one relay, each of which may have parts again. What the
 * relay refused is remembered, and tried again after a week.
 */
export class FilterTree {
  readonly root: Node;
  readonly #visit: Visit;
  #parts: readonly FilterPart[] = [];

  private constructor(visit: Visit) {
    this.#visit = visit;
    const { filter, filterId } = visit.context;
    this.root = { filter, filterId, startedAt: null, endedAt: null, stop: null };
  }

  /** The tree as an earlier visit left it. @throws DatabaseError */
  static async load(visit: Visit): Promise<FilterTree> {
    const tree = new FilterTree(visit);
    visit.policy.update((policy) => withoutExpiredFilterLimit(policy, visit.context.now()));
    if (visit.terms.isDivided) await tree.#reload();
    return tree;
  }

  /** Whether the relay is asked by kinds anywhere: together its parts are less than the wanted filter then. */
  get isByKinds(): boolean {
    return this.#divided(this.root).some((node) => this.#divisionOf(node) === 'kinds');
  }

  /** Whether the relay may be asked with this filter: it was not refused lately, nor one with a list as long. */
  mayAsk(node: Node): boolean {
    const longest = longestList(node.filter);
    const { maxFilterValues } = this.#visit.policy.current;
    if (longest > 1 && maxFilterValues !== null && longest > maxFilterValues) return false;
    const [part] = this.#partsOf(node);
    return part === undefined || mayRetryFilter(part.refusedAt, this.#visit.context.now());
  }

  /** Whether this filter has parts. */
  isDivided(node: Node): boolean {
    return this.#partsOf(node).length > 0;
  }

  /** The filters to ask with for this one. */
  toAsk(node: Node): Node[] {
    const parts = this.#partsOf(node);
    return parts.length === 0 || this.mayAsk(node)
      ? [node]
      : parts.flatMap((part) => this.toAsk(part));
  }

  /** The filters that have no parts. */
  leaves(node: Node = this.root): Node[] {
    const parts = this.#partsOf(node);
    return parts.length === 0 ? [node] : parts.flatMap((part) => this.leaves(part));
  }

  /** What the relay said when it refused this filter, which has no parts, less than a week ago; null when it did not. */
  refusedLately({ endedAt, stop }: Node): string | null {
    if (stop?.reason !== 'filter_refused' || endedAt === null) return null;
    return mayRetryFilter(endedAt, this.#visit.context.now()) ? null : saidIn(stop);
  }

  /** Learns from the refusal that the visit has noted. @returns whether there is anything to ask instead */
  async refuse(node: Node): Promise<boolean> {
    const refused = this.#visit.filterRefusal;
    if (refused === null) return false;
    this.#learn(node, refused.reason === 'too_many_values');
    const before = this.#partsOf(node);
    const division = before[0]?.dividedBy ?? divisionOf(node.filter, refused);
    if (division === null) return false;
    await this.#divide(node, division, this.#visit.context.now());
    return true;
  }

  /** Divides a filter that is too long to be asked with. @returns what to ask instead */
  async halve(node: Node): Promise<Node[]> {
    const parts = this.#partsOf(node);
    if (parts.length === 0) await this.#divide(node, 'values', this.#visit.context.now());
    return this.#partsOf(node).flatMap((part) => this.toAsk(part));
  }

  /** Where the relay is asked by kinds: adds those that the relay has shown, or the archive has come to hold. @throws DatabaseError */
  async addKinds(): Promise<void> {
    for (const node of this.#divided(this.root)) {
      const [part] = this.#partsOf(node);
      if (part?.dividedBy === 'kinds') await this.#divide(node, 'kinds', part.refusedAt);
    }
  }

  /** The relay takes this filter: its parts are not needed any more. @throws DatabaseError */
  async join(node: Node): Promise<void> {
    if (this.#partsOf(node).length === 0) return;
    const longest = longestList(node.filter);
    const { policy } = this.#visit;
    const { maxFilterValues } = policy.current;
    if (maxFilterValues !== null && longest > maxFilterValues)
      policy.update((known) => ({ ...known, maxFilterValues: longest }));
    await this.#archive.join(this.#visit.relay, node.filterId);
    await this.#reload();
  }

  /** Records as proven of a divided filter what is proven of its parts. @throws DatabaseError */
  async record(node: Node): Promise<void> {
    if (this.#partsOf(node).length > 0)
      await this.#archive.record(this.#visit.relay, node.filterId);
  }

  get #archive() {
    return this.#visit.context.bigbrotr.filterParts;
  }

  async #reload(): Promise<void> {
    this.#parts = await this.#archive.of(this.#visit.relay);
  }

  #partsOf(node: Node): readonly FilterPart[] {
    return this.#parts.filter(({ wholeId }) => wholeId === node.filterId);
  }

  #divisionOf(node: Node): Division | null {
    return this.#partsOf(node)[0]?.dividedBy ?? null;
  }

  /** This filter and all below it that have parts, from the top down. */
  #divided(node: Node): Node[] {
    const parts = this.#partsOf(node);
    return parts.length === 0 ? [] : [node, ...parts.flatMap((part) => this.#divided(part))];
  }

  async #divide(node: Node, division: Division, refusedAt: number): Promise<void> {
    const before = this.#partsOf(node).map(({ filter }) => filter);
    const parts =
      division === 'kinds' ? await this.#byKinds(node.filter, before) : halves(node.filter);
    const isChanged =
      parts.length > before.length || this.#partsOf(node)[0]?.refusedAt !== refusedAt;
    if (!isChanged) return;
    await this.#archive.divide(this.#visit.relay, node.filterId, parts, division, refusedAt);
    await this.#reload();
  }

  async #byKinds(filter: EventFilter, before: readonly EventFilter[]): Promise<EventFilter[]> {
    const shown = await this.#archive.shownEvents(this.#visit.relay);
    const archived = await this.#archive.archivedKinds();
    return filtersByKinds(filter, { archived, shown: shown.map(({ kind }) => kind) }, before);
  }

  /** A list as long as this one is too long. What is refused for something else says nothing of others. */
  #learn(node: Node, isTooLong: boolean): void {
    const longest = longestList(node.filter);
    if (!isTooLong || longest < 2) return;
    const { policy, context } = this.#visit;
    const maxFilterValues = Math.min(policy.current.maxFilterValues ?? longest, longest - 1);
    const maxFilterValuesAt = context.now();
    policy.update((known) => ({ ...known, maxFilterValues, maxFilterValuesAt }));
  }
}
