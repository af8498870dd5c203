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
  keyVariables,
  monitorVariables,
  pairProblem,
  poolProblem,
  publishProblem,
  sslProblem,
} from './schema.ts';
import type { MonitorConfig, PublishConfig } from './types.ts';

const monitorShape = { ...relayServiceShape, ...keyVariables, ...monitorVariables };

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
    ...relayServiceOf(values),
    database: databaseOf(values, {
      minPool: values.MONITOR_DB_MIN_POOL,
      maxPool: values.MONITOR_DB_MAX_POOL,
      commandTimeoutMs: values.MONITOR_DB_COMMAND_TIMEOUT,
    }),
    health: healthOf(values, 'MONITOR_HEALTH_PORT', values.MONITOR_HEALTH_PORT),
    keys: { secretKey: values.SECRET_KEY, publicKey: values.PUBLIC_KEY },
    frequencySeconds: values.MONITOR_FREQUENCY_HOUR,
    chunkSize: values.MONITOR_CHUNK_SIZE,
    numCores: cores.numCores,
    requestsPerCore: values.MONITOR_REQUESTS_PER_CORE,
    timeoutsMs: {
      clearnet: values.MONITOR_REQUEST_TIMEOUT ?? values.MONITOR_CLEARNET_TIMEOUT,
      tor: values.MONITOR_REQUEST_TIMEOUT ?? values.MONITOR_TOR_TIMEOUT,
    },
    eventFilter: values.SYNCHRONIZER_EVENT_FILTER,
    checks: values.MONITOR_CHECKS,
    capabilitiesFrequencySeconds: values.MONITOR_CAPABILITIES_FREQUENCY_HOUR,
    geoip: { cityPath: values.GEOIP_CITY_PATH, asnPath: values.GEOIP_ASN_PATH },
    publish: publishOf(values),
    webhooks: values.MONITOR_WEBHOOKS,
    apiPublicUrl: values.API_PUBLIC_URL,
    loopIntervalSeconds: values.MONITOR_LOOP_INTERVAL_MINUTES,
    warnings: [...warnings, ...cores.warnings],
  };
}

function publishOf(values: Values<typeof monitorShape>): PublishConfig | null {
  const { MONITOR_PUBLISH_RELAYS: relays, MONITOR_PUBLISH_NAME: name } = values;
  if (relays.length === 0) return null;
  return { relays, name, geohash: values.MONITOR_PUBLISH_GEOHASH };
}
