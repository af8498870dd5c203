import { availableParallelism } from 'node:os';
import {
  ConfigError,
  type Environment,
  readEnvironment,
  readVariables,
  type Values,
} from './config/environment.ts';
import {
  commonVariables,
  databaseVariables,
  deploymentVariables,
  finderVariables,
  initializerVariables,
  keyVariables,
  monitorVariables,
  optionalKeyVariables,
  pairProblem,
  poolProblem,
  prioritySynchronizerVariables,
  publishProblem,
  relayVariables,
  sslProblem,
  synchronizerVariables,
  syncVariables,
  timeProblem,
} from './config/schema.ts';
import type {
  DatabaseConfig,
  FinderConfig,
  InitializerConfig,
  MonitorConfig,
  PublishConfig,
  SynchronizerConfig,
  SynchronizerService,
} from './config/types.ts';
import type { LogLevel } from './config/values.ts';

export type * from './config/types.ts';
export { ConfigError, type Environment, readEnvironment };

/**
 * One loader a service: it reads what that service needs, reports every mistake at once, and gives
 * back plain data that can be handed to a worker thread. Times of the clock are in milliseconds,
 * times of events (NIP-01 `created_at`) in seconds.
 */

const initializerShape = { ...commonVariables, ...databaseVariables, ...initializerVariables };
const visitorShape = { ...commonVariables, ...databaseVariables, ...relayVariables };
const monitorShape = { ...visitorShape, ...keyVariables, ...monitorVariables };
const finderShape = { ...visitorShape, ...finderVariables };
const syncShape = { ...visitorShape, ...optionalKeyVariables, ...syncVariables };

/** What scripts and tools need that only ask the database. @throws ConfigError */
export function loadDatabaseConfig(env?: Environment): {
  database: DatabaseConfig;
  logLevel: LogLevel;
  warnings: readonly string[];
} {
  const shape = { ...databaseVariables, LOG_LEVEL: commonVariables.LOG_LEVEL };
  const { values, warnings } = readVariables(shape, env, (given) => [sslProblem(given)]);
  return { database: databaseOf(values, oneConnection), logLevel: values.LOG_LEVEL, warnings };
}

/** @throws ConfigError */
export function loadInitializerConfig(env?: Environment): InitializerConfig {
  const { values, warnings } = readVariables(initializerShape, env, (given) => [sslProblem(given)]);
  return {
    service: 'initializer',
    ...serviceOf(values),
    database: databaseOf(values, oneConnection),
    seedRelaysPath: values.SEED_RELAYS_PATH,
    owner: ownerOf(values),
    warnings,
  };
}

