import { answerDeadline } from './answer-deadline.ts';
import type { Closed, RelayConnection } from './connection.ts';

/** How a wait ends when no answer ends it. */
export interface WaitLimits<Result> {
  /** Longest wait, in milliseconds; time in which we do not read from the relay does not count. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
  readonly onTimeout: () => Result;
  readonly onClosed: (closed: Closed) => Result;
  readonly onAbort: () => Result;
}

/** What an answer can do to a wait. */
export interface Wait<Result> {
  finish(result: Result): void;
  /** Waits for `ms` milliseconds from now on, instead of what is left. */
  restart(ms: number): void;
}

/**
 * Waits for an answer on a connection: until `finish` is called, the deadline passes, the connection closes or the
 * signal aborts. Never rejects.
 *
 * @param begin listens, and sends what is to be answered; not called when the signal has aborted
 * @returns what ended it
 */
export function waitOn<Result>(
  connection: RelayConnection,
  limits: WaitLimits<Result>,
  begin: (wait: Wait<Result>) => () => void,
): Promise<Result> {
  const { timeoutMs, signal, onTimeout, onClosed, onAbort } = limits;
  if (signal?.aborted) return Promise.resolve(onAbort());
  return new Promise((resolve) => {
    let isOver = false;
    let stopListening = () => {};
    const finish = (result: Result) => {
      isOver = true;
      cancel();
      stopWatching();
      stopListening();
      signal?.removeEventListener('abort', abort);
      resolve(result);
    };
    const start = (ms: number) => answerDeadline(connection, ms, () => finish(onTimeout()));
    const restart = (ms: number) => {
      cancel();
      cancel = start(ms);
    };
    const abort = () => finish(onAbort());
    let cancel = start(timeoutMs);
    const stopWatching = connection.onClosed((closed) => finish(onClosed(closed)));
    signal?.addEventListener('abort', abort, { once: true });
    stopListening = begin({ finish, restart });
    if (isOver) stopListening();
  });
}
