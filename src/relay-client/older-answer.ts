/**
 * Requests below the newest events of a relay. A single stored event can make a relay hang, reset the connection or send a
 * frame above the size limit: a request for the newest event then fails, though everything else is served.
 */
import type { AnswerFailure } from './page-end.ts';

/** The first request is for events older than this, in seconds: not those of the last weeks, nor of the future. */
const OLDER_THAN_SECONDS = 30 * 86_400;
/** The second is for a time long before Nostr, where every relay that answers requests has nothing. */
const BEFORE_NOSTR = 1;

/** Reasons after which a request for older events may succeed. */
const LOST: ReadonlySet<string> = new Set<AnswerFailure>([
  'disconnected',
  'timeout',
  'oversized',
  'overflow',
  'garbled',
  'closed',
]);
/** Reasons after which the connection is still usable. */
const KEEPS_CONNECTION: ReadonlySet<string> = new Set<AnswerFailure>(['closed', 'timeout']);

export interface OlderTerms<Answer> {
  /** Requests an event at or before `until`, Unix seconds, on the present connection. */
  readonly ask: (until: number, timeoutMs: number) => Promise<Answer>;
  /** Why there was no answer; null when there was one. */
  readonly reasonOf: (answer: Answer) => string | null;
  readonly isOpen: () => boolean;
  /** Replaces the connection by a new one. @returns whether that succeeded */
  readonly reconnect: (timeoutMs: number) => Promise<boolean>;
  /** Longest time for all of it, in milliseconds. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  /** Unix seconds. */
  readonly now: () => number;
}

/**
 * Requests older events when the answer to a request for the newest one was lost: at most two more requests, on at most
 * two more connections, within the time of one deadline.
 *
 * @param first the answer to the request for the newest event
 * @returns the first usable answer, and whether it is about older events; else `first`
 */
export async function answerOrOlder<Answer>(
  first: Answer,
  { ask, reasonOf, isOpen, reconnect, timeoutMs, signal, now }: OlderTerms<Answer>,
): Promise<{ readonly answer: Answer; readonly isOlder: boolean }> {
  const end = performance.now() + timeoutMs;
  const left = () => Math.max(0, end - performance.now());
  const untils = [now() - OLDER_THAN_SECONDS, BEFORE_NOSTR];
  let reason = reasonOf(first);
  for (const [index, until] of untils.entries()) {
    if (reason === null || !LOST.has(reason) || signal.aborted || left() === 0) break;
    const wasAskedTwice = index > 0 && reason === 'timeout';
    const isUsable = isOpen() && KEEPS_CONNECTION.has(reason) && !wasAskedTwice;
    if (!isUsable && !(await reconnect(left()))) break;
    const isLast = index === untils.length - 1;
    const answer = await ask(until, isLast ? left() : left() / 2);
    reason = reasonOf(answer);
    if (reason === null) return { answer, isOlder: true };
  }
  return { answer: first, isOlder: false };
}
