/** A worker thread of the synchronizers: its own pool of database connections, and visits to relays. */
import { type VisitContext, type VisitReport, visitRelay } from './archive.ts';
import { Bigbrotr, type Relay, type Stored } from './bigbrotr.ts';
import type { SynchronizerConfig } from './config.ts';
import { createWorkerLogger } from './logger.ts';
import { createVerifier } from './nostr/verify.ts';
import { serveJobs } from './worker-thread.ts';

/** A visit ends after this, in milliseconds, and the relay is visited again later: none starves another. */
const VISIT_MS = 120_000;

await serveJobs<SynchronizerConfig & { threadName: string }, Relay, VisitReport, Stored>(
  async (config) => {
    const log = createWorkerLogger(config.service, config.logLevel, config.threadName);
    const verifier = await createVerifier();
    const bigbrotr = await Bigbrotr.connect(config.database, log);
    const context: Omit<VisitContext, 'signal' | 'onStored'> = {
      bigbrotr,
      verifier,
      connect: {
        timeoutMs: config.requestTimeoutMs,
        allowPrivate: config.allowPrivateRelays,
        torProxy: config.tor,
      },
      filter: config.eventFilter,
      filterId: await bigbrotr.filterId(config.eventFilter),
      startTimestamp: config.startTimestamp,
      stopTimestamp: config.stopTimestamp,
      overlapSeconds: config.overlapSeconds,
      batchSize: config.batchSize,
      requestTimeoutMs: config.requestTimeoutMs,
      visitMs: VISIT_MS,
      log,
      now: () => Math.floor(Date.now() / 1000),
    };
    return {
      note: verifier.note,
      run: (relay, signal, onStored) => visitRelay(relay, { ...context, signal, onStored }),
      close: () => bigbrotr.close(),
    };
  },
);
