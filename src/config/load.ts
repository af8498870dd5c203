/**
 * The configuration of each service from the environment. A loader reads what its service needs, reports every mistake at
 * once, and returns plain data that can be sent to a worker thread.
 */
import { loadApiConfig } from './api.ts';
import { ConfigError, type Environment, readVariables } from './environment.ts';
import { loadFinderConfig } from './finder.ts';
import { loadInitializerConfig } from './initializer.ts';
import { loadMonitorConfig } from './monitor.ts';
import { databaseOf, oneConnection } from './parts.ts';
import { loadRefresherConfig } from './refresher.ts';
import { loadRelayConfig } from './relay.ts';
import {
  commonVariables,
  databaseVariables,
  initPathVariable,
  localVariables,
  sslProblem,
} from './schema.ts';
import { loadSynchronizerConfig } from './synchronizer.ts';
import type { DatabaseConfig } from './types.ts';
import type { LogLevel } from './values.ts';

export { type ExplainConfig, loadExplainConfig } from './commands.ts';
export { ConfigError, type Environment, readEnvironment } from './environment.ts';
export { loadHealthAddresses, loadServiceAddresses } from './health-ports.ts';
export type * from './types.ts';
export {
  loadApiConfig,
  loadFinderConfig,
  loadInitializerConfig,
  loadMonitorConfig,
  loadRefresherConfig,
  loadRelayConfig,
  loadSynchronizerConfig,
};

/** The configuration of a tool that only reads the database. @throws ConfigError */
export function loadDatabaseConfig(env?: Environment): {
  database: DatabaseConfig;
  logLevel: LogLevel;
  warnings: readonly string[];
} {
  const shape = { ...databaseVariables, LOG_LEVEL: commonVariables.LOG_LEVEL };
  const { values, warnings } = readVariables(shape, env, (given) => [sslProblem(given)]);
  return { database: databaseOf(values, oneConnection), logLevel: values.LOG_LEVEL, warnings };
}

/** Where `npm start` keeps its data. @throws ConfigError */
export function loadLocalDataPath(env?: Environment): string {
  return readVariables(localVariables, env).values.LOCAL_DATA_PATH;
}

/**
 * The configuration of the eight services at once, for starting them together, and the path of
 * init.sql.
 * @throws ConfigError with the problems of all of them, each once
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
  const api = attempt(() => loadApiConfig(env));
  const refresher = attempt(() => loadRefresherConfig(env));
  const relay = attempt(() => loadRelayConfig(env));
  const local = attempt(() => readVariables(initPathVariable, env).values);
  const relayServices = monitor && synchronizer && prioritySynchronizer && finder;
  if (!initializer || !relayServices || !refresher || !api || !relay || !local) {
    throw new ConfigError([...problems], [...warnings]);
  }
  const initSqlPath = local.POSTGRES_DB_INIT_PATH;
  const services = { monitor, synchronizer, prioritySynchronizer, finder, refresher, api, relay };
  return { initializer, ...services, initSqlPath };
}
