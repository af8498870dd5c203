import { generateSecretKey, getPublicKey } from 'nostr-tools/pure';
import { describe, expect, test } from 'vitest';
import { checkDeployment } from '../../../src/config/deployment.ts';
import { ConfigError, type Environment, loadHealthAddresses } from '../../../src/config/load.ts';

const secret = generateSecretKey();
const GOOD = {
  ...{
    POSTGRES_PASSWORD: 'a',
    POSTGRES_ADMIN_PASSWORD: 'b',
    POSTGRES_OWNER_PASSWORD: 'c',
    API_DB_PASSWORD: 'd',
  },
  ...{ PGBOUNCER_ADMIN_PASSWORD: 'd', PGADMIN_DEFAULT_PASSWORD: 'e' },
  SECRET_KEY: Buffer.from(secret).toString('hex'),
  PUBLIC_KEY: getPublicKey(secret),
};

function problems(work: () => unknown): readonly string[] {
  try {
    work();
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  return [];
}
const problemsOf = (env: Environment) => problems(() => checkDeployment({ ...GOOD, ...env }));

describe('checkDeployment', () => {
  test('accepts a whole .env, and names variables that are none', () => {
    expect(checkDeployment(GOOD)).toEqual([]);
    expect(checkDeployment({ ...GOOD, MONITOR_NUM_CORE: '2' })).toEqual([
      'Unknown variable MONITOR_NUM_CORE, did you mean MONITOR_NUM_CORES?',
    ]);
  });

  test('reports the problems of all services and of the containers at once', () => {
    expect(
      problemsOf({
        ...{ POSTGRES_PASSWORD: 'CHANGE_ME', FINDER_NUM_CORES: 'many', DB_PORT: '0' },
        ...{ PGADMIN_DEFAULT_EMAIL: 'me', PGBOUNCER_ADMIN_PASSWORD: 'two\nlines' },
      }),
    ).toEqual([
      expect.stringMatching(/^POSTGRES_PASSWORD still holds the placeholder/),
      expect.stringMatching(/^FINDER_NUM_CORES must be/),
      expect.stringMatching(/^DB_PORT must be/),
      expect.stringMatching(/^PGADMIN_DEFAULT_EMAIL must be/),
      'PGBOUNCER_ADMIN_PASSWORD must not hold a line break.',
    ]);
  });

  test.each(['admin', 'postgres', 'pgbouncer', 'bigbrotr_reader', 'pg_mine'])(
    'refuses POSTGRES_USER=%s, which has another task',
    (name) => {
      expect(problemsOf({ POSTGRES_USER: name })).toEqual([
        expect.stringContaining(`POSTGRES_USER ${name} names a role that has another task`),
      ]);
    },
  );

  test('refuses a port that two variables name', () => {
    expect(problemsOf({ DB_PORT: '8081' })).toEqual([
      'DB_PORT and MONITOR_HEALTH_PORT name the same port 8081: give each a port of its own.',
    ]);
  });
});

describe('loadHealthAddresses', () => {
  test('gives the address of each service with its variable', () => {
    expect(loadHealthAddresses({ FINDER_HEALTH_PORT: '0' })).toEqual([
      { host: '127.0.0.1', port: 8081, portVariable: 'MONITOR_HEALTH_PORT' },
      { host: '127.0.0.1', port: 8082, portVariable: 'SYNCHRONIZER_HEALTH_PORT' },
      { host: '127.0.0.1', port: 8083, portVariable: 'PRIORITY_SYNCHRONIZER_HEALTH_PORT' },
      { host: '127.0.0.1', port: 0, portVariable: 'FINDER_HEALTH_PORT' },
      { host: '127.0.0.1', port: 8086, portVariable: 'REFRESHER_HEALTH_PORT' },
      { host: '127.0.0.1', port: 8085, portVariable: 'API_PORT' },
      { host: '127.0.0.1', port: 8087, portVariable: 'RELAY_HEALTH_PORT' },
      { host: '127.0.0.1', port: 7777, portVariable: 'RELAY_PORT' },
    ]);
  });

  test('refuses a port that two services share, and leaves wrong values to their loaders', () => {
    expect(problems(() => loadHealthAddresses({ FINDER_HEALTH_PORT: '8081' }))).toEqual([
      'MONITOR_HEALTH_PORT and FINDER_HEALTH_PORT name the same port 8081: give each a port of its own.',
    ]);
    expect(loadHealthAddresses({ FINDER_HEALTH_PORT: 'none' })).toEqual([]);
  });
});
