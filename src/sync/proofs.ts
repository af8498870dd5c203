import type { Relay } from '../database/bigbrotr.ts';
import type { BatchWriter, Proof } from './batch-writer.ts';
import { type ClaimKind, Claims } from './paging/claims.ts';
import type { Stopped } from './paging/pager-stop.ts';
import type { ListedIds } from './reconcile/listed-ids.ts';
import type { VisitContext } from './visit-context.ts';

/** Why no EOSE of a relay is believed after events that came too late for it. */
export const LATE: Stopped = {
  reason: 'events_after_eose',
  text: 'sends events after the end of a page',
};

/** What is needed of a visit to record its proofs. */
interface ProvingVisit {
  readonly relay: Relay;
  readonly context: Pick<VisitContext, 'bigbrotr' | 'filterId'>;
  readonly writer: Pick<BatchWriter, 'endPage' | 'flush'>;
  readonly listed: Pick<ListedIds, 'defer'>;
}

/** What a visit has proven, and whether that is still believed. */
export class Proofs {
  readonly #visit: ProvingVisit;
  readonly #claims = new Claims();
  #count = 0;
  #distrusted: Stopped | null = null;

  constructor(visit: ProvingVisit) {
    this.#visit = visit;
  }

  /** How many proofs stand; 0 when they were taken back. */
  get count(): number {
    return this.#count;
  }

  get claims(): Pick<Claims, 'of' | 'filterIds'> {
    return this.#claims;
  }

  /** Why no end of a page is believed any more; null while they are. */
  get distrusted(): Stopped | null {
    return this.#distrusted;
  }

  /**
   * Records what was proven of the filter that is read now, with the events on which it rests. What pages prove of
   * seconds in which listed events may lie is kept back (`ListedIds`); nothing where the ends of pages are not believed.
   *
   * @throws DatabaseError
   */
  async add(kind: ClaimKind, proof: Proof): Promise<void> {
    const { context, writer, listed } = this.#visit;
    this.#claims.note(context.filterId, kind, proof.proven);
    if (kind === 'paging' && this.#distrusted) return;
    if (proof.proven.length > 0) this.#count += 1;
    await writer.endPage(kind === 'paging' ? listed.defer(proof) : proof);
  }

  /**
   * Takes back what paging has proven in this visit, for every filter, and believes no end of a page any more. Events
   * after their EOSE take back what NIP-77 has proven, too: its probes believe an EOSE. @throws DatabaseError
   */
  async distrust(why: Stopped): Promise<void> {
    if (this.#distrusted) return;
    this.#distrusted = why;
    this.#count = 0;
    const { relay, context, writer } = this.#visit;
    await writer.flush();
    for (const filterId of this.#claims.filterIds) {
      const paged = this.#claims.of(filterId, 'paging');
      await context.bigbrotr.retractCoverage(relay, filterId, 'paging', paged);
      if (why.reason !== LATE.reason) continue;
      const listed = this.#claims.of(filterId, 'nip77');
      await context.bigbrotr.retractCoverage(relay, filterId, 'nip77', listed);
    }
  }

  /**
   * Notes what was taken back as holes, where the visit was cut off: the next one goes on below them instead of reading the
   * same again. @throws DatabaseError
   */
  async noteContradicted(filterIds = this.#claims.filterIds): Promise<void> {
    const { relay, context } = this.#visit;
    for (const filterId of filterIds) {
      const windows = this.#claims.of(filterId, 'paging');
      if (windows.length > 0) await context.bigbrotr.noteContradicted(relay, filterId, windows);
    }
  }
}
