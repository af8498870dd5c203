import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from '../telemetry/logger.ts';
import type { ServiceProcess } from './service-process.ts';

export type StartService = (
  name: string,
  once: boolean,
) => Pick<ServiceProcess, 'ended' | 'wasReady'>;

/** Before a service that ended by itself is started again, in milliseconds; doubles while it cannot start. */
const RESTART_DELAY_MS = 2000;
const LONGEST_RESTART_DELAY_MS = 30_000;

/** Runs each service once: monitor, both synchronizers at the same time, finder, refresher. @returns the exit code */
export async function runServicesOnce(start: StartService, stopping: AbortSignal): Promise<number> {
  const monitored = await start('monitor', true).ended;
  if (monitored !== 0 || stopping.aborted) return monitored;
  const codes = await Promise.all(
    ['synchronizer', 'priority-synchronizer'].map((name) => start(name, true).ended),
  );
  // After them, since it reads what they have just archived: the relays it finds are archived in the next run.
  const found = stopping.aborted ? 0 : await start('finder', true).ended;
  const counted = stopping.aborted ? 0 : await start('refresher', true).ended;
  return Math.max(...codes, found, counted);
}

const waitFor = (ms: number, signal: AbortSignal): Promise<unknown> =>
  sleep(ms, undefined, { signal }).catch(() => {});

/**
 * Runs all services until the signal aborts. One that ends by itself is started again, as with
 * `restart: unless-stopped`; one that was never ready stops everything.
 *
 * @returns the exit code
 */
export async function runServicesUntilStopped(
  start: StartService,
  stopping: AbortController,
  log: Logger,
  delay = waitFor,
): Promise<number> {
  const { signal } = stopping;
  const keepRunning = async (name: string): Promise<number> => {
    let wasEverReady = false;
    let delayMs = RESTART_DELAY_MS;
    for (;;) {
      const service = start(name, false);
      const code = await service.ended;
      if (signal.aborted) return code;
      if (service.wasReady) delayMs = RESTART_DELAY_MS;
      wasEverReady ||= service.wasReady;
      if (!wasEverReady) {
        log.fatal({ name }, 'a service cannot start: everything stops');
        stopping.abort();
        return 1;
      }
      log.warn({ name, code, seconds: delayMs / 1000 }, 'a service ended, starting it again');
      await delay(delayMs, signal);
      if (signal.aborted) return 0;
      delayMs = Math.min(2 * delayMs, LONGEST_RESTART_DELAY_MS);
    }
  };
  const names = [
    ...['monitor', 'synchronizer', 'priority-synchronizer', 'finder', 'refresher'],
    ...['api', 'relay'],
  ];
  return Math.max(...(await Promise.all(names.map(keepRunning))));
}
