import type { z } from 'zod';
import { checkNames } from '../nostr/check-result.ts';
import { forbiddenHost } from '../relay/address.ts';
import { networkOf, type RelayUrl } from '../relay/url.ts';
import {
  boolean,
  certificateFile,
  checkList,
  cores,
  count,
  databaseHost,
  days,
  email,
  eventFilter,
  geohashOrNone,
  host,
  hostOrNone,
  hours,
  identifier,
  integer,
  key,
  listenPort,
  logLevel,
  makeKeys,
  makePassword,
  minutes,
  password,
  plain,
  plainOrNone,
  port,
  publicKeyOf,
  relayList,
  seconds,
  secondsOrNone,
  secretKey,
  size,
  sslMode,
  startTimestamp,
  stopTimestamp,
  webUrls,
} from './values.ts';

/**
 * Every environment variable of Bigbrotr: what kind of value it has (values.ts), and its default.
 * A default is written as it stands in `env.example`, which a test compares with this table.
 */

export const PLACEHOLDER = 'CHANGE_ME';

/** Variables that may also be given as `NAME_FILE`, and whose values no message ever shows. */
export const secretNames = [
  'POSTGRES_PASSWORD',
  'POSTGRES_ADMIN_PASSWORD',
  'POSTGRES_READER_PASSWORD',
  'POSTGRES_OWNER_PASSWORD',
  'SECRET_KEY',
  'PGADMIN_DEFAULT_PASSWORD',
  'PGBOUNCER_ADMIN_PASSWORD',
] as const;

/** What to do about a variable that is missing or still holds the placeholder, as a sentence. */
export function remedyFor(name: string): string {
  if (name === 'SECRET_KEY' || name === 'PUBLIC_KEY') return makeKeys;
  return name.endsWith('PASSWORD') ? makePassword : 'Put your own value there.';
}

export const commonVariables = {
  LOG_LEVEL: logLevel.prefault('info'),
  ALLOW_PRIVATE_RELAYS: boolean('false'),
  SHUTDOWN_TIMEOUT_SECONDS: seconds(1, 300).prefault('10'),
};

export const databaseVariables = {
  POSTGRES_HOST: databaseHost.prefault(''),
  POSTGRES_PORT: port.prefault('5432'),
  POSTGRES_USER: identifier.prefault('bigbrotr'),
  POSTGRES_PASSWORD: password,
  POSTGRES_DB: identifier.prefault('bigbrotr'),
  POSTGRES_SSL_MODE: sslMode.prefault('disable'),
  POSTGRES_SSL_CA: certificateFile.prefault(''),
};

export const initializerVariables = {
  SEED_RELAYS_PATH: plain.prefault('./seed_relays.txt'),
  POSTGRES_OWNER_PASSWORD: password.optional(),
  POSTGRES_DIRECT_HOST: hostOrNone.prefault(''),
  POSTGRES_DIRECT_PORT: port.prefault('5432'),
};

/** What both the monitor and the synchronizers need to visit relays. */
export const relayVariables = {
  TORPROXY_HOST: hostOrNone.prefault(''),
  TORPROXY_PORT: port.prefault('9050'),
  RELAY_BLOCKLIST_PATH: plainOrNone.prefault(''),
  HEALTH_HOST: host.prefault('127.0.0.1'),
};

export const keyVariables = { SECRET_KEY: secretKey, PUBLIC_KEY: key };
export const optionalKeyVariables = {
  SECRET_KEY: secretKey.optional(),
  PUBLIC_KEY: key.optional(),
};

export const monitorVariables = {
  MONITOR_FREQUENCY_HOUR: hours(1, 8760).prefault('8'),
  MONITOR_NUM_CORES: cores,
  MONITOR_CHUNK_SIZE: count(10_000).prefault('50'),
  MONITOR_REQUESTS_PER_CORE: count(1000).prefault('100'),
  MONITOR_REQUEST_TIMEOUT: secondsOrNone(1, 600).prefault(''),
  MONITOR_CLEARNET_TIMEOUT: seconds(1, 600).prefault('10'),
  MONITOR_TOR_TIMEOUT: seconds(1, 600).prefault('30'),
  SYNCHRONIZER_EVENT_FILTER: eventFilter.prefault('{}'), // relays are asked what will be archived of them
  MONITOR_CHECKS: checkList.prefault(checkNames.join(',')),
  MONITOR_CAPABILITIES_FREQUENCY_HOUR: hours(1, 8760).prefault('24'),
  GEOIP_CITY_PATH: plainOrNone.prefault(''),
  GEOIP_ASN_PATH: plainOrNone.prefault(''),
  MONITOR_PUBLISH_RELAYS: relayList.prefault(''),
  MONITOR_PUBLISH_NAME: plain.prefault('Bigbrotr'),
  MONITOR_PUBLISH_GEOHASH: geohashOrNone.prefault(''),
  MONITOR_LOOP_INTERVAL_MINUTES: minutes(1, 10_080).prefault('15'),
  MONITOR_DB_MIN_POOL: integer(0, 1000).prefault('2'),
  MONITOR_DB_MAX_POOL: count(1000).prefault('5'),
  MONITOR_DB_COMMAND_TIMEOUT: seconds(1, 3600).prefault('60'),
  MONITOR_HEALTH_PORT: listenPort.prefault('8081'),
};

