import { once } from 'node:events';
import { createServer, type Server } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { missing, publicKey, secrets } from './archive.ts';
import { ComposeStack, eventually } from './stack.ts';

// What a first start says before anything is made. Needs a Docker engine with Compose v2.

async function listenOn(port: number): Promise<Server> {
  const server = createServer().listen(port, '127.0.0.1');
  await once(server, 'listening');
  return server;
}

describe.skipIf(missing !== null)('a first start', () => {
  let stack: ComposeStack;
  const create = async (variables: Record<string, string>) => {
    stack = await ComposeStack.create(['docker-compose.yml'], () => variables);
  };
  afterEach(async () => {
    await stack.down();
  }, 180_000);

  test('reports every mistake of .env at once, and starts nothing', async () => {
    await create({
      ...{ POSTGRES_PASSWORD: 'CHANGE_ME', POSTGRES_USER: 'admin', SECRET_KEY: 'nsec1' },
      ...{ PGADMIN_DEFAULT_EMAIL: 'me', POSTGRES_SHARED_BUFFERS: 'much' },
    });
    await expect(stack.compose(['up', '-d', '--build', 'pgbouncer'], 15)).rejects.toThrow(
      /check_env/,
    );
    const said = await stack.compose(['logs', '--no-color', 'check_env']);
    for (const problem of [
      /POSTGRES_PASSWORD still holds the placeholder/,
      /SECRET_KEY must be 64 hexadecimal/,
      /POSTGRES_ADMIN_PASSWORD is not set/,
      /PGBOUNCER_ADMIN_PASSWORD is not set/,
      /PGADMIN_DEFAULT_EMAIL must be an e-mail/,
      /POSTGRES_SHARED_BUFFERS must be a size/,
      /POSTGRES_USER admin names a role that has another task/,
    ])
      expect(said).toMatch(problem);
    expect((await stack.inspect('postgres')).State.Status).toBe('created');
  }, 900_000);

  test('reports unknown variables with the most similar known one', async () => {
    await create({ ...secrets, PUBLIC_KEY: publicKey });
    const said = await stack.compose(['run', '--rm', '-e', 'MONITOR_NUM_CORE=2', 'check_env'], 15);
    expect(said).toContain('Unknown variable MONITOR_NUM_CORE, did you mean MONITOR_NUM_CORES?');
    expect(said).toContain('The configuration can be used.');
  }, 900_000);

  test('reports every port that is in use at once, before anything is created', async () => {
    await create({ ...secrets, PUBLIC_KEY: publicKey });
    const used = ['DB_PORT', 'PGBOUNCER_PORT', 'FINDER_HEALTH_PORT'] as const;
    const listeners = await Promise.all(used.map((name) => listenOn(stack.ports[name])));
    try {
      const refused = stack.compose(['run', '--rm', 'check_ports'], 15);
      for (const name of used)
        await expect(refused).rejects.toThrow(
          new RegExp(
            `Port ${stack.ports[name]} on 127\\.0\\.0\\.1 is in use.*set ${name} to a free port`,
          ),
        );
      await expect(refused).rejects.not.toThrow(/PGADMIN_PORT|MONITOR_HEALTH_PORT/);
    } finally {
      for (const listener of listeners) listener.close();
    }
    expect(await stack.compose(['run', '--rm', 'check_ports'])).toMatch(/^No port is in use: \d/m);
    expect(await stack.compose(['ps', '-aq', 'postgres'])).toBe('');
  }, 900_000);

  test('names a full disk in the first line of PostgreSQL’s log, with what to do', async () => {
    await create({ ...secrets, PUBLIC_KEY: publicKey });
    await stack.compose(['build', 'check_env', 'postgres'], 15);
    const uid = ['run', '--rm', '--no-deps', '--entrypoint', 'id', 'roles', '-u'];
    const owner = (await stack.compose(uid)).trim();
    await stack.down();
    stack = await ComposeStack.create(
      ['docker-compose.yml', 'tests/compose/docker-compose.small-disk.yml'],
      () => ({ ...secrets, PUBLIC_KEY: publicKey, SMALL_DISK_UID: owner }),
    );
    await stack.compose(['build', 'check_env', 'postgres'], 15);
    await stack.compose(['up', '-d', 'postgres'], 15);
    const first = await eventually(
      'the log of PostgreSQL',
      async () => (await stack.compose(['logs', '--no-log-prefix', 'postgres'])).split('\n')[0],
      (line) => line !== '',
    );
    expect(first).toMatch(
      /^The disk that holds the database is full \(\d+ MiB are free\): free space on it\. Nothing is lost/,
    );
  }, 900_000);

  test('creates a key pair without Node and without .env', async () => {
    await create({});
    const printed = await stack.compose(['run', '--rm', 'keygen'], 15);
    expect(printed).toMatch(/^SECRET_KEY=[0-9a-f]{64}\r?\nPUBLIC_KEY=[0-9a-f]{64}\r?\n$/m);
  }, 900_000);
});
