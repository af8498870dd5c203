import { ConfigError, type Environment, readVariables } from './environment.ts';
import {
  apiVariables,
  finderVariables,
  monitorVariables,
  prioritySynchronizerVariables,
  refresherVariables,
  relayServerVariables,
  relayVariables,
  synchronizerVariables,
} from './schema.ts';
import { sharedPorts } from './shared-ports.ts';
import type { HealthConfig } from './types.ts';

/** The variables of the ports on which the services listen. */
export const healthPortVariables = {
  MONITOR_HEALTH_PORT: monitorVariables.MONITOR_HEALTH_PORT,
  SYNCHRONIZER_HEALTH_PORT: synchronizerVariables.SYNCHRONIZER_HEALTH_PORT,
  PRIORITY_SYNCHRONIZER_HEALTH_PORT:
    prioritySynchronizerVariables.PRIORITY_SYNCHRONIZER_HEALTH_PORT,
  FINDER_HEALTH_PORT: finderVariables.FINDER_HEALTH_PORT,
  REFRESHER_HEALTH_PORT: refresherVariables.REFRESHER_HEALTH_PORT,
  API_PORT: apiVariables.API_PORT,
  RELAY_HEALTH_PORT: relayServerVariables.RELAY_HEALTH_PORT,
  RELAY_PORT: relayServerVariables.RELAY_PORT,
};

/**
 * Where the services of one machine listen. Nothing where a variable is wrong: the loaders of the services report that.
 *
 * @throws ConfigError when two of them name the same port
 */
export function loadHealthAddresses(env: Environment): HealthConfig[] {
  const { HEALTH_HOST } = relayVariables;
  const { API_HOST } = apiVariables;
  const { RELAY_HOST } = relayServerVariables;
  const shape = { HEALTH_HOST, API_HOST, RELAY_HOST, ...healthPortVariables };
  let read: ReturnType<typeof readVariables<typeof shape>>;
  try {
    read = readVariables(shape, env);
  } catch (error) {
    if (error instanceof ConfigError) return [];
    throw error;
  }
  const {
    HEALTH_HOST: healthHost,
    API_HOST: apiHost,
    RELAY_HOST: relayHost,
    ...ports
  } = read.values;
  const own: Readonly<Record<string, string>> = { API_PORT: apiHost, RELAY_PORT: relayHost };
  const shared = sharedPorts(ports);
  if (shared.length > 0) throw new ConfigError(shared);
  return Object.entries(ports).map(([portVariable, port]) => {
    return { host: own[portVariable] ?? healthHost, port, portVariable };
  });
}

/** `host:port` of each service of this machine; a port that is chosen at its start is not known. @throws ConfigError */
export function loadServiceAddresses(env: Environment): string[] {
  return loadHealthAddresses(env)
    .filter(({ port, portVariable }) => port !== 0 && portVariable !== 'RELAY_PORT')
    .map(({ host, port }) => {
      const reached = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host;
      return `${reached.includes(':') ? `[${reached}]` : reached}:${port}`;
    });
}
