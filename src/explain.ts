/**
 * Entry: `npm run explain -- wss://relay.example.com` prints everything about one relay. The exit code is 1 when the
 * archive does not know it.
 */
import { readEnvironment } from './config/load.ts';
import { explainLocalRelay } from './local/explain-relay.ts';
import { runCommand } from './runtime/entrypoint.ts';

const EXIT_CODE_OF_FAILURE = 2;

await runCommand(
  (args) =>
    explainLocalRelay(readEnvironment().env, args, (text) => void process.stdout.write(text)),
  EXIT_CODE_OF_FAILURE,
);
