/** A worker thread of the synchronizers: its own pool of database connections, and visits to relays. */
import { type VisitReport, visitRelay } from './archive.ts';
import { Bigbrotr, type Relay } from './bigbrotr.ts';
import type { SynchronizerConfig } from './config.ts';
import { createWorkerLogger } from './logger.ts';
import { createVerifier } from './nostr/verify.ts';
import { ByteBudget } from './relay/byte-budget.ts';
import { UselessShare } from './relay/useless-share.ts';
import { LiveRelays } from './visit/live.ts';
import type { Progress, VisitContext } from './visit/visit.ts';
import { serveJobs } from './worker-thread.ts';

/** A visit ends after this, in milliseconds, and the relay is visited again later: none starves another. */
const VISIT_MS = 120_000;
/** Relays that one worker follows at a time: each is an open socket with its buffers. */
const MAX_LIVE_RELAYS = 50;
/** Of events that its relays have sent and that were not looked at yet. */
const MAX_BYTES_IN_FLIGHT = 24 * 1024 * 1024;
const KEEP_ALIVE_MS = 60_000;
/** A followed relay is let go when its visits stay away for two intervals and so long, in milliseconds: slots may be rare. */
const FORGET_AFTER_MS = 3_600_000;

await serveJobs<SynchronizerConfig & { threadName: string }, Relay, VisitReport, Progress>(
  async (config) => {
    const log = createWorkerLogger(config.service, config.logLevel, config.threadName);
    const verifier = await createVerifier();
    const bigbrotr = await Bigbrotr.connect(config.database, log, { loginWorked: true });
    const context: Omit<VisitContext, 'signal' | 'onProgress' | 'stopTimestamp'> = {
      bigbrotr,
      verifier,
      connect: {
        timeoutMs: config.requestTimeoutMs,
        allowPrivate: config.allowPrivateRelays,
        torProxy: config.tor,
        useless: new UselessShare(),
        inFlight: new ByteBudget(MAX_BYTES_IN_FLIGHT),
      },
      secretKey: config.keys ? Buffer.from(config.keys.secretKey, 'hex') : null,
      filter: config.eventFilter,
      filterId: await bigbrotr.filterId(config.eventFilter),
      startTimestamp: config.startTimestamp,
      overlapSeconds: config.overlapSeconds,
      reproveSeconds: config.reproveMs / 1000,
      batchSize: config.batchSize,
      requestTimeoutMs: config.requestTimeoutMs,
      visitMs: VISIT_MS,
      log,
      now: () => Math.floor(Date.now() / 1000),
    };
    const live = config.live
      ? new LiveRelays({
          max: MAX_LIVE_RELAYS,
          keepAliveMs: KEEP_ALIVE_MS,
          forgetMs: 2 * config.loopIntervalMs + FORGET_AFTER_MS,
          log,
        })
      : null;
    return {
      note: verifier.note,
      run: (relay, signal, onProgress) => {
        // Time that has not come cannot be covered: until then, the end is now.
        const hasCome = config.stopTimestamp !== 'now' && config.stopTimestamp < context.now();
        const stopTimestamp = hasCome ? config.stopTimestamp : 'now';
        return visitRelay(relay, { ...context, stopTimestamp, signal, onProgress }, live);
      },
      close: async () => {
        await live?.close();
        await bigbrotr.close();
      },
    };
  },
);
