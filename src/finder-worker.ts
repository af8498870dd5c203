/** A worker thread of the finder: its own pool of database connections, and all that finds relays. */
import { Bigbrotr } from './bigbrotr.ts';
import type { FinderConfig } from './config.ts';
import {
  type FinderJob,
  type FinderProgress,
  type FinderReport,
  Finding,
} from './finder/find-names.ts';
import { createWorkerLogger } from './logger.ts';
import { createVerifier } from './nostr/verify.ts';
import { serveJobs } from './worker-thread.ts';

await serveJobs<FinderConfig & { threadName: string }, FinderJob, FinderReport, FinderProgress>(
  async (config) => {
    const log = createWorkerLogger(config.service, config.logLevel, config.threadName);
    const verifier = await createVerifier();
    const bigbrotr = await Bigbrotr.connect(config.database, log, { loginWorked: true });
    const finding = new Finding({
      finder: bigbrotr.finder,
      verifier,
      connect: {
        timeoutMs: config.requestTimeoutMs,
        allowPrivate: config.allowPrivateRelays,
        torProxy: config.tor,
      },
      blocklistPath: config.blocklistPath,
      eventFilter: config.eventFilter,
      now: () => Math.floor(Date.now() / 1000),
    });
    return {
      note: verifier.note,
      run: (job, signal, tell) => finding.run(job, signal, tell),
      close: () => bigbrotr.close(),
    };
  },
);
