import { type Environment, readEnvironment, readVariables } from './environment.ts';
import { loadServiceAddresses } from './health-ports.ts';
import { databaseOf, readerLoginOf } from './parts.ts';
import {
  apiVariables,
  commonVariables,
  databaseVariables,
  poolProblem,
  sslProblem,
} from './schema.ts';
import type { ApiConfig } from './types.ts';

const { LOG_LEVEL, SHUTDOWN_TIMEOUT_SECONDS } = commonVariables;

/** It needs one login: its own, or that of the services. */
const apiShape = {
  ...{ LOG_LEVEL, SHUTDOWN_TIMEOUT_SECONDS },
  ...databaseVariables,
  POSTGRES_PASSWORD: databaseVariables.POSTGRES_PASSWORD.optional(),
  ...apiVariables,
};

/** @throws ConfigError */
export function loadApiConfig(env?: Environment): ApiConfig {
  const { values, warnings } = readVariables(apiShape, env, (given) => [
    sslProblem(given),
    poolProblem('API', given.API_DB_MIN_POOL, given.API_DB_MAX_POOL),
  ]);
  return {
    service: 'api',
    logLevel: values.LOG_LEVEL,
    shutdownTimeoutMs: values.SHUTDOWN_TIMEOUT_SECONDS,
    database: databaseOf(
      { ...values, ...readerLoginOf(values) },
      {
        minPool: values.API_DB_MIN_POOL,
        maxPool: values.API_DB_MAX_POOL,
        commandTimeoutMs: values.API_DB_COMMAND_TIMEOUT,
      },
    ),
    health: { host: values.API_HOST, port: values.API_PORT, portVariable: 'API_PORT' },
    rateLimit: values.API_RATE_LIMIT,
    maxStreams: values.API_MAX_STREAMS,
    corsOrigins: values.API_CORS_ORIGINS,
    trustedProxies: values.API_TRUSTED_PROXIES,
    databaseDiskPath: values.DATABASE_DISK_PATH,
    statusServices: statusServices(values.API_STATUS_SERVICES, env),
    warnings,
  };
}

/** The services named, else those of this machine but the API itself. */
function statusServices(named: readonly string[], env: Environment | undefined): readonly string[] {
  if (named.length > 0) return named;
  const elsewhere = { ...(env ?? readEnvironment().env), API_PORT: '0' };
  return loadServiceAddresses(elsewhere);
}
