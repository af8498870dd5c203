/** A worker thread of the finder: it reads names, probes candidates and fetches lists, over its own database pool. */
import type { FinderConfig } from '../config/load.ts';
import { Bigbrotr } from '../database/bigbrotr.ts';
import { BlocklistWatch } from '../network/blocklist-watch.ts';
import { ownNetworkBy } from '../network/own-network.ts';
import { unixNow } from '../nostr/unix-time.ts';
import { createVerifier } from '../nostr/verify.ts';
import { serveJobs } from '../runtime/worker-thread.ts';
import { createWorkerLogger } from '../telemetry/logger.ts';
import { type FinderJob, type FinderProgress, type FinderReport, Finding } from './find-names.ts';

await serveJobs<FinderConfig & { threadName: string }, FinderJob, FinderReport, FinderProgress>(
  async (config, onNetwork) => {
    const log = createWorkerLogger(config.service, config.logLevel, config.threadName);
    const verifier = await createVerifier();
    const bigbrotr = await Bigbrotr.connect(config.database, log, { loginWorked: true });
    const blocklist = await BlocklistWatch.start(config.blocklistPath);
    const finding = new Finding({
      finder: bigbrotr.finder,
      verifier,
      connect: {
        timeoutMs: config.requestTimeoutMs,
        allowPrivate: config.allowPrivateRelays,
        torProxy: config.tor,
        ownNetwork: ownNetworkBy(config.networkTest, onNetwork),
      },
      blocklistPath: config.blocklistPath,
      eventFilter: config.eventFilter,
      now: unixNow,
    });
    return {
      note: verifier.note,
      // Everything else ends by itself within a minute.
      run: (job, signal, report) =>
        job.type === 'monitors'
          ? blocklist.run(job.url, signal, (unblocked) => finding.run(job, unblocked, report))
          : finding.run(job, signal, report),
      close: async () => {
        blocklist.close();
        await bigbrotr.close();
      },
    };
  },
);
