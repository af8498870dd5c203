/** Entry: the priority synchronizer archives the relays of `priority_relays.txt`, in a process of its own. */
import { loadSynchronizerConfig } from './config/load.ts';
import { runService } from './runtime/entrypoint.ts';
import { createPrioritySynchronizer } from './sync/synchronizer-service.ts';

await runService((options) =>
  createPrioritySynchronizer(loadSynchronizerConfig('priority-synchronizer'), options),
);
