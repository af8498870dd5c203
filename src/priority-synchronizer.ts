/** Entry: the priority synchronizer archives the relays of `priority_relays.txt`, in a process of its own. */
import { ConfigError, loadSynchronizerConfig, type SynchronizerConfig } from './config.ts';
import { readSeedFile, type SeedList, SeedListError } from './relay/seed-list.ts';
import { runService, type Service, type Work } from './service.ts';
import { beginSynchronizing } from './synchronize.ts';

await runService(() => loadSynchronizerConfig('priority-synchronizer'), begin);

async function begin(config: SynchronizerConfig, service: Service): Promise<Work> {
  const list = await readPriorityList(config.priorityRelaysPath, service);
  for (const { line, text, reason } of list.invalid) {
    service.log.warn({ line, text, reason }, 'a line of the priority list is skipped');
  }
  const relays = await service.bigbrotr.relaysOf(list.relays);
  return beginSynchronizing(config, service, (filterId, intervalSeconds, picking) =>
    service.bigbrotr.relaysDue(relays, filterId, intervalSeconds, picking),
  );
}

/** A list of nothing but comments is a wish; a list that cannot be read is a mistake. @throws ConfigError */
async function readPriorityList(path: string, { log }: Service): Promise<SeedList> {
  try {
    return await readSeedFile(path);
  } catch (error) {
    if (!(error instanceof SeedListError)) throw error;
    if (error.problem !== 'empty') throw new ConfigError([error.message]);
    log.warn({ path }, 'the priority list names no relay: there is nothing to do here');
    return { relays: [], invalid: [], duplicates: 0 };
  }
}
