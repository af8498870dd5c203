/** Entry: the synchronizer archives every readable relay that the priority synchronizer does not visit. */
import { loadSynchronizerConfig } from './config/load.ts';
import { runService } from './runtime/entrypoint.ts';
import { createSynchronizer } from './sync/synchronizer-service.ts';

await runService((options) => createSynchronizer(loadSynchronizerConfig('synchronizer'), options));