/** Shared by the two synchronizers. */
export const syncVariables = {
  SYNCHRONIZER_REQUESTS_PER_CORE: count(1000).prefault('10'),
  SYNCHRONIZER_REQUEST_TIMEOUT: seconds(1, 600).prefault('20'),
  SYNCHRONIZER_START_TIMESTAMP: startTimestamp.prefault('0'),
  SYNCHRONIZER_STOP_TIMESTAMP: stopTimestamp.prefault('-1'),
  SYNCHRONIZER_EVENT_FILTER: eventFilter.prefault('{}'),
  SYNCHRONIZER_PRIORITY_RELAYS_PATH: plain.prefault('./priority_relays.txt'),
  SYNCHRONIZER_RELAY_METADATA_THRESHOLD_HOURS: hours(1, 8760).prefault('12'),
  SYNCHRONIZER_LOOP_INTERVAL_MINUTES: minutes(1, 10_080).prefault('15'),
  SYNCHRONIZER_BATCH_SIZE: count(10_000).prefault('500'),
  SYNCHRONIZER_OVERLAP_SECONDS: integer(0, 31_536_000, 'a whole number of seconds').prefault(
    '3600',
  ),
  SYNCHRONIZER_REPROVE_DAYS: days(1, 3650).prefault('30'),
  SYNCHRONIZER_DB_MIN_POOL: integer(0, 1000).prefault('2'),
  SYNCHRONIZER_DB_MAX_POOL: count(1000).prefault('5'),
  SYNCHRONIZER_DB_COMMAND_TIMEOUT: seconds(1, 3600).prefault('60'),
};

export const synchronizerVariables = {
  SYNCHRONIZER_NUM_CORES: cores,
  SYNCHRONIZER_LIVE: boolean('false'),
  SYNCHRONIZER_HEALTH_PORT: listenPort.prefault('8082'),
};

export const prioritySynchronizerVariables = {
  PRIORITY_SYNCHRONIZER_NUM_CORES: cores,
  PRIORITY_SYNCHRONIZER_LIVE: boolean('true'),
  PRIORITY_SYNCHRONIZER_HEALTH_PORT: listenPort.prefault('8083'),
};

export const finderVariables = {
  FINDER_FREQUENCY_HOUR: hours(1, 8760).prefault('8'),
  FINDER_NUM_CORES: cores,
  FINDER_REQUESTS_PER_CORE: count(1000).prefault('10'),
  FINDER_REQUEST_TIMEOUT: seconds(1, 600).prefault('20'),
  FINDER_URLS: webUrls.prefault(''),
  SYNCHRONIZER_EVENT_FILTER: syncVariables.SYNCHRONIZER_EVENT_FILTER,
  SYNCHRONIZER_PRIORITY_RELAYS_PATH: syncVariables.SYNCHRONIZER_PRIORITY_RELAYS_PATH,
  FINDER_DB_MIN_POOL: integer(0, 1000).prefault('2'),
  FINDER_DB_MAX_POOL: count(1000).prefault('5'),
  FINDER_DB_COMMAND_TIMEOUT: seconds(1, 3600).prefault('60'),
  FINDER_HEALTH_PORT: listenPort.prefault('8084'),
};

/** Read by `npm start` only. */
export const localVariables = { LOCAL_DATA_PATH: plain.prefault('./data') };

