/**
 * Entry: names every port of docker-compose.yml that another program uses, all at once. Docker names one at each try. It runs
 * on the network of the host, before the first `docker compose up`: afterwards the stack itself uses them.
 */
import { loadPublishedAddresses } from './config/deployment.ts';
import { requireFreePorts } from './local/free-ports.ts';
import { runCommand } from './runtime/entrypoint.ts';

await runCommand(async () => {
  const addresses = loadPublishedAddresses(process.env);
  await requireFreePorts(addresses, 'of any user');
  process.stdout.write(`No port is in use: ${addresses.map(({ port }) => port).join(', ')}.\n`);
  return 0;
});
