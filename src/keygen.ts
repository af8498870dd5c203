/** Entry: `npm run keygen` prints a fresh key pair for `.env`. */
import { keyPairLines } from './config/key-pair.ts';
import { runCommand } from './runtime/entrypoint.ts';

await runCommand(async () => {
  process.stdout.write(keyPairLines());
  return 0;
});
