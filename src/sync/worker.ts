/** Entry of a worker thread of the synchronizers: its own pool of database connections, and visits to relays. */

import type { SynchronizerConfig } from '../config/load.ts';
import { Bigbrotr, type Relay } from '../database/bigbrotr.ts';
import { BlocklistWatch } from '../network/blocklist-watch.ts';
import { ownNetworkBy } from '../network/own-network.ts';
import { unixNow } from '../nostr/unix-time.ts';
import { createVerifier } from '../nostr/verify.ts';
import { ByteBudget } from '../relay-client/byte-budget.ts';
import { JunkLimit } from '../relay-client/junk-limit.ts';
import { serveJobs } from '../runtime/worker-thread.ts';
import { createWorkerLogger } from '../telemetry/logger.ts';
import { LiveRelays } from './live.ts';
import { RecentEvents } from './recent-events.ts';
import type { Progress, VisitContext } from './visit.ts';
import { type VisitReport, visitRelay } from './visit-relay.ts';

/** A visit ends after this, in milliseconds, and the relay is visited again later: no relay starves another. */
const VISIT_MS = 120_000;
/** Relays that one worker follows at a time: each is an open socket with its buffers. */
const MAX_LIVE_RELAYS = 50;
/** Received events of one worker that are not processed yet. */
const MAX_BYTES_IN_FLIGHT = 24 * 1024 * 1024;
const KEEP_ALIVE_MS = 60_000;
/** A live subscription ends when its relay was not visited for two intervals and this, in milliseconds. */
const FORGET_AFTER_MS = 3_600_000;

/** What a worker is told, beside its configuration. */
interface WorkerData extends SynchronizerConfig {
  readonly threadName: string;
  /** Of `RecentEvents`, shared by the workers of the process. */
  readonly recentEvents: SharedArrayBuffer;
}

await serveJobs<WorkerData, Relay, VisitReport, Progress>(async (config, onNetwork) => {
  const log = createWorkerLogger(config.service, config.logLevel, config.threadName);
  const verifier = await createVerifier();
  const bigbrotr = await Bigbrotr.connect(config.database, log, { loginWorked: true });
  const ownNetwork = ownNetworkBy(config.networkTest, onNetwork);
  const context: Omit<VisitContext, 'signal' | 'onProgress' | 'stopTimestamp'> = {
    bigbrotr,
    verifier,
    recent: new RecentEvents(config.recentEvents),
    connect: {
      timeoutMs: config.requestTimeoutMs,
      allowPrivate: config.allowPrivateRelays,
      torProxy: config.tor,
      ownNetwork,
      junkLimit: new JunkLimit(),
      inFlight: new ByteBudget(MAX_BYTES_IN_FLIGHT),
    },
    secretKey: config.keys ? Buffer.from(config.keys.secretKey, 'hex') : null,
    filter: config.eventFilter,
    filterId: await bigbrotr.filterId(config.eventFilter),
    startTimestamp: config.startTimestamp,
    overlapSeconds: config.overlapSeconds,
    reproveSeconds: config.reproveSeconds,
    batchSize: config.batchSize,
    requestTimeoutMs: config.requestTimeoutMs,
    visitMs: VISIT_MS,
    log,
    now: unixNow,
  };
  const blocklist = await BlocklistWatch.start(config.blocklistPath);
  const live = config.live
    ? new LiveRelays({
        max: MAX_LIVE_RELAYS,
        keepAliveMs: KEEP_ALIVE_MS,
        forgetMs: 2 * config.loopIntervalSeconds * 1000 + FORGET_AFTER_MS,
        blocklist,
        log,
      })
    : null;
  // Connections of before an outage may be dead at the other end only.
  ownNetwork?.onReturned((part) => {
    if (part !== 'dns') live?.reconnect();
  });
  return {
    note: verifier.note,
    run: (relay, signal, onProgress) => {
      // The future cannot be covered: a stop time that lies ahead means now.
      const hasCome = config.stopTimestamp !== 'now' && config.stopTimestamp < context.now();
      const stopTimestamp = hasCome ? config.stopTimestamp : 'now';
      return blocklist.run(relay.url, signal, (unblocked) =>
        visitRelay(relay, { ...context, stopTimestamp, signal: unblocked, onProgress }, live),
      );
    },
    cancel: (url) => live?.drop(url),
    close: async () => {
      await live?.close();
      blocklist.close();
      await bigbrotr.close();
    },
  };
});
