import { createServer } from 'node:net';
import { ConfigError, type HealthConfig } from '../config/load.ts';
import { listenProblem } from '../telemetry/health.ts';

/**
 * Tries every address at once.
 *
 * @param listener `of any user`: a privileged user listens there later, so that only ports in use are refused
 * @throws ConfigError that names each address that cannot be listened on
 */
export async function requireFreePorts(
  addresses: readonly HealthConfig[],
  listener: 'of this user' | 'of any user' = 'of this user',
): Promise<void> {
  const problems = await Promise.all(addresses.map((address) => problemOf(address, listener)));
  const found = problems.filter((problem) => problem !== null);
  if (found.length > 0) throw new ConfigError(found);
}

function problemOf(
  address: HealthConfig,
  listener: 'of this user' | 'of any user',
): Promise<string | null> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', (error: NodeJS.ErrnoException) => {
      const mayBeFree = listener === 'of any user' && error.code === 'EACCES';
      resolve(mayBeFree ? null : listenProblem(error, address));
    });
    probe.listen({ host: address.host, port: address.port }, () =>
      probe.close(() => resolve(null)),
    );
  });
}
