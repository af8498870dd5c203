import { deadline } from '../network/deadline.ts';

/** What a deadline needs of a connection. */
export interface Flow {
  /** Whether reading is stopped, for whatever reason. */
  readonly isReadingPaused: boolean;
  /** Whether reading is stopped because received data is not processed yet. */
  readonly isPausedByReader: boolean;
  /** Calls the handler whenever one of these changes. @returns a function that stops it */
  onReadingChanged(handler: () => void): () => void;
}

/** Upper bound for a relay whose junk stops reading again and again: this many times the deadline. */
const MAX_RENEWALS = 10;

/**
 * Calls back when a relay has been silent for `ms` milliseconds. Time in which reading was stopped does not count: the
 * answer may be waiting in the socket. The deadline restarts when reading continues.
 *
 * @returns a function that cancels it
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
    const wait = flow.isReadingPaused ? left : Math.min(ms, left);
    cancel = counts ? deadline(Math.max(0, wait), expire) : () => {};
  };
  const stopWatching = flow.onReadingChanged(begin);
  begin();
  return stop;
}
