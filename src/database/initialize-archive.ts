import type { Logger } from 'pino';
import type { InitializerConfig } from '../config/load.ts';
import {
  allowedRelays,
  readPriorityFile,
  readSeedFile,
  SeedListError,
} from '../network/seed-list.ts';
import { Bigbrotr } from './bigbrotr.ts';
import { distributeArchive } from './distribute.ts';
import { migrateArchive } from './migrate.ts';

/**
 * Migrates an archive of an older version, distributes it where Citus has workers, adds the relays of the seed file, and marks those of the priority list.
 *
 * @throws SeedListError, DatabaseError
 */
export async function initializeArchive(config: InitializerConfig, log: Logger): Promise<void> {
  for (const warning of config.warnings) log.warn(warning);
  const seed = await readSeedFile(config.seedRelaysPath);
  for (const { line, text, reason } of seed.invalid)
    log.warn({ line, text, reason }, 'a line of the seed file is skipped');
  const relays = allowedRelays(seed.relays, config.allowPrivateRelays, ({ url }, reason) =>
    log.warn({ relay: url, reason }, 'a relay of the seed file is skipped'),
  );
  await migrateArchive(config.database, config.owner, log);
  await distributeArchive(config.database, config.owner, log);
  const bigbrotr = await Bigbrotr.connect(config.database, log);
  try {
    const added = await bigbrotr.insertRelays(relays);
    const { duplicates, invalid } = seed;
    log.info(
      { relays: seed.relays.length, added, duplicates, invalid: invalid.length },
      'relays of the seed file are in the archive',
    );
    await markPriority(config, bigbrotr, log);
  } finally {
    await bigbrotr.close();
  }
}

/** A list that cannot be read changes nothing: the priority synchronizer reports it. */
async function markPriority(
  { priorityRelaysPath, allowPrivateRelays }: InitializerConfig,
  bigbrotr: Bigbrotr,
  log: Logger,
): Promise<void> {
  try {
    const listed = await readPriorityFile(priorityRelaysPath);
    const relays = allowedRelays(listed.relays, allowPrivateRelays, ({ url }, reason) =>
      log.warn({ relay: url, reason }, 'a relay of the priority list is skipped'),
    );
    await bigbrotr.setPriorityRelays(relays);
    log.info({ relays: relays.length }, 'relays of the priority list are marked');
  } catch (error) {
    if (!(error instanceof SeedListError)) throw error;
    log.info({ reason: error.message }, 'priority list is unchanged');
  }
}
