import { availableParallelism } from 'node:os';
import { ConfigError, type Values } from './environment.ts';
import {
  commonVariables,
  databaseVariables,
  type readerLoginVariables,
  relayVariables,
} from './schema.ts';
import { testHostsFor } from './test-hosts.ts';
import type { DatabaseConfig, HealthConfig } from './types.ts';
import { makePassword } from './values.ts';

/** The parts that the configurations of several services share, each from its variables. */

/** The variables of every service that connects to relays. */
export const relayServiceShape = { ...commonVariables, ...databaseVariables, ...relayVariables };

type Pool = Pick<DatabaseConfig, 'minPool' | 'maxPool' | 'commandTimeoutMs'>;

/** A pool for programs that run one statement after another. */
export const oneConnection: Pool = { minPool: 0, maxPool: 1, commandTimeoutMs: 60_000 };

export function databaseOf(values: Values<typeof databaseVariables>, pool: Pool): DatabaseConfig {
  const { POSTGRES_SSL_MODE: mode } = values;
  return {
    host: values.POSTGRES_HOST,
    port: values.POSTGRES_PORT,
    user: values.POSTGRES_USER,
    password: values.POSTGRES_PASSWORD,
    database: values.POSTGRES_DB,
    shards: values.POSTGRES_SHARDS,
    ...(mode !== 'disable' && { ssl: { mode, ca: values.POSTGRES_SSL_CA } }),
    ...pool,
  };
}

/**
 * The login of services that only read: their own where it is set, else that of all services.
 *
 * @throws ConfigError where it has no password
 */
export function readerLoginOf(
  values: Values<typeof readerLoginVariables> & {
    readonly POSTGRES_USER: string;
    readonly POSTGRES_PASSWORD?: string | undefined;
  },
): { readonly POSTGRES_USER: string; readonly POSTGRES_PASSWORD: string } {
  const { API_DB_USER: user, API_DB_PASSWORD: own, POSTGRES_PASSWORD: shared } = values;
  const password = user === null ? shared : (own ?? shared);
  if (password === undefined)
    throw new ConfigError([
      `${user === null ? 'POSTGRES_PASSWORD' : 'API_DB_PASSWORD'} is not set. ${makePassword}`,
    ]);
  return { POSTGRES_USER: user ?? values.POSTGRES_USER, POSTGRES_PASSWORD: password };
}

export function serviceOf(values: Values<typeof commonVariables>) {
  return {
    logLevel: values.LOG_LEVEL,
    allowPrivateRelays: values.ALLOW_PRIVATE_RELAYS,
    shutdownTimeoutMs: values.SHUTDOWN_TIMEOUT_SECONDS,
  };
}

/** What every service has that connects to relays. */
export function relayServiceOf(
  values: Values<typeof relayVariables & Pick<typeof commonVariables, 'ALLOW_PRIVATE_RELAYS'>>,
) {
  const { TORPROXY_HOST: host, TORPROXY_PORT: port, DATABASE_DISK_PATH: disk } = values;
  return {
    tor: host === null ? null : { host, port },
    networkTest: testHostsFor(values.NETWORK_TEST_HOSTS, values.ALLOW_PRIVATE_RELAYS),
    ...(disk !== null && { databaseDiskPath: disk }),
    blocklistPath: values.RELAY_BLOCKLIST_PATH,
  };
}

/** @param portVariable named in the message when the port is in use */
export function healthOf(
  { HEALTH_HOST: host }: Values<Pick<typeof relayVariables, 'HEALTH_HOST'>>,
  portVariable: string,
  port: number,
): HealthConfig {
  return { host, port, portVariable };
}

/** Worker threads: not more than the machine has cores. */
export function limitCores(name: string, wanted: number): { numCores: number; warnings: string[] } {
  const available = availableParallelism();
  if (wanted <= available) return { numCores: wanted, warnings: [] };
  const lowered = `${name} is lowered from ${wanted} to ${available}: this machine has no more cores.`;
  return { numCores: available, warnings: [lowered] };
}
