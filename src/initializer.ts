/** Entry: the initializer migrates an archive of an older version, adds the relays of the seed file, and exits. */

import { migrateArchive } from './bigbrotr/migrations.ts';
import { Bigbrotr } from './bigbrotr.ts';
import { ConfigError, type InitializerConfig, loadInitializerConfig } from './config.ts';
import { DatabaseError } from './database.ts';
import { createLogger, type Logger } from './logger.ts';
import { forbiddenHost } from './relay/address.ts';
import { readSeedFile, SeedListError } from './relay/seed-list.ts';
import type { RelayAddress } from './relay/url.ts';
import { parseArguments } from './service.ts';

process.exitCode = await main();

async function main(): Promise<number> {
  try {
    parseArguments(process.argv.slice(2)); // one round is all it ever does
    await initialize(loadInitializerConfig());
    return 0;
  } catch (error) {
    const expected =
      error instanceof ConfigError ||
      error instanceof SeedListError ||
      error instanceof DatabaseError;
    process.stderr.write(
      `${expected ? error.message : error instanceof Error ? error.stack : String(error)}\n`,
    );
    return 1;
  }
}

async function initialize(config: InitializerConfig): Promise<void> {
  const log = createLogger('initializer', config.logLevel);
  for (const warning of config.warnings) log.warn(warning);
  const seed = await readSeedFile(config.seedRelaysPath);
  for (const { line, text, reason } of seed.invalid)
    log.warn({ line, text, reason }, 'a line of the seed file is skipped');
  const relays = config.allowPrivateRelays
    ? seed.relays
    : seed.relays.filter((relay) => isPublic(relay, log));
  await migrateArchive(config.database, config.owner, log);
  const bigbrotr = await Bigbrotr.connect(config.database, log);
  try {
    const added = await bigbrotr.insertRelays(relays);
    log.info(
      {
        relays: seed.relays.length,
        added,
        duplicates: seed.duplicates,
        invalid: seed.invalid.length,
      },
      'relays of the seed file are in the archive',
    );
  } finally {
    await bigbrotr.close();
  }
}

/** A relay that is never connected to has no place in the archive. */
function isPublic({ url }: RelayAddress, log: Logger): boolean {
  const reason = forbiddenHost(url);
  if (reason) log.warn({ relay: url, reason }, 'a relay of the seed file is skipped');
  return reason === null;
}
