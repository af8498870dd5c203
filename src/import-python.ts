/**
 * Entry: `npm run import-python -- postgresql://…` copies relays, events and sightings from the database of an archive
 * that Bigbrotr for Python made (docs/from-python.md).
 */
import { readEnvironment } from './config/load.ts';
import { importIntoLocalArchive, parseSource } from './local/import-local-archive.ts';
import { runCommand } from './runtime/entrypoint.ts';

await runCommand(async (args) => {
  const source = parseSource(args);
  const write = (line: string) => void process.stdout.write(`${line}\n`);
  return await importIntoLocalArchive(readEnvironment().env, source, write);
});
