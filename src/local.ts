/**
 * Entry: the whole archive on one machine, without Docker (`npm start`). It starts an embedded PostgreSQL, or uses the
 * server that POSTGRES_HOST names, creates or migrates the archive and runs the services as child processes.
 */
import { readEnvironment } from './config/load.ts';
import { LocalStack } from './local/local-stack.ts';
import { USAGE } from './local/usage.ts';
import { abortOnSignals, parseOnce, runCommand } from './runtime/entrypoint.ts';

await runCommand(async (args) => {
  if (args.includes('--help') || args.includes('-h')) {
    process.stdout.write(USAGE);
    return 0;
  }
  const once = parseOnce(args);
  const stopping = abortOnSignals();
  const { env } = readEnvironment();
  const stack = await LocalStack.create(env, { once, stopping, out: process.stdout });
  return await stack.run();
});
