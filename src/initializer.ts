/** Entry: the initializer migrates an archive of an older version, adds the relays of the seed file, and exits. */
import { loadInitializerConfig } from './config/load.ts';
import { initializeArchive } from './database/initialize-archive.ts';
import { parseOnce, runCommand } from './runtime/entrypoint.ts';
import { createLogger } from './telemetry/logger.ts';

await runCommand(async (args) => {
  parseOnce(args); // accepted like by the services: it always runs once
  const config = loadInitializerConfig();
  await initializeArchive(config, createLogger('initializer', config.logLevel));
  return 0;
});
