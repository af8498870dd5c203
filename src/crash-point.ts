/**
 * Named points of the pipeline at which a test can let the process die, as a power cut or the system's killer of large
 * processes would. No configuration, no feature: without BIGBROTR_CRASH_AT a point costs one comparison.
 *
 * - `BIGBROTR_CRASH_AT=<point>` or `<point>:<n>`: dies the first, or the n-th, time that a thread gets there.
 * - `BIGBROTR_CRASH_SCOPE=worker`: only the worker thread ends; else the whole process, by SIGKILL.
 * - `BIGBROTR_CRASH_THREADS=<n>`: only in the first n worker threads of the process, so that a later one survives.
 * - `BIGBROTR_CRASH_RELAY=<url>`: only where this relay is visited.
 */
import { isMainThread, threadId } from 'node:worker_threads';

/** In the order in which an event meets them; the last four on ways of their own. */
export const CRASH_POINTS = [
  'after-receive', // an event has come and is whole; its batch is not full
  'after-known', // which ids the archive holds has been asked
  'after-verify', // every signature of the batch is checked
  'in-transaction', // the events are inserted, their sightings are not
  'before-commit', // sightings and coverage too
  'after-commit', // COMMIT was answered, and nothing was made of the answer
  'after-page', // the relay has ended a page, of which not everything is stored
  'after-coverage', // what a page proved is stored and counted
  'during-reconcile', // bodies were fetched by id, and the window is not proven (NIP-77)
  'live-batch', // events came over an open subscription and are not stored
  'checked', // the monitor has checked a relay, and its snapshot is not stored
  'answered', // a candidate of the finder has answered or not, and nothing is noted of it
] as const;

export type CrashPoint = (typeof CRASH_POINTS)[number];

interface Crash {
  readonly point: CrashPoint;
  readonly scope: 'service' | 'worker';
  readonly relay: string | null;
  left: number;
}

/** What a crash in a worker thread gives as its exit code. */
export const CRASH_EXIT_CODE = 86;

const planned = plannedCrash(process.env, isMainThread ? 0 : threadId);

/** Dies here if that is what the environment asks for. @param relay URL of the relay whose events these are */
export function crashPoint(name: CrashPoint, relay: string): void {
  if (planned !== null) meet(planned, name, relay);
}

/**
 * The crash that the environment asks of a thread; null for none.
 *
 * @throws Error for a point or a number that does not exist: a test would wait for it in vain
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

function meet(crash: Crash, name: CrashPoint, relay: string): void {
  if (name !== crash.point || (crash.relay !== null && crash.relay !== relay)) return;
  crash.left -= 1;
  if (crash.left > 0) return;
  if (crash.scope === 'worker' && !isMainThread) process.exit(CRASH_EXIT_CODE); // of this thread alone
  process.kill(process.pid, 'SIGKILL');
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0); // not one statement more
}
