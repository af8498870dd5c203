import { connect, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import type { DatabaseAddress } from '../processes/stack.ts';

/** PostgreSQL listens on TCP alone, which a namespace cuts off; a Unix socket of the file system is not. */
export async function forwardDatabase(
  folder: string,
  { host, port }: Pick<DatabaseAddress, 'host' | 'port'>,
): Promise<Server> {
  const server = createServer((client) => {
    const upstream = connect({ host, port });
    client.pipe(upstream).pipe(client);
    client.on('error', () => upstream.destroy());
    upstream.on('error', () => client.destroy());
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(join(folder, '.s.PGSQL.5432'), resolve);
  });
  return server;
}
