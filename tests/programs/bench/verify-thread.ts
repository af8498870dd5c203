/** A worker thread like that of the synchronizers, which also takes the time of each signature check. */
import { workerData } from 'node:worker_threads';
import type { DatabaseConfig } from '../../../src/config/load.ts';
import { Bigbrotr, type Relay } from '../../../src/database/bigbrotr.ts';
import { createVerifier, type Verifier } from '../../../src/nostr/verify.ts';
import { serveJobs } from '../../../src/runtime/worker-thread.ts';
import { RecentEvents } from '../../../src/sync/recent-events.ts';
import { visitRelay } from '../../../src/sync/visit-relay.ts';
import { median } from './measure.ts';
import { silent } from './pipeline.ts';

/** Nanoseconds a check, in the middle of a visit. */
export interface VerifyTimes {
  readonly events: number;
  readonly verified: number;
  readonly median: number;
  readonly mean: number;
}

const { database } = workerData as { database: DatabaseConfig };

await serveJobs<unknown, Relay, VerifyTimes>(async () => {
  const verifier = await createVerifier();
  const bigbrotr = await Bigbrotr.connect(database, silent);
  const filterId = await bigbrotr.filterId({});
  let times: number[] = [];
  const timed: Verifier = {
    ...verifier,
    verify: (event) => {
      const started = performance.now();
      const result = verifier.verify(event);
      times.push((performance.now() - started) * 1e6);
      return result;
    },
  };
  return {
    note: verifier.note,
    run: async (relay, signal) => {
      times = [];
      const { events } = await visitRelay(relay, {
        ...{ bigbrotr, verifier: timed, secretKey: null, filter: {}, filterId, signal },
        connect: { timeoutMs: 5000, allowPrivate: true, torProxy: null },
        ...{ startTimestamp: 0, stopTimestamp: 'now', overlapSeconds: 3600 },
        ...{ reproveSeconds: 86_400, batchSize: 500, requestTimeoutMs: 20_000, visitMs: 120_000 },
        recent: new RecentEvents(), // else a second visit would verify nothing
        log: silent,
        now: () => Math.floor(Date.now() / 1000),
        onProgress: () => {},
      });
      const mean = times.reduce((sum, time) => sum + time, 0) / times.length;
      return { events, verified: times.length, median: median(times), mean };
    },
    close: () => bigbrotr.close(),
  };
});
