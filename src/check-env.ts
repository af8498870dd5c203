/**
 * Entry: checks `.env` for the containers, which Docker Compose hands over as the environment. Every problem is reported
 * at once, before a container starts that would keep a wrong value for ever.
 */
import { checkDeployment } from './config/deployment.ts';
import { runCommand } from './runtime/entrypoint.ts';

await runCommand(async () => {
  const warnings = checkDeployment(process.env);
  for (const warning of warnings) process.stdout.write(`${warning}\n`);
  process.stdout.write('The configuration can be used.\n');
  return 0;
});
