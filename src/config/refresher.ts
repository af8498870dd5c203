import { type Environment, readVariables } from './environment.ts';
import { databaseOf, healthOf, serviceOf } from './parts.ts';
import {
  commonVariables,
  databaseVariables,
  poolProblem,
  refresherVariables,
  relayVariables,
  sslProblem,
} from './schema.ts';
import type { RefresherConfig } from './types.ts';

const { HEALTH_HOST } = relayVariables;
const refresherShape = {
  ...commonVariables,
  ...databaseVariables,
  HEALTH_HOST,
  ...refresherVariables,
};

/** @throws ConfigError */
export function loadRefresherConfig(env?: Environment): RefresherConfig {
  const { values, warnings } = readVariables(refresherShape, env, (given) => [
    sslProblem(given),
    poolProblem('REFRESHER', given.REFRESHER_DB_MIN_POOL, given.REFRESHER_DB_MAX_POOL),
  ]);
  return {
    service: 'refresher',
    ...serviceOf(values),
    tor: null,
    networkTest: null,
    database: databaseOf(values, {
      minPool: values.REFRESHER_DB_MIN_POOL,
      maxPool: values.REFRESHER_DB_MAX_POOL,
      commandTimeoutMs: values.REFRESHER_DB_COMMAND_TIMEOUT,
    }),
    health: healthOf(values, 'REFRESHER_HEALTH_PORT', values.REFRESHER_HEALTH_PORT),
    cpuShare: values.REFRESHER_CPU_SHARE,
    metricsSeconds: values.REFRESHER_METRICS_SECONDS,
    warnings,
  };
}
