/** Entry: `npm run status` prints how the archive stands, what the services do, and how much room is left. */
import { readEnvironment } from './config/load.ts';
import { printArchiveStatus } from './local/archive-status.ts';
import { runCommand } from './runtime/entrypoint.ts';

const EXIT_CODE_OF_FAILURE = 2;

await runCommand(
  (args) =>
    printArchiveStatus(readEnvironment().env, args, (text) => void process.stdout.write(text)),
  EXIT_CODE_OF_FAILURE,
);
