/** Entry: the synchronizer archives every readable relay that the priority synchronizer does not visit. */
import { loadSynchronizerConfig, type SynchronizerConfig } from './config.ts';
import { readSeedFile, SeedListError } from './relay/seed-list.ts';
import { runService, type Service, type Work } from './service.ts';
import { beginSynchronizing } from './synchronize.ts';

await runService(() => loadSynchronizerConfig('synchronizer'), begin);

async function begin(config: SynchronizerConfig, service: Service): Promise<Work> {
  const exceptUrls = (await priorityRelays(config, service)).map(({ url }) => url);
  const snapshotSeconds = config.relayMetadataThresholdMs / 1000;
  return beginSynchronizing(config, service, (filterId, intervalSeconds, picking) => {
    const ages = { snapshotSeconds, intervalSeconds };
    return service.bigbrotr.relaysToSynchronize(filterId, ages, { ...picking, exceptUrls });
  });
}

/** Without the list nobody would visit those relays, so they are then ours. */
async function priorityRelays(config: SynchronizerConfig, service: Service) {
  try {
    return (await readSeedFile(config.priorityRelaysPath)).relays;
  } catch (error) {
    if (!(error instanceof SeedListError)) throw error;
    service.log.warn(
      { reason: error.message },
      'no priority relays: every readable relay is visited here',
    );
    return [];
  }
}
