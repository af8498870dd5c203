import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { missing, publicKey, secrets } from './archive.ts';
import { RELAY_URL } from './relay-events.ts';
import { ComposeStack } from './stack.ts';

// Passwords and keys from files instead of .env. Needs a Docker engine with Compose v2.

describe.skipIf(missing !== null)('with secrets from files', () => {
  let stack: ComposeStack;

  beforeAll(async () => {
    stack = await ComposeStack.create(
      ['docker-compose.yml', 'dockerfiles/compose.secrets.yml'],
      (directory) => {
        const files: Record<string, string> = {
          postgres_password: secrets.POSTGRES_PASSWORD,
          postgres_admin_password: secrets.POSTGRES_ADMIN_PASSWORD,
          postgres_owner_password: secrets.POSTGRES_OWNER_PASSWORD,
          api_password: secrets.API_DB_PASSWORD,
          pgbouncer_admin_password: secrets.PGBOUNCER_ADMIN_PASSWORD,
          pgadmin_password: secrets.PGADMIN_DEFAULT_PASSWORD,
          secret_key: secrets.SECRET_KEY,
        };
        for (const [name, value] of Object.entries(files))
          writeFileSync(join(directory, name), `${value}\n`);
        writeFileSync(join(directory, 'seeds.txt'), `${RELAY_URL}\n`);
        writeFileSync(join(directory, 'priority.txt'), '');
        return {
          SECRETS_PATH: directory,
          PUBLIC_KEY: publicKey,
          SEED_RELAYS_PATH: join(directory, 'seeds.txt'),
          SYNCHRONIZER_PRIORITY_RELAYS_PATH: join(directory, 'priority.txt'),
          ALLOW_PRIVATE_RELAYS: 'true',
        };
      },
    );
    await stack.up(['--build', 'pgbouncer']);
    await stack.compose(['run', '--rm', 'initializer']);
  }, 20 * 60_000);

  afterAll(async () => {
    await stack?.down();
  }, 180_000);

  test('the database is created and the initializer has written to it', async () => {
    const sql = 'SELECT url FROM relays';
    expect(await stack.query('bigbrotr', secrets.POSTGRES_PASSWORD, sql)).toEqual([
      { url: RELAY_URL },
    ]);
  });

  test('the environment of no container holds them', async () => {
    const environment = await stack.exec('postgres', 'sh', '-c', 'tr "\\0" "\\n" </proc/1/environ');
    expect(environment).toContain('POSTGRES_PASSWORD_FILE');
    for (const [name, value] of Object.entries(secrets)) {
      expect(environment.includes(value), name).toBe(false);
    }
  });
});
