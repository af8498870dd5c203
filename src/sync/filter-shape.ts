import type { ReqFilter } from '../nostr/filter.ts';
import { refusalOf } from '../nostr/message.ts';
import { filterVariants, firstAnswer, mayConcernFilter } from '../relay-client/first-answer.ts';
import type { RelaySession, VisitContext } from './visit-context.ts';

/** What is needed of a visit to ask its relay about its filter. */
interface AskingVisit {
  readonly context: Pick<VisitContext, 'filter' | 'signal' | 'requestTimeoutMs'>;
  readonly session: Pick<RelaySession, 'connection'>;
  /** Why the visit has to stop now; null while it may go on. */
  interruption(): unknown;
  /** Waits until the relay may be sent another request. */
  pace(): Promise<void>;
}

/** Finds out whether a refusal that does not say what it refuses is of the shape of the filter. */
export class FilterShape {
  readonly #visit: AskingVisit;
  /** What was found out, by the words of the refusal. */
  readonly #ofShape = new Map<string, boolean>();

  constructor(visit: AskingVisit) {
    this.#visit = visit;
  }

  /**
   * Whether the relay takes a narrower filter, and refuses this one also for a time that holds no events, before and
   * after. A refusal whose words name what it refuses is not asked about.
   */
  async isRefused(text: string): Promise<boolean> {
    const isUnclear =
      refusalOf(text.replace(/^\s*(?:error:\s*)?(?:blocked|restricted):/i, '')) === 'other';
    if (!isUnclear) return false;
    const known = this.#ofShape.get(text);
    if (known !== undefined) return known;
    const { filter } = this.#visit.context;
    const isRefused = async () => (await this.#takes({ ...filter, until: 1, limit: 1 })) === false;
    let isOfShape = false;
    if (await isRefused())
      for (const { filter: narrower } of filterVariants(filter).slice(1))
        isOfShape ||= (await this.#takes({ ...narrower, limit: 1 })) === true;
    isOfShape &&= await isRefused(); // an error that passes is none
    this.#ofShape.set(text, isOfShape);
    return isOfShape;
  }

  /** @returns null where the answer says nothing of it */
  async #takes(filter: ReqFilter): Promise<boolean | null> {
    const visit = this.#visit;
    if (!visit.session.connection.isOpen || visit.interruption() !== null) return null;
    await visit.pace();
    const { signal, requestTimeoutMs: timeoutMs } = visit.context;
    const { reason } = await firstAnswer(visit.session.connection, filter, { timeoutMs, signal });
    return reason === null ? true : mayConcernFilter(reason) ? false : null;
  }
}
