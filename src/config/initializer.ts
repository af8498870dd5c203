import { type Environment, readVariables, type Values } from './environment.ts';
import { databaseOf, oneConnection, serviceOf } from './parts.ts';
import { commonVariables, databaseVariables, initializerVariables, sslProblem } from './schema.ts';
import type { DatabaseConfig, InitializerConfig } from './types.ts';

const initializerShape = { ...commonVariables, ...databaseVariables, ...initializerVariables };

/** @throws ConfigError */
export function loadInitializerConfig(env?: Environment): InitializerConfig {
  const { values, warnings } = readVariables(initializerShape, env, (given) => [sslProblem(given)]);
  return {
    service: 'initializer',
    ...serviceOf(values),
    database: databaseOf(values, oneConnection),
    seedRelaysPath: values.SEED_RELAYS_PATH,
    priorityRelaysPath: values.SYNCHRONIZER_PRIORITY_RELAYS_PATH,
    owner: ownerOf(values),
    warnings,
  };
}

/** The role of dockerfiles/postgres/roles.sql where it has a password; else the user that loaded init.sql. */
function ownerOf(values: Values<typeof initializerShape>): DatabaseConfig {
  const { POSTGRES_DIRECT_HOST: host, POSTGRES_DIRECT_PORT: port } = values;
  const { POSTGRES_OWNER_PASSWORD: password } = values;
  return {
    ...databaseOf(values, oneConnection),
    ...(host !== null && { host, port }),
    ...(password !== undefined && { user: 'bigbrotr_owner', password }),
  };
}
