import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import type { TestDatabase } from './database.ts';

/** Version of the installed PgBouncer; null where there is none. */
export function pgbouncerVersion(): string | null {
  const { status, stdout } = spawnSync('pgbouncer', ['--version'], { encoding: 'utf8' });
  return status === 0 ? (stdout.split('\n')[0] ?? '') : null;
}

export interface PgBouncer {
  /** The database of the test, reached through PgBouncer. */
  readonly config: TestDatabase['config'];
  /** Ends it by SIGKILL. */
  stop(): Promise<void>;
}

/**
 * Starts PgBouncer in transaction mode in front of a database, with so few server connections that all are shared.
 * `wanted` is the port it takes, any free one unless given. `settings` replace those of the tests, `serves` is the
 * name of the database, or `*` for every one of the server. It ends with this process at the latest.
 */
export async function startPgBouncer(
  { config }: Pick<TestDatabase, 'config'>,
  wanted?: number,
  settings: Readonly<Record<string, string | number>> = {},
  serves: string = config.database,
): Promise<PgBouncer> {
  const folder = await mkdtemp(join(tmpdir(), 'bigbrotr-pgbouncer-'));
  const port = wanted ?? (await freePort());
  const file = join(folder, 'pgbouncer.ini');
  const users = join(folder, 'users.txt');
  await writeFile(users, `"${config.user}" "${config.password}"\n`);
  await writeFile(
    file,
    `[databases]
${serves} = host=${config.host} port=${config.port} user=${config.user} password=${config.password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = ${users}
pool_mode = transaction
${Object.entries({ default_pool_size: 3, server_login_retry: 1, ...settings })
  .map(([name, value]) => `${name} = ${value}\n`)
  .join('')}`,
  );
  await chmod(folder, 0o755);
  const asUser = process.getuid?.() === 0 ? ['-u', 'nobody'] : []; // it refuses to run as root
  const child = spawn('pgbouncer', [...asUser, file], { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.on('data', (data: Buffer) => {
    said += data.toString();
  });
  const end = () => void child.kill('SIGKILL');
  process.once('exit', end);
  const address = { ...config, host: '127.0.0.1', port };
  try {
    await answers(address, child);
  } catch (error) {
    child.kill('SIGKILL');
    throw new Error(`PgBouncer did not start: ${said}`, { cause: error });
  }
  return {
    config: address,
    stop: async () => {
      process.off('exit', end);
      if (child.exitCode === null && child.signalCode === null) {
        child.kill('SIGKILL');
        await once(child, 'exit');
      }
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function answers(config: pg.ClientConfig, child: ChildProcess): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    const client = new pg.Client(config);
    client.on('error', () => {});
    try {
      await client.connect();
      await client.end();
      return;
    } catch (error) {
      if (tries > 100 || child.exitCode !== null) throw error;
      await sleep(50);
    }
  }
}

export async function freePort(): Promise<number> {
  const probe = createServer();
  probe.listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as AddressInfo;
  probe.close();
  await once(probe, 'close');
  return port;
}
