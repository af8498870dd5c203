/** Entry: `npm run export -- --out FOLDER …` writes the archive, or a part of it, as a dataset (docs/datasets.md). */
import { readEnvironment } from './config/load.ts';
import { exportDataset } from './dataset/export-dataset.ts';
import { parseExportOptions } from './dataset/export-options.ts';
import { readArchive } from './local/read-archive.ts';
import { runCommand } from './runtime/entrypoint.ts';

/** The first rows of a table come when all of it is sorted. */
const LONGEST_STATEMENT_MS = 600_000;

await runCommand(async (args) => {
  const options = parseExportOptions(args);
  const print = (line: string) => void process.stderr.write(`${line}\n`);
  await readArchive(readEnvironment().env, (archive) => exportDataset(archive, options, print), {
    logAs: 'export',
    commandTimeoutMs: LONGEST_STATEMENT_MS,
  });
  return 0;
});
