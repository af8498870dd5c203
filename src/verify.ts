/**
 * Entry: `npm run verify` reads the archive back and checks every id and signature again, all of it or
 * `--sample N` events taken at random. Differences are named on standard output, and the exit code is 1 then.
 */
import { readEnvironment } from './config/load.ts';
import { parseSample, verifyLocalArchive } from './local/verify-local-archive.ts';
import { runCommand } from './runtime/entrypoint.ts';

const EXIT_CODE_OF_FAILURE = 2;

await runCommand(async (args) => {
  const sample = parseSample(args);
  return await verifyLocalArchive(readEnvironment().env, {
    sample,
    onResult: (line) => process.stdout.write(`${line}\n`),
    onProgress: (line) => process.stderr.write(`${line}\n`),
  });
}, EXIT_CODE_OF_FAILURE);
