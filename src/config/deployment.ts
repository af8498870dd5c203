import { ConfigError, type Environment, readVariables } from './environment.ts';
import { healthPortVariables } from './health-ports.ts';
import { loadAllConfigs } from './load.ts';
import { databaseVariables, deploymentVariables } from './schema.ts';
import { sharedPorts } from './shared-ports.ts';
import type { HealthConfig } from './types.ts';

const { POSTGRES_USER, POSTGRES_DB } = databaseVariables;
/** Roles that have another task in the containers (dockerfiles/postgres/roles.sql). */
const TAKEN_ROLE = /^(postgres|admin|pgbouncer|bigbrotr_.*|pg_.*)$/;

/**
 * Checks everything that docker-compose.yml and the services in it take from `.env`.
 *
 * @returns warnings: names that are no variable, with the nearest one
 * @throws ConfigError with all problems at once
 */
export function checkDeployment(env: Environment): readonly string[] {
  const problems = new Set<string>();
  const warnings = new Set<string>();
  for (const check of [checkServices, checkContainers]) {
    try {
      for (const warning of check(env)) warnings.add(warning);
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      for (const problem of error.problems) problems.add(problem);
      for (const warning of error.warnings) warnings.add(warning);
    }
  }
  if (problems.size > 0) throw new ConfigError([...problems], [...warnings]);
  return [...warnings];
}

/**
 * The addresses that docker-compose.yml publishes on this machine, and compose.tls.yml where it is used.
 *
 * @throws ConfigError
 */
export function loadPublishedAddresses(env: Environment): HealthConfig[] {
  const { DB_PORT, PGBOUNCER_PORT, PGADMIN_PORT, PGBOUNCER_TLS_PORT, PGBOUNCER_TLS_PATH } =
    deploymentVariables;
  const shape = {
    ...{ DB_PORT, PGBOUNCER_PORT, PGADMIN_PORT, ...healthPortVariables },
    ...{ PGBOUNCER_TLS_PORT, PGBOUNCER_TLS_PATH },
  };
  const {
    PGBOUNCER_TLS_PORT: tlsPort,
    PGBOUNCER_TLS_PATH: tls,
    ...ports
  } = readVariables(shape, env).values;
  const local = Object.entries(ports).map(([portVariable, port]) => ({
    ...{ host: '127.0.0.1', port, portVariable },
  }));
  const outside = { host: '0.0.0.0', port: tlsPort, portVariable: 'PGBOUNCER_TLS_PORT' };
  return tls === null ? local : [...local, outside];
}

/** Each service logs its own warnings at its start. */
function checkServices(env: Environment): readonly string[] {
  loadAllConfigs(env);
  return [];
}

function checkContainers(env: Environment): readonly string[] {
  const shape = { POSTGRES_USER, POSTGRES_DB, ...deploymentVariables, ...healthPortVariables };
  const { warnings } = readVariables(shape, env, (given) => [
    given.POSTGRES_USER !== undefined && TAKEN_ROLE.test(given.POSTGRES_USER)
      ? `POSTGRES_USER ${given.POSTGRES_USER} names a role that has another task in the containers: take another name, for example bigbrotr.`
      : null,
    given.POSTGRES_DB !== undefined && !/^[A-Za-z0-9_.-]+$/.test(given.POSTGRES_DB)
      ? `POSTGRES_DB ${JSON.stringify(given.POSTGRES_DB)} must hold only letters, digits, dot, dash and underscore in the containers.`
      : null,
    given.PGBOUNCER_ADMIN_PASSWORD?.includes('\n')
      ? 'PGBOUNCER_ADMIN_PASSWORD must not hold a line break.'
      : null,
    ...sharedPorts({
      DB_PORT: given.DB_PORT,
      PGBOUNCER_PORT: given.PGBOUNCER_PORT,
      PGADMIN_PORT: given.PGADMIN_PORT,
      MONITOR_HEALTH_PORT: given.MONITOR_HEALTH_PORT,
      SYNCHRONIZER_HEALTH_PORT: given.SYNCHRONIZER_HEALTH_PORT,
      PRIORITY_SYNCHRONIZER_HEALTH_PORT: given.PRIORITY_SYNCHRONIZER_HEALTH_PORT,
      FINDER_HEALTH_PORT: given.FINDER_HEALTH_PORT,
      REFRESHER_HEALTH_PORT: given.REFRESHER_HEALTH_PORT,
      API_PORT: given.API_PORT,
      RELAY_HEALTH_PORT: given.RELAY_HEALTH_PORT,
      RELAY_PORT: given.RELAY_PORT,
    }),
  ]);
  return warnings;
}
