/**
 * Calls back after `ms` milliseconds, once everything that arrived by then has been read. In a blocked thread (a busy
 * machine, a long garbage collection) timers fire before sockets are read: without this, an answer that arrived in time
 * would count as late.
 *
 * @returns a function that cancels it
 */
export function deadline(ms: number, onExpired: () => void): () => void {
  let afterReading: NodeJS.Immediate | undefined;
  const timer = setTimeout(() => {
    afterReading = setImmediate(onExpired);
  }, ms);
  return () => {
    clearTimeout(timer);
    clearImmediate(afterReading);
  };
}

export interface TimeLimit {
  /** Maximum time in total, in milliseconds. */
  readonly timeoutMs: number;
  /** Thrown after that. */
  readonly timeout: Error;
  /** Ends the work earlier. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Runs work with a signal that aborts at the deadline, or when the caller's signal does.
 *
 * @throws `timeout` after the deadline, the reason of the caller's signal when that aborts, else what the work throws
 */
export async function withDeadline<Result>(
  { timeoutMs, timeout, signal }: TimeLimit,
  work: (signal: AbortSignal) => Promise<Result>,
): Promise<Result> {
  const ending = new AbortController();
  const cancel = deadline(timeoutMs, () => ending.abort(timeout));
  const onAbort = () => ending.abort(signal?.reason);
  signal?.addEventListener('abort', onAbort, { once: true });
  if (signal?.aborted) onAbort();
  try {
    return await work(ending.signal);
  } catch (error) {
    throw ending.signal.aborted ? ending.signal.reason : error;
  } finally {
    cancel();
    signal?.removeEventListener('abort', onAbort);
  }
}
