/**
 * Calls back when so many milliseconds have passed, and what has come by then was read. In a thread that was held up
 * (a busy machine, a long collection of garbage) timers come before sockets: the answer of a relay may already be
 * there when its time is up, and the relay is not to blame.
 *
 * @returns what takes it back
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
