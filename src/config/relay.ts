import { type Environment, readVariables } from './environment.ts';
import { databaseOf, healthOf, readerLoginOf } from './parts.ts';
import {
  authProblem,
  commonVariables,
  databaseVariables,
  poolProblem,
  readerLoginVariables,
  relayServerVariables,
  relayVariables,
  sslProblem,
} from './schema.ts';
import type { RelayConfig } from './types.ts';

const { LOG_LEVEL, SHUTDOWN_TIMEOUT_SECONDS } = commonVariables;
const { HEALTH_HOST } = relayVariables;

/** It needs one login: that of API and relay, or that of the services. */
const relayShape = {
  ...{ LOG_LEVEL, SHUTDOWN_TIMEOUT_SECONDS, HEALTH_HOST },
  ...databaseVariables,
  POSTGRES_PASSWORD: databaseVariables.POSTGRES_PASSWORD.optional(),
  ...readerLoginVariables,
  ...relayServerVariables,
};

/** @throws ConfigError */
export function loadRelayConfig(env?: Environment): RelayConfig {
  const { values, warnings } = readVariables(relayShape, env, (given) => [
    sslProblem(given),
    poolProblem('RELAY', given.RELAY_DB_MIN_POOL, given.RELAY_DB_MAX_POOL),
    authProblem(given),
  ]);
  return {
    service: 'relay',
    logLevel: values.LOG_LEVEL,
    shutdownTimeoutMs: values.SHUTDOWN_TIMEOUT_SECONDS,
    database: databaseOf(
      { ...values, ...readerLoginOf(values) },
      {
        minPool: values.RELAY_DB_MIN_POOL,
        maxPool: values.RELAY_DB_MAX_POOL,
        commandTimeoutMs: values.RELAY_DB_COMMAND_TIMEOUT,
      },
    ),
    health: healthOf(values, 'RELAY_HEALTH_PORT', values.RELAY_HEALTH_PORT),
    listen: { host: values.RELAY_HOST, port: values.RELAY_PORT, portVariable: 'RELAY_PORT' },
    maxConnections: values.RELAY_MAX_CONNECTIONS,
    maxConnectionsPerAddress: values.RELAY_MAX_CONNECTIONS_PER_ADDRESS,
    maxSubscriptions: values.RELAY_MAX_SUBSCRIPTIONS,
    maxLimit: values.RELAY_MAX_LIMIT,
    rateLimit: values.RELAY_RATE_LIMIT,
    trustedProxies: values.RELAY_TRUSTED_PROXIES,
    information: {
      name: values.RELAY_NAME,
      description: values.RELAY_DESCRIPTION,
      contact: values.RELAY_CONTACT,
      pubkey: values.RELAY_PUBKEY[0] ?? null,
    },
    authUrl: values.RELAY_AUTH ? values.RELAY_URL : null,
    readers: values.RELAY_READERS,
    warnings,
  };
}
