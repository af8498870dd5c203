import { refusalOf } from '../../nostr/message.ts';
import { isTransient } from '../../nostr/transient.ts';
import type { Window } from '../../nostr/window.ts';
import type { PageEnd } from '../../relay-client/subscription.ts';
import type { Visit } from '../visit.ts';
import { AnswerSamples } from './answer-samples.ts';
import { FRESH_SECONDS } from './late-fault.ts';
import type { Stopped } from './pager-stop.ts';

/** Requests for one sample: a single one may break off by chance. */
const MAX_ASKS = 2;

const UNSTEADY: Stopped = {
  reason: 'unsteady',
  text: 'shows other events when it is asked again',
};

/**
 * Checks whether a relay gives the same answer twice. A relay that serves another part of its events at each request, at
 * random or from another server behind the same name, looks complete in one reading. So a few samples of proven windows
 * are requested again: an event that was not shown before contradicts the proof. Samples that are not answered say
 * nothing: a reading of which none is answered is not believed.
 */
export class Steadiness {
  readonly #visit: Visit;
  readonly #samples: AnswerSamples;
  /** How the latest sample ended; null before. */
  #lastEnd: PageEnd | null = null;
  /** Whether the answer to a sample came to its end. */
  #isAnswered = false;

  constructor(visit: Visit) {
    this.#visit = visit;
    this.#samples = new AnswerSamples(visit.context.random);
  }

  /** Notes the seconds of the events that a page showed. */
  notePage(seconds: number[]): void {
    this.#samples.notePage(seconds);
  }

  /**
   * Requests samples of these proven windows again.
   *
   * @param isComplete whether the reading came to its end: then a relay that answers no sample is not believed
   * @returns why the proof is not believed; null if it is
   * @throws DatabaseError
   */
  async contradiction(
    proven: readonly Window[],
    limit: number,
    isComplete: boolean,
  ): Promise<Stopped | null> {
    const visit = this.#visit;
    const questions = this.#samples.questions(proven, visit.context.now() - FRESH_SECONDS);
    for (let step = questions.next(); ; ) {
      if (step.done) return step.value ? UNSTEADY : isComplete ? this.#unanswered() : null;
      step = questions.next(await this.#askAgain(step.value, limit, isComplete));
      const isOver = visit.interruption() !== null || visit.refusal !== null;
      if (isOver && !step.done) return null;
    }
  }

  /** Why no sample was answered; null if one was, or none was needed. */
  #unanswered(): Stopped | null {
    const end = this.#lastEnd;
    if (this.#isAnswered || end === null || this.#visit.interruption() !== null) return null;
    return stopUnanswered(this.#visit, end);
  }

  /** Requests a sample up to twice, over a new connection if that was lost. @returns the number of contradictions */
  async #askAgain(window: Window, limit: number, isComplete: boolean): Promise<number> {
    const visit = this.#visit;
    for (let times = 0; times < MAX_ASKS; times += 1) {
      const { connection } = visit.session;
      if (!connection.isOpen && !(isComplete && (await visit.reconnect()))) {
        this.#lastEnd = { type: 'disconnected', text: '' };
        return 0;
      }
      const found = await this.#contradictions(window, limit);
      if (found > 0 || this.#hasEnded || visit.interruption() !== null) return found;
    }
    return 0;
  }

  get #hasEnded(): boolean {
    const type = this.#lastEnd?.type;
    return type === 'eose' || type === 'finish' || type === 'more';
  }

  /**
   * Events of a window that verify and were not shown by this relay before. An incomplete answer does not count, nor do
   * transient events: the relay may have passed them on meanwhile.
   */
  async #contradictions({ since, until }: Window, limit: number): Promise<number> {
    const visit = this.#visit;
    const { filter } = visit.context;
    const now = visit.context.now();
    await visit.writer.flush();
    const before = visit.stored.sightings;
    const shown = new Set<string>();
    const transient = new Set<string>();
    const bounds = since > 0 ? { since, until } : { until };
    this.#lastEnd = await visit.askOptional(
      { ...filter, ...bounds, limit },
      {
        add: (id, createdAt, event) => {
          if (event && isTransient(event, now)) transient.add(id);
          else if (createdAt >= since && createdAt <= until) shown.add(id);
          return true;
        },
      },
    );
    await visit.writer.flush();
    this.#isAnswered ||= this.#hasEnded;
    const fresh = visit.stored.sightings - before - transient.size;
    return Math.max(0, Math.min(shown.size, fresh));
  }
}

/** Why a reading stops at a request that only checks what was proven, and is not answered; null where it was. */
export function stopUnanswered(visit: Visit, end: PageEnd): Stopped | null {
  if (end.type !== 'closed' || refusalOf(end.text) !== 'rate_limited') return stopOfSample(end);
  visit.noteRefusal(end.text);
  return { reason: 'rate_limited', text: end.text };
}

function stopOfSample(end: PageEnd): Stopped | null {
  const text = 'gives no answer when it is asked again';
  switch (end.type) {
    case 'timeout':
    case 'closed':
    case 'disconnected':
    case 'oversized':
    case 'overflow':
    case 'garbled':
      return { reason: end.type, text: 'text' in end && end.text ? `${text}: ${end.text}` : text };
    default:
      return null;
  }
}
