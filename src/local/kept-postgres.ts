import { setTimeout as sleep } from 'node:timers/promises';
import {
  type EmbeddedPostgres,
  type EmbeddedPostgresOptions,
  startEmbeddedPostgres,
} from './postgres.ts';

/** A server that dies more often than this within that time, in milliseconds, is left: something is wrong with it. */
const MAX_RESTARTS = 5;
const WITHIN_MS = 10 * 60_000;
/** What is left of a server that was killed is gone after this, in milliseconds. */
const RESTART_DELAY_MS = 1000;

/**
 * An embedded PostgreSQL that is started again, on the same port, when it ends by itself: killed for want of memory,
 * or crashed. What was committed is there again; the services wait for it as for any database that is away.
 *
 * @param onLost hears that it could not be kept running; nothing more is tried then
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
    void server.died.then(() => {
      restarting = restart();
    });
  };
  const restart = async (): Promise<void> => {
    const { signal } = stopping;
    while (!signal.aborted) {
      const now = performance.now();
      deaths = [...deaths.filter((at) => now - at < WITHIN_MS), now];
      if (deaths.length > MAX_RESTARTS) {
        log.error(`PostgreSQL ended or did not start ${deaths.length} times: it is left as it is.`);
        onLost();
        return;
      }
      await sleep(RESTART_DELAY_MS, undefined, { signal }).catch(() => {});
      if (signal.aborted || (await isBack())) return;
    }
  };
  const isBack = async (): Promise<boolean> => {
    try {
      server = await startOn(server.port, options);
    } catch (error) {
      log.error(error instanceof Error ? error.message : String(error));
      return false;
    }
    log.warn(`PostgreSQL ended by itself and is running again on port ${server.port}.`);
    watch();
    return true;
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

/** Whoever uses the server knows its port. @throws Error when it is taken */
async function startOn(port: number, options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const server = await startEmbeddedPostgres({ ...options, port });
  if (server.port === port) return server;
  await server.stop();
  throw new Error(`Port ${port}, on which PostgreSQL was, is taken by another program now.`);
}
