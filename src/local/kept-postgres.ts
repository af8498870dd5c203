import { setTimeout as sleep } from 'node:timers/promises';
import {
  type Death,
  DiskFullError,
  type EmbeddedPostgres,
  type EmbeddedPostgresOptions,
  startEmbeddedPostgres,
} from './postgres.ts';

/** A server that ends more often than this within that time, in milliseconds, is not started again. */
const MAX_RESTARTS = 5;
const WITHIN_MS = 10 * 60_000;
/** After this the remaining processes of a killed server have ended, in milliseconds. */
const RESTART_DELAY_MS = 1000;
/** Interval of starts while the disk is full, in milliseconds. */
const DISK_FULL_DELAY_MS = 10_000;

/**
 * An embedded PostgreSQL that is started again, on the same port, when it ends by itself: killed for lack of memory, or
 * crashed. Committed data survive; the services wait for it as for any unreachable database. While its disk is full it is
 * waited for without limit.
 *
 * @param onLost called when it could not be kept running; it is not started again then
 * @throws Error as `startEmbeddedPostgres` when it cannot be started at first
 */
export async function keepPostgres(
  options: EmbeddedPostgresOptions,
  onLost: () => void,
): Promise<EmbeddedPostgres> {
  const { log } = options;
  const stopping = new AbortController();
  let server = await startEmbeddedPostgres(options);
  let restarting = Promise.resolve();
  let deaths: number[] = [];
  const watch = () => {
    void server.died.then((death) => {
      restarting = restart(death);
    });
  };
  const restart = async (death: Death): Promise<void> => {
    const { signal } = stopping;
    let last: Death | null = death;
    while (last !== null && !signal.aborted) {
      if (!last.diskFull && isOneTooMany()) {
        onLost();
        return;
      }
      const delayMs = last.diskFull ? DISK_FULL_DELAY_MS : RESTART_DELAY_MS;
      await sleep(delayMs, undefined, { signal }).catch(() => {});
      if (!signal.aborted) last = await startAgain(last);
    }
  };
  const isOneTooMany = (): boolean => {
    const now = performance.now();
    deaths = [...deaths.filter((at) => now - at < WITHIN_MS), now];
    if (deaths.length <= MAX_RESTARTS) return false;
    log.error(`PostgreSQL ended or did not start ${deaths.length} times: it is not started again.`);
    return true;
  };
  /** @returns null when it runs */
  const startAgain = async (last: Death): Promise<Death | null> => {
    try {
      server = await startOn(server.port, options);
    } catch (error) {
      const diskFull = error instanceof DiskFullError;
      // That it is still full was said when it ended.
      if (!(diskFull && last.diskFull))
        log.error(error instanceof Error ? error.message : String(error));
      return { diskFull };
    }
    log.warn(`PostgreSQL ended by itself and is running again on port ${server.port}.`);
    watch();
    return null;
  };
  watch();
  return {
    ...server,
    stop: async () => {
      stopping.abort();
      await restarting;
      await server.stop();
    },
  };
}

/** The clients of the server know its port. @throws Error when it is taken */
async function startOn(port: number, options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const server = await startEmbeddedPostgres({ ...options, port });
  if (server.port === port) return server;
  await server.stop();
  throw new Error(`Port ${port}, on which PostgreSQL was, is taken by another program now.`);
}
