/**
 * Named points of the pipeline at which a test can kill the process, as a power cut or the kernel's OOM killer would.
 * For tests only: without BIGBROTR_CRASH_AT a point costs one comparison.
 *
 * - `BIGBROTR_CRASH_AT=<point>` or `<point>:<n>`: dies the first, or the n-th, time that a thread reaches the point.
 * - `BIGBROTR_CRASH_SCOPE=worker`: only the worker thread exits; else the whole process dies by SIGKILL.
 * - `BIGBROTR_CRASH_THREADS=<n>`: only in the first n worker threads of the process, so that later ones survive.
 * - `BIGBROTR_CRASH_RELAY=<url>`: only while this relay is visited.
 */
import { isMainThread, threadId } from 'node:worker_threads';

/** In the order in which an event passes them; the last nine are on other paths. */
export const CRASH_POINTS = [
  'after-receive', // an event has been received and parsed; its batch is not full
  'after-known', // the archive has answered which ids it holds
  'after-verify', // every signature of the batch is checked
  'in-transaction', // the events are inserted, their sightings are not
  'before-commit', // sightings and coverage too
  'after-commit', // COMMIT was answered, and the answer was not processed
  'after-page', // the relay has sent the EOSE of a page, of which not everything is stored
  'after-coverage', // the coverage of a page is stored and counted
  'during-reconcile', // events were fetched by id, and the window is not proven (NIP-77)
  'live-batch', // events came over a live subscription and are not stored
  'checked', // the monitor has checked a relay, and its snapshot is not stored
  'answered', // a candidate of the finder has answered or not, and the result is not stored
  'days-marked', // the refresher has marked the days of journal rows, and the cursor is not committed
  'day-counted', // a day is counted, and the figures are as before
  'part-applied', // a part of a day is applied and committed, the next one is not
  'month-exported', // the files of a month are whole, and it is not noted that they are
  'day-applied', // the figures of the whole day are changed, and nothing is committed
] as const;

export type CrashPoint = (typeof CRASH_POINTS)[number];

interface Crash {
  readonly point: CrashPoint;
  readonly scope: 'service' | 'worker';
  readonly relay: string | null;
  left: number;
}

/** Exit code of a worker thread that crashed at a point. */
const CRASH_EXIT_CODE = 86;

const planned = plannedCrash(process.env, isMainThread ? 0 : threadId);

/** Dies here if the environment says so. @param relay URL of the relay that is being visited */
export function crashPoint(name: CrashPoint, relay: string): void {
  if (planned !== null) reach(planned, name, relay);
}

/**
 * The crash that the environment plans for a thread; null for none.
 *
 * @throws Error for a point or a number that does not exist: the crash would never happen
 */
export function plannedCrash(
  env: Readonly<Record<string, string | undefined>>,
  thread: number,
): Crash | null {
  const text = env.BIGBROTR_CRASH_AT;
  if (!text) return null;
  const [name, nth = '1'] = text.split(':');
  const point = CRASH_POINTS.find((known) => known === name);
  if (!point || !/^[1-9]\d*$/.test(nth)) {
    throw new Error(
      `BIGBROTR_CRASH_AT=${text} names no crash point: take one of ${CRASH_POINTS.join(', ')}, or unset it`,
    );
  }
  if (thread > Number(env.BIGBROTR_CRASH_THREADS || Number.POSITIVE_INFINITY)) return null;
  const scope = env.BIGBROTR_CRASH_SCOPE === 'worker' ? 'worker' : 'service';
  return { point, scope, relay: env.BIGBROTR_CRASH_RELAY || null, left: Number(nth) };
}

function reach(crash: Crash, name: CrashPoint, relay: string): void {
  if (name !== crash.point || (crash.relay !== null && crash.relay !== relay)) return;
  crash.left -= 1;
  if (crash.left > 0) return;
  if (crash.scope === 'worker' && !isMainThread) process.exit(CRASH_EXIT_CODE); // of this thread alone
  process.kill(process.pid, 'SIGKILL');
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0); // no further statement may run before the signal arrives
}
