import { Counter, Histogram, type Registry } from 'prom-client';

/** Bounds in seconds: from a refused connection to the longest visit. */
const VISIT_SECONDS = [0.25, 1, 2.5, 5, 10, 30, 60, 120];
/** Bounds in seconds: from a small batch to one that waits for a busy disk. */
const BATCH_SECONDS = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30];
/** Bounds in seconds: from an event that has just been signed to one that was signed a day before. */
const LIVE_SECONDS = [1, 2, 5, 10, 30, 60, 300, 3600, 86_400];
/** Events that are dated later than this after our clock, in seconds, count as dated ahead. */
const AHEAD_SECONDS = 60;

/** Histograms of visits, and of the batches that they store. */
export function visitHistograms(registry: Registry) {
  const visits = new Histogram({
    name: 'bigbrotr_visit_duration_seconds',
    help: 'Time that visits and checks of relays took, by outcome.',
    labelNames: ['outcome'],
    buckets: VISIT_SECONDS,
    registers: [registry],
  });
  const batches = new Histogram({
    name: 'bigbrotr_batch_duration_seconds',
    help: 'Time that batches of events waited for the database and took to be stored.',
    buckets: BATCH_SECONDS,
    registers: [registry],
  });
  const live = new Histogram({
    name: 'bigbrotr_live_lag_seconds',
    help: 'Time from created_at of new events of followed relays until they were stored; 0 for those dated later.',
    buckets: LIVE_SECONDS,
    registers: [registry],
  });
  const ahead = new Counter({
    name: 'bigbrotr_live_events_ahead_total',
    help: `New events of followed relays that are dated more than ${AHEAD_SECONDS} s after our clock.`,
    registers: [registry],
  });
  return {
    visitEnded: (outcome: string, seconds: number) => visits.observe({ outcome }, seconds),
    batchStored: (seconds: number, liveLags: readonly number[]) => {
      batches.observe(seconds);
      for (const lag of liveLags) {
        live.observe(Math.max(lag, 0));
        if (lag < -AHEAD_SECONDS) ahead.inc();
      }
    },
  };
}
