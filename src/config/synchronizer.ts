import { type Environment, readVariables, type Values } from './environment.ts';
import {
  databaseOf,
  healthOf,
  limitCores,
  relayServiceOf,
  relayServiceShape,
  serviceOf,
} from './parts.ts';
import {
  optionalKeyVariables,
  pairProblem,
  poolProblem,
  prioritySynchronizerVariables,
  sslProblem,
  synchronizerVariables,
  syncVariables,
  timeProblem,
} from './schema.ts';
import type { SynchronizerConfig, SynchronizerService } from './types.ts';

const syncShape = { ...relayServiceShape, ...optionalKeyVariables, ...syncVariables };

/**
 * The two synchronizers share their settings but for cores, health port and live subscriptions.
 * @throws ConfigError
 */
export function loadSynchronizerConfig(
  service: SynchronizerService,
  env?: Environment,
): SynchronizerConfig {
  const { values, own, warnings } = readSynchronizer(service, env);
  const { SECRET_KEY: secretKey, PUBLIC_KEY: publicKey } = values;
  return {
    service,
    ...serviceOf(values),
    ...relayServiceOf(values),
    database: databaseOf(values, {
      minPool: values.SYNCHRONIZER_DB_MIN_POOL,
      maxPool: values.SYNCHRONIZER_DB_MAX_POOL,
      commandTimeoutMs: values.SYNCHRONIZER_DB_COMMAND_TIMEOUT,
    }),
    health: healthOf(values, own.portVariable, own.port),
    keys: secretKey && publicKey ? { secretKey, publicKey } : null,
    startTimestamp: values.SYNCHRONIZER_START_TIMESTAMP,
    stopTimestamp: values.SYNCHRONIZER_STOP_TIMESTAMP,
    eventFilter: values.SYNCHRONIZER_EVENT_FILTER,
    priorityRelaysPath: values.SYNCHRONIZER_PRIORITY_RELAYS_PATH,
    relayMetadataThresholdSeconds: values.SYNCHRONIZER_RELAY_METADATA_THRESHOLD_HOURS,
    batchSize: values.SYNCHRONIZER_BATCH_SIZE,
    overlapSeconds: values.SYNCHRONIZER_OVERLAP_SECONDS,
    reproveSeconds: values.SYNCHRONIZER_REPROVE_DAYS,
    live: own.live,
    numCores: own.numCores,
    requestsPerCore: values.SYNCHRONIZER_REQUESTS_PER_CORE,
    requestTimeoutMs: values.SYNCHRONIZER_REQUEST_TIMEOUT,
    loopIntervalSeconds: values.SYNCHRONIZER_LOOP_INTERVAL_MINUTES,
    warnings: [...warnings, ...own.warnings],
  };
}

function readSynchronizer(service: SynchronizerService, env: Environment | undefined) {
  if (service === 'synchronizer') {
    const shape = { ...syncShape, ...synchronizerVariables };
    const { values, warnings } = readVariables(shape, env, syncProblems);
    const own = {
      ...limitCores('SYNCHRONIZER_NUM_CORES', values.SYNCHRONIZER_NUM_CORES),
      live: values.SYNCHRONIZER_LIVE,
      port: values.SYNCHRONIZER_HEALTH_PORT,
      portVariable: 'SYNCHRONIZER_HEALTH_PORT',
    };
    return { values, own, warnings };
  }
  const shape = { ...syncShape, ...prioritySynchronizerVariables };
  const { values, warnings } = readVariables(shape, env, syncProblems);
  const own = {
    ...limitCores('PRIORITY_SYNCHRONIZER_NUM_CORES', values.PRIORITY_SYNCHRONIZER_NUM_CORES),
    live: values.PRIORITY_SYNCHRONIZER_LIVE,
    port: values.PRIORITY_SYNCHRONIZER_HEALTH_PORT,
    portVariable: 'PRIORITY_SYNCHRONIZER_HEALTH_PORT',
  };
  return { values, own, warnings };
}

function syncProblems(given: Partial<Values<typeof syncShape>>): (string | null)[] {
  return [
    pairProblem(given),
    sslProblem(given),
    poolProblem('SYNCHRONIZER', given.SYNCHRONIZER_DB_MIN_POOL, given.SYNCHRONIZER_DB_MAX_POOL),
    timeProblem(given.SYNCHRONIZER_START_TIMESTAMP, given.SYNCHRONIZER_STOP_TIMESTAMP),
  ];
}