/** Read by docker-compose.yml; of the services only the one-machine start asks for the init path. */
export const deploymentVariables = {
  POSTGRES_DB_DATA_PATH: plain.prefault(''),
  POSTGRES_DB_INIT_PATH: plain.prefault('./init.sql'),
  POSTGRES_ADMIN_PASSWORD: password,
  POSTGRES_READER_PASSWORD: password.prefault(''),
  POSTGRES_SHARED_BUFFERS: size.prefault('512MB'),
  POSTGRES_MEMORY: size.prefault('4g'),
  MONITOR_MEMORY: size.prefault('1g'),
  SYNCHRONIZER_MEMORY: size.prefault('2g'),
  PRIORITY_SYNCHRONIZER_MEMORY: size.prefault('2g'),
  FINDER_MEMORY: size.prefault('1g'),
  DB_PORT: port.prefault('5432'),
  PGBOUNCER_PORT: port.prefault('6432'),
  PGBOUNCER_ADMIN_PASSWORD: password,
  PGADMIN_PORT: port.prefault('8080'),
  PGADMIN_DEFAULT_EMAIL: email.prefault('admin@example.com'),
  PGADMIN_DEFAULT_PASSWORD: password,
};

export const allVariables = {
  ...commonVariables,
  ...databaseVariables,
  ...initializerVariables,
  ...relayVariables,
  ...keyVariables,
  ...monitorVariables,
  ...syncVariables,
  ...synchronizerVariables,
  ...prioritySynchronizerVariables,
  ...finderVariables,
  ...localVariables,
  ...deploymentVariables,
};

/** Variables that passed by themselves; what was refused is absent, what is unset is undefined. */
type Given<T extends Record<string, z.ZodType>> = { [K in keyof T]?: z.output<T[K]> };

/** What is wrong with the key pair as a pair, or null. Names neither key. */
export function pairProblem(given: Given<typeof optionalKeyVariables>): string | null {
  const { SECRET_KEY: secret, PUBLIC_KEY: open } = given;
  if (secret && open) {
    const fits = publicKeyOf(secret) === open;
    return fits ? null : `PUBLIC_KEY is not the public key of SECRET_KEY. ${makeKeys}`;
  }
  if (secret && 'PUBLIC_KEY' in given)
    return `PUBLIC_KEY is not set but SECRET_KEY is. ${makeKeys}`;
  if (open && 'SECRET_KEY' in given) return `SECRET_KEY is not set but PUBLIC_KEY is. ${makeKeys}`;
  return null;
}

/** What is wrong with the two settings of TLS together, or null. */
export function sslProblem({
  POSTGRES_SSL_MODE: mode,
  POSTGRES_SSL_CA: ca,
}: Given<Pick<typeof databaseVariables, 'POSTGRES_SSL_MODE' | 'POSTGRES_SSL_CA'>>): string | null {
  if (mode === 'verify-ca' && ca === null)
    return 'POSTGRES_SSL_MODE verify-ca needs POSTGRES_SSL_CA: the certificate of the authority, as a PEM file.';
  if (mode === 'disable' && ca)
    return 'POSTGRES_SSL_CA is set but POSTGRES_SSL_MODE is disable: nothing would be encrypted. Set it to verify-full.';
  return null;
}

/** Relays to publish to that could never be connected to. */
export function publishProblem({
  MONITOR_PUBLISH_RELAYS: relays = [],
  ALLOW_PRIVATE_RELAYS: allowPrivate,
  TORPROXY_HOST: tor,
}: {
  readonly MONITOR_PUBLISH_RELAYS?: readonly RelayUrl[];
  readonly ALLOW_PRIVATE_RELAYS?: boolean;
  readonly TORPROXY_HOST?: string | null;
}): string | null {
  for (const url of relays) {
    const forbidden = allowPrivate ? null : forbiddenHost(url);
    if (forbidden) return `MONITOR_PUBLISH_RELAYS names ${url}, which is refused: ${forbidden}.`;
    const network = networkOf(url);
    if (network === 'tor' && tor === null)
      return `MONITOR_PUBLISH_RELAYS names ${url}, which needs Tor: set TORPROXY_HOST.`;
    if (network === 'i2p' || network === 'loki')
      return `MONITOR_PUBLISH_RELAYS names ${url}, and there is no way into ${network}.`;
  }
  return null;
}

export function poolProblem(
  prefix: 'MONITOR' | 'SYNCHRONIZER' | 'FINDER',
  min: number | undefined,
  max: number | undefined,
): string | null {
  if (min === undefined || max === undefined || min <= max) return null;
  return `${prefix}_DB_MAX_POOL (${max}) must not be smaller than ${prefix}_DB_MIN_POOL (${min}).`;
}

export function timeProblem(
  start: number | 'resume' | undefined,
  stop: number | 'now' | undefined,
): string | null {
  if (typeof start !== 'number' || typeof stop !== 'number' || start < stop) return null;
  return `SYNCHRONIZER_START_TIMESTAMP (${start}) must be earlier than SYNCHRONIZER_STOP_TIMESTAMP (${stop}).`;
}