/** @throws ConfigError, also when there is no key pair: the monitor signs a test event. */
export function loadMonitorConfig(env?: Environment): MonitorConfig {
  const { values, warnings } = readVariables(monitorShape, env, (given) => [
    pairProblem(given),
    sslProblem(given),
    poolProblem('MONITOR', given.MONITOR_DB_MIN_POOL, given.MONITOR_DB_MAX_POOL),
    publishProblem(given),
  ]);
  const cores = limitCores('MONITOR_NUM_CORES', values.MONITOR_NUM_CORES);
  return {
    service: 'monitor',
    ...serviceOf(values),
    ...visitorOf(values),
    database: databaseOf(values, {
      minPool: values.MONITOR_DB_MIN_POOL,
      maxPool: values.MONITOR_DB_MAX_POOL,
      commandTimeoutMs: values.MONITOR_DB_COMMAND_TIMEOUT,
    }),
    health: {
      host: values.HEALTH_HOST,
      port: values.MONITOR_HEALTH_PORT,
      portVariable: 'MONITOR_HEALTH_PORT',
    },
    keys: { secretKey: values.SECRET_KEY, publicKey: values.PUBLIC_KEY },
    frequencyMs: values.MONITOR_FREQUENCY_HOUR,
    chunkSize: values.MONITOR_CHUNK_SIZE,
    numCores: cores.numCores,
    requestsPerCore: values.MONITOR_REQUESTS_PER_CORE,
    timeoutsMs: {
      clearnet: values.MONITOR_REQUEST_TIMEOUT ?? values.MONITOR_CLEARNET_TIMEOUT,
      tor: values.MONITOR_REQUEST_TIMEOUT ?? values.MONITOR_TOR_TIMEOUT,
    },
    eventFilter: values.SYNCHRONIZER_EVENT_FILTER,
    checks: values.MONITOR_CHECKS,
    capabilitiesFrequencyMs: values.MONITOR_CAPABILITIES_FREQUENCY_HOUR,
    geoip: { cityPath: values.GEOIP_CITY_PATH, asnPath: values.GEOIP_ASN_PATH },
    publish: publishOf(values),
    loopIntervalMs: values.MONITOR_LOOP_INTERVAL_MINUTES,
    warnings: [...warnings, ...cores.warnings],
  };
}

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
    ...visitorOf(values),
    database: databaseOf(values, {
      minPool: values.SYNCHRONIZER_DB_MIN_POOL,
      maxPool: values.SYNCHRONIZER_DB_MAX_POOL,
      commandTimeoutMs: values.SYNCHRONIZER_DB_COMMAND_TIMEOUT,
    }),
    health: { host: values.HEALTH_HOST, port: own.port, portVariable: own.portVariable },
    keys: secretKey && publicKey ? { secretKey, publicKey } : null,
    startTimestamp: values.SYNCHRONIZER_START_TIMESTAMP,
    stopTimestamp: values.SYNCHRONIZER_STOP_TIMESTAMP,
    eventFilter: values.SYNCHRONIZER_EVENT_FILTER,
    priorityRelaysPath: values.SYNCHRONIZER_PRIORITY_RELAYS_PATH,
    relayMetadataThresholdMs: values.SYNCHRONIZER_RELAY_METADATA_THRESHOLD_HOURS,
    batchSize: values.SYNCHRONIZER_BATCH_SIZE,
    overlapSeconds: values.SYNCHRONIZER_OVERLAP_SECONDS,
    reproveMs: values.SYNCHRONIZER_REPROVE_DAYS,
    live: own.live,
    numCores: own.numCores,
    requestsPerCore: values.SYNCHRONIZER_REQUESTS_PER_CORE,
    requestTimeoutMs: values.SYNCHRONIZER_REQUEST_TIMEOUT,
    loopIntervalMs: values.SYNCHRONIZER_LOOP_INTERVAL_MINUTES,
    warnings: [...warnings, ...own.warnings],
  };
}

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
    ...visitorOf(values),
    database: databaseOf(values, {
      minPool: values.FINDER_DB_MIN_POOL,
      maxPool: values.FINDER_DB_MAX_POOL,
      commandTimeoutMs: values.FINDER_DB_COMMAND_TIMEOUT,
    }),
    health: {
      host: values.HEALTH_HOST,
      port: values.FINDER_HEALTH_PORT,
      portVariable: 'FINDER_HEALTH_PORT',
    },
    frequencyMs: values.FINDER_FREQUENCY_HOUR,
    eventFilter: values.SYNCHRONIZER_EVENT_FILTER,
    urls: values.FINDER_URLS,
    priorityRelaysPath: values.SYNCHRONIZER_PRIORITY_RELAYS_PATH,
    numCores: cores.numCores,
    requestsPerCore: values.FINDER_REQUESTS_PER_CORE,
    requestTimeoutMs: values.FINDER_REQUEST_TIMEOUT,
    warnings: [...warnings, ...cores.warnings],
  };
}

/**
 * Checks what only docker-compose.yml reads: ports, passwords and limits of the containers.
 * @throws ConfigError
 */
export function checkDeployment(env?: Environment): { warnings: readonly string[] } {
  return { warnings: readVariables(deploymentVariables, env).warnings };
}

