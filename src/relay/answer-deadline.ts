import { deadline } from './deadline.ts';

/** What a deadline has to know of a connection. */
export interface Flow {
  /** Whether we do not read from it, for whatever reason. */
  readonly isPausedByUs: boolean;
  /** Whether we do not read from it because what has come is not handed on yet. */
  readonly isPausedByReader: boolean;
  /** Calls the handler whenever one of these changes. @returns a function that stops it */
  onFlow(handler: () => void): () => void;
}

/** A relay that is held again and again for its junk is waited for this many times as long, in all. */
const MAX_RENEWALS = 10;

/**
 * Calls back when a relay has been silent for `ms` milliseconds. Time in which we did not read from it does not count:
 * its answer may lie in the socket. When it is read again, the deadline begins anew.
 *
 * @returns what takes it back
 */
export function answerDeadline(flow: Flow, ms: number, onExpired: () => void): () => void {
  let left = MAX_RENEWALS * ms;
  let since = 0;
  let counts = false;
  let cancel = () => {};
  const stop = () => {
    stopWatching();
    cancel();
  };
  const expire = () => {
    stop();
    onExpired();
  };
  const begin = () => {
    cancel();
    const now = performance.now();
    if (counts) left -= now - since;
    since = now;
    counts = !flow.isPausedByReader;
    const wait = flow.isPausedByUs ? left : Math.min(ms, left);
    cancel = counts ? deadline(Math.max(0, wait), expire) : () => {};
  };
  const stopWatching = flow.onFlow(begin);
  begin();
  return stop;
}
