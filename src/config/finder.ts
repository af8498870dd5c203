import { type Environment, readVariables } from './environment.ts';
import {
  databaseOf,
  healthOf,
  limitCores,
  relayServiceOf,
  relayServiceShape,
  serviceOf,
} from './parts.ts';
import { finderVariables, poolProblem, sslProblem } from './schema.ts';
import type { FinderConfig } from './types.ts';

const finderShape = { ...relayServiceShape, ...finderVariables };

/** @throws ConfigError */
export function loadFinderConfig(env?: Environment): FinderConfig {
  const { values, warnings } = readVariables(finderShape, env, (given) => [
    sslProblem(given),
    poolProblem('FINDER', given.FINDER_DB_MIN_POOL, given.FINDER_DB_MAX_POOL),
  ]);
  const cores = limitCores('FINDER_NUM_CORES', values.FINDER_NUM_CORES);
  return {
    service: 'finder',
    ...serviceOf(values),
    ...relayServiceOf(values),
    database: databaseOf(values, {
      minPool: values.FINDER_DB_MIN_POOL,
      maxPool: values.FINDER_DB_MAX_POOL,
      commandTimeoutMs: values.FINDER_DB_COMMAND_TIMEOUT,
    }),
    health: healthOf(values, 'FINDER_HEALTH_PORT', values.FINDER_HEALTH_PORT),
    frequencyMs: values.FINDER_FREQUENCY_HOUR,
    eventFilter: values.SYNCHRONIZER_EVENT_FILTER,
    urls: values.FINDER_URLS,
    journalDays: values.JOURNAL_DAYS,
    priorityRelaysPath: values.SYNCHRONIZER_PRIORITY_RELAYS_PATH,
    numCores: cores.numCores,
    requestsPerCore: values.FINDER_REQUESTS_PER_CORE,
    requestTimeoutMs: values.FINDER_REQUEST_TIMEOUT,
    warnings: [...warnings, ...cores.warnings],
  };
}