/**
 * The configuration of the five services at once, for starting them together, and the path of the
 * SQL that makes the archive.
 * @throws ConfigError with the problems of all of them, each once.
 */
export function loadAllConfigs(env?: Environment) {
  const problems = new Set<string>();
  const warnings = new Set<string>();
  const attempt = <T>(load: () => T): T | null => {
    try {
      return load();
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      for (const problem of error.problems) problems.add(problem);
      for (const warning of error.warnings) warnings.add(warning);
      return null;
    }
  };
  const initializer = attempt(() => loadInitializerConfig(env));
  const monitor = attempt(() => loadMonitorConfig(env));
  const synchronizer = attempt(() => loadSynchronizerConfig('synchronizer', env));
  const prioritySynchronizer = attempt(() => loadSynchronizerConfig('priority-synchronizer', env));
  const finder = attempt(() => loadFinderConfig(env));
  const { POSTGRES_DB_INIT_PATH } = deploymentVariables;
  const local = attempt(() => readVariables({ POSTGRES_DB_INIT_PATH }, env).values);
  if (!initializer || !monitor || !synchronizer || !prioritySynchronizer || !finder || !local) {
    throw new ConfigError([...problems], [...warnings]);
  }
  const initSqlPath = local.POSTGRES_DB_INIT_PATH;
  return { initializer, monitor, synchronizer, prioritySynchronizer, finder, initSqlPath };
}

/** A pool for services that ask one thing after another. */
const oneConnection = { minPool: 0, maxPool: 1, commandTimeoutMs: 60_000 };

type Pool = Pick<DatabaseConfig, 'minPool' | 'maxPool' | 'commandTimeoutMs'>;

function databaseOf(values: Values<typeof databaseVariables>, pool: Pool): DatabaseConfig {
  const { POSTGRES_SSL_MODE: mode } = values;
  return {
    host: values.POSTGRES_HOST,
    port: values.POSTGRES_PORT,
    user: values.POSTGRES_USER,
    password: values.POSTGRES_PASSWORD,
    database: values.POSTGRES_DB,
    ...(mode !== 'disable' && { ssl: { mode, ca: values.POSTGRES_SSL_CA } }),
    ...pool,
  };
}

/** The role of dockerfiles/postgres/roles.sql where it has a password; else whoever loaded init.sql. */
function ownerOf(values: Values<typeof initializerShape>): DatabaseConfig {
  const { POSTGRES_DIRECT_HOST: host, POSTGRES_DIRECT_PORT: port } = values;
  const { POSTGRES_OWNER_PASSWORD: password } = values;
  return {
    ...databaseOf(values, oneConnection),
    ...(host !== null && { host, port }),
    ...(password !== undefined && { user: 'bigbrotr_owner', password }),
  };
}

function serviceOf(values: Values<typeof commonVariables>) {
  return {
    logLevel: values.LOG_LEVEL,
    allowPrivateRelays: values.ALLOW_PRIVATE_RELAYS,
    shutdownTimeoutMs: values.SHUTDOWN_TIMEOUT_SECONDS,
  };
}

function visitorOf(values: Values<typeof relayVariables>) {
  const { TORPROXY_HOST: host, TORPROXY_PORT: port } = values;
  return { tor: host === null ? null : { host, port }, blocklistPath: values.RELAY_BLOCKLIST_PATH };
}

function publishOf(values: Values<typeof monitorShape>): PublishConfig | null {
  const { MONITOR_PUBLISH_RELAYS: relays, MONITOR_PUBLISH_NAME: name } = values;
  if (relays.length === 0) return null;
  return { relays, name, geohash: values.MONITOR_PUBLISH_GEOHASH };
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

function limitCores(name: string, wanted: number): { numCores: number; warnings: string[] } {
  const available = availableParallelism();
  if (wanted <= available) return { numCores: wanted, warnings: [] };
  const lowered = `${name} is lowered from ${wanted} to ${available}: this machine has no more cores.`;
  return { numCores: available, warnings: [lowered] };
}
