import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { DatabaseError } from './error.ts';

/** How long a start waits for its database, and its callback. Times are milliseconds. */
export interface DatabaseWait {
  readonly log: Logger;
  /** Infinity: until it answers. */
  readonly waitMs: number;
  /** Delay before the second try; doubles from try to try. */
  readonly firstDelayMs?: number;
  readonly signal?: AbortSignal | undefined;
  /** Called with the reason of each failed attempt. */
  readonly onRefused?: ((reason: string) => void) | undefined;
}

const FIRST_DELAY_MS = 250;
/** Longest delay between tries: a recovered database is used within about a second. */
const LONGEST_DELAY_MS = 1000;
/** Repeated refusals for the same reason are logged for the first tries, and then at an interval. */
const LOGGED_TRIES = 3;
const LOG_AGAIN_MS = 30_000;

/**
 * Runs something that needs the database, with retries after transient errors. Logs the reason, the time waited and the
 * deadline.
 *
 * @throws DatabaseError at once for a permanent error, otherwise at the deadline or when the signal aborts
 */
export async function waitForDatabase<T>(
  work: () => Promise<T>,
  { log, waitMs, firstDelayMs = FIRST_DELAY_MS, signal, onRefused }: DatabaseWait,
): Promise<T> {
  const started = performance.now();
  const until = Number.isFinite(waitMs)
    ? new Date(Date.now() + waitMs).toISOString()
    : 'it answers';
  let loggedAt = Number.NEGATIVE_INFINITY;
  let loggedReason = '';
  for (let attempt = 1; ; attempt += 1) {
    try {
      const result = await work();
      if (attempt > LOGGED_TRIES) log.warn({ attempt }, 'the database answers again');
      return result;
    } catch (error) {
      if (!(error instanceof DatabaseError) || error.permanent || signal?.aborted) throw error;
      const now = performance.now();
      const delay = Math.min(firstDelayMs * 2 ** (attempt - 1), LONGEST_DELAY_MS);
      if (now + delay - started > waitMs) throw gaveUp(error, now - started);
      const { message: reason, code } = error;
      onRefused?.(reason);
      if (attempt <= LOGGED_TRIES || reason !== loggedReason || now - loggedAt > LOG_AGAIN_MS) {
        const waitedSeconds = Math.round((now - started) / 1000);
        log.warn(
          { attempt, code, reason, waitedSeconds, until },
          'database not reachable, trying again',
        );
        loggedAt = now;
        loggedReason = reason;
      }
      await sleep(delay, undefined, { signal }).catch(() => {});
      if (signal?.aborted) throw error;
    }
  }
}

function gaveUp(error: DatabaseError, waitedMs: number): DatabaseError {
  const { message, code, cause } = error;
  const waited = `${message}; given up after ${Math.round(waitedMs / 1000)} s`;
  return new DatabaseError(waited, code, false, cause);
}
