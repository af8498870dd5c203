/** Entry: the priority synchronizer archives the relays of `priority_relays.txt`, in a process of its own. */
import { ConfigError, loadSynchronizerConfig, type SynchronizerConfig } from './config.ts';
import { readSeedFile, SeedListError } from './relay/seed-list.ts';
import { runService, type Service, type Work } from './service.ts';
import { beginSynchronizing } from './synchronize.ts';

await runService(() => loadSynchronizerConfig('priority-synchronizer'), begin);

async function begin(config: SynchronizerConfig, service: Service): Promise<Work> {
  const list = await readSeedFile(config.priorityRelaysPath).catch((error: unknown) => {
    throw error instanceof SeedListError ? new ConfigError([error.message]) : error;
  });
  for (const { line, text, reason } of list.invalid) {
    service.log.warn({ line, text, reason }, 'a line of the priority list is skipped');
  }
  const relays = await service.bigbrotr.relaysOf(list.relays);
  return beginSynchronizing(config, service, (filterId, intervalSeconds) =>
    service.bigbrotr.relaysDue(relays, filterId, intervalSeconds),
  );
}
