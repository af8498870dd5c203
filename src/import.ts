/** Entry: `npm run import -- FILE|FOLDER|-` takes events of files and datasets into the archive (docs/datasets.md). */
import { readEnvironment } from './config/load.ts';
import { importDatasets } from './dataset/import-dataset.ts';
import { parseImportOptions } from './dataset/import-options.ts';
import { withDatabase } from './local/embedded-access.ts';
import { runCommand } from './runtime/entrypoint.ts';
import { createLogger } from './telemetry/logger.ts';

await runCommand(async (args) => {
  const options = parseImportOptions(args);
  const print = (line: string) => void process.stderr.write(`${line}\n`);
  const { env } = readEnvironment();
  return await withDatabase(env, createLogger('import', 'warn'), (database) =>
    importDatasets(database, options, print),
  );
});
