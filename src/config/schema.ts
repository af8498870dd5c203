import type { z } from 'zod';
import { forbiddenHost } from '../network/address.ts';
import { networkOf, type RelayUrl } from '../network/url.ts';
import { checkNames } from '../nostr/check-result.ts';
import { testHosts } from './test-hosts.ts';
import {
  addresses,
  boolean,
  certificateFile,
  checkList,
  cores,
  count,
  databaseHost,
  daysInSeconds,
  email,
  eventFilter,
  geohashOrNone,
  host,
  hostOrNone,
  hostPorts,
  hoursInMs,
  hoursInSeconds,
  identifier,
  identifierOrNone,
  integer,
  key,
  keyList,
  listenPort,
  logLevel,
  makeKeys,
  makePassword,
  minutesInSeconds,
  origins,
  password,
  plain,
  plainOrNone,
  port,
  publicKeyOf,
  relayList,
  secondsInMs,
  secondsInMsOrNone,
  secretKey,
  share,
  size,
  sslMode,
  startTimestamp,
  stopTimestamp,
  webSocketUrlOrNone,
  webUrls,
} from './values.ts';

/**
 * Every environment variable of Bigbrotr: its kind of value (values.ts) and its default, written as in `env.example`,
 * which a test compares with this table.
 */

export const PLACEHOLDER = 'CHANGE_ME';

/** Variables that may also be set as `NAME_FILE`, and whose values no message ever shows. */
export const secretNames = [
  'POSTGRES_PASSWORD',
  'POSTGRES_ADMIN_PASSWORD',
  'POSTGRES_READER_PASSWORD',
  'POSTGRES_OWNER_PASSWORD',
  'API_DB_PASSWORD',
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
  SHUTDOWN_TIMEOUT_SECONDS: secondsInMs(1, 300).prefault('10'),
};

export const databaseVariables = {
  POSTGRES_HOST: databaseHost.prefault(''),
  POSTGRES_PORT: port.prefault('5432'),
  POSTGRES_USER: identifier.prefault('bigbrotr'),
  POSTGRES_PASSWORD: password,
  POSTGRES_DB: identifier.prefault('bigbrotr'),
  POSTGRES_SSL_MODE: sslMode.prefault('disable'),
  POSTGRES_SSL_CA: certificateFile.prefault(''),
  POSTGRES_SHARDS: count(1024).prefault('1'),
};

const priorityListVariable = {
  SYNCHRONIZER_PRIORITY_RELAYS_PATH: plain.prefault('./priority_relays.txt'),
};

export const initializerVariables = {
  SEED_RELAYS_PATH: plain.prefault('./seed_relays.txt'),
  ...priorityListVariable,
  POSTGRES_OWNER_PASSWORD: password.optional(),
  POSTGRES_DIRECT_HOST: hostOrNone.prefault(''),
  POSTGRES_DIRECT_PORT: port.prefault('5432'),
};

/** Where the disk of the database can be seen. */
const diskVariable = { DATABASE_DISK_PATH: plainOrNone.prefault('') };

/** What every service needs that connects to relays. */
export const relayVariables = {
  TORPROXY_HOST: hostOrNone.prefault(''),
  TORPROXY_PORT: port.prefault('9050'),
  RELAY_BLOCKLIST_PATH: plainOrNone.prefault(''),
  NETWORK_TEST_HOSTS: testHosts.prefault(''),
  ...diskVariable,
  HEALTH_HOST: host.prefault('127.0.0.1'),
};

export const keyVariables = { SECRET_KEY: secretKey, PUBLIC_KEY: key };
export const optionalKeyVariables = {
  SECRET_KEY: secretKey.optional(),
  PUBLIC_KEY: key.optional(),
};

/** What is archived. Monitor and finder ask relays with the same filter, since some refuse others. */
const archiveFilterVariable = { SYNCHRONIZER_EVENT_FILTER: eventFilter.prefault('{}') };

export const monitorVariables = {
  MONITOR_FREQUENCY_HOUR: hoursInSeconds(1, 8760).prefault('8'),
  MONITOR_NUM_CORES: cores,
  MONITOR_CHUNK_SIZE: count(10_000).prefault('50'),
  MONITOR_REQUESTS_PER_CORE: count(1000).prefault('100'),
  MONITOR_REQUEST_TIMEOUT: secondsInMsOrNone(1, 600).prefault(''),
  MONITOR_CLEARNET_TIMEOUT: secondsInMs(1, 600).prefault('10'),
  MONITOR_TOR_TIMEOUT: secondsInMs(1, 600).prefault('30'),
  ...archiveFilterVariable, // relays are checked with the filter by which they are archived
  MONITOR_CHECKS: checkList.prefault(checkNames.join(',')),
  MONITOR_CAPABILITIES_FREQUENCY_HOUR: hoursInSeconds(1, 8760).prefault('24'),
  GEOIP_CITY_PATH: plainOrNone.prefault(''),
  GEOIP_ASN_PATH: plainOrNone.prefault(''),
  MONITOR_PUBLISH_RELAYS: relayList.prefault(''),
  MONITOR_PUBLISH_NAME: plain.prefault('Bigbrotr'),
  MONITOR_PUBLISH_GEOHASH: geohashOrNone.prefault(''),
  MONITOR_LOOP_INTERVAL_MINUTES: minutesInSeconds(1, 10_080).prefault('15'),
  MONITOR_DB_MIN_POOL: integer(0, 1000).prefault('2'),
  MONITOR_DB_MAX_POOL: count(1000).prefault('5'),
  MONITOR_DB_COMMAND_TIMEOUT: secondsInMs(1, 3600).prefault('60'),
  MONITOR_HEALTH_PORT: listenPort.prefault('8081'),
};

/** Shared by the two synchronizers. */
export const syncVariables = {
  SYNCHRONIZER_REQUESTS_PER_CORE: count(1000).prefault('10'),
  SYNCHRONIZER_REQUEST_TIMEOUT: secondsInMs(1, 600).prefault('20'),
  SYNCHRONIZER_START_TIMESTAMP: startTimestamp.prefault('0'),
  SYNCHRONIZER_STOP_TIMESTAMP: stopTimestamp.prefault('-1'),
  ...archiveFilterVariable,
  ...priorityListVariable,
  SYNCHRONIZER_RELAY_METADATA_THRESHOLD_HOURS: hoursInSeconds(1, 8760).prefault('12'),
  SYNCHRONIZER_LOOP_INTERVAL_MINUTES: minutesInSeconds(1, 10_080).prefault('15'),
  SYNCHRONIZER_BATCH_SIZE: count(10_000).prefault('500'),
  SYNCHRONIZER_OVERLAP_SECONDS: integer(0, 31_536_000, 'a whole number of seconds').prefault(
    '3600',
  ),
  SYNCHRONIZER_REPROVE_DAYS: daysInSeconds(1, 3650).prefault('30'),
  SYNCHRONIZER_DB_MIN_POOL: integer(0, 1000).prefault('2'),
  SYNCHRONIZER_DB_MAX_POOL: count(1000).prefault('5'),
  SYNCHRONIZER_DB_COMMAND_TIMEOUT: secondsInMs(1, 3600).prefault('60'),
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
  FINDER_FREQUENCY_HOUR: hoursInMs(1, 8760).prefault('8'),
  FINDER_NUM_CORES: cores,
  FINDER_REQUESTS_PER_CORE: count(1000).prefault('10'),
  FINDER_REQUEST_TIMEOUT: secondsInMs(1, 600).prefault('20'),
  FINDER_URLS: webUrls.prefault(''),
  JOURNAL_DAYS: integer(0, 3650).prefault('7'),
  ...archiveFilterVariable,
  ...priorityListVariable,
  FINDER_DB_MIN_POOL: integer(0, 1000).prefault('2'),
  FINDER_DB_MAX_POOL: count(1000).prefault('5'),
  FINDER_DB_COMMAND_TIMEOUT: secondsInMs(1, 3600).prefault('60'),
  FINDER_HEALTH_PORT: listenPort.prefault('8084'),
};

export const refresherVariables = {
  REFRESHER_CPU_SHARE: share.prefault('0.25'),
  REFRESHER_DB_MIN_POOL: integer(0, 1000).prefault('0'),
  REFRESHER_DB_MAX_POOL: integer(2, 1000).prefault('3'),
  REFRESHER_DB_COMMAND_TIMEOUT: secondsInMs(1, 86_400).prefault('3600'),
  REFRESHER_HEALTH_PORT: listenPort.prefault('8086'),
};

export const apiVariables = {
  API_HOST: host.prefault('127.0.0.1'),
  API_PORT: listenPort.prefault('8085'),
  API_DB_USER: identifierOrNone.prefault(''),
  API_DB_PASSWORD: password.optional(),
  API_DB_MIN_POOL: integer(0, 1000).prefault('2'),
  API_DB_MAX_POOL: count(1000).prefault('10'),
  API_DB_COMMAND_TIMEOUT: secondsInMs(1, 3600).prefault('10'),
  API_RATE_LIMIT: integer(0, 1_000_000).prefault('600'),
  API_MAX_STREAMS: count(10_000).prefault('50'),
  API_CORS_ORIGINS: origins.prefault(''),
  API_TRUSTED_PROXIES: addresses.prefault(''),
  API_STATUS_SERVICES: hostPorts.prefault(''),
  ...diskVariable,
};

export const relayServerVariables = {
  RELAY_HOST: host.prefault('127.0.0.1'),
  RELAY_PORT: listenPort.prefault('7777'),
  RELAY_DB_MIN_POOL: integer(0, 1000).prefault('2'),
  RELAY_DB_MAX_POOL: integer(2, 1000).prefault('10'),
  RELAY_DB_COMMAND_TIMEOUT: secondsInMs(1, 3600).prefault('10'),
  RELAY_MAX_CONNECTIONS: count(100_000).prefault('1000'),
  RELAY_MAX_CONNECTIONS_PER_ADDRESS: count(100_000).prefault('50'),
  RELAY_MAX_SUBSCRIPTIONS: count(10_000).prefault('50'),
  RELAY_MAX_LIMIT: count(100_000).prefault('5000'),
  RELAY_RATE_LIMIT: integer(0, 1_000_000).prefault('1200'),
  RELAY_TRUSTED_PROXIES: addresses.prefault(''),
  RELAY_NAME: plain.prefault('Bigbrotr'),
  RELAY_DESCRIPTION: plain.prefault('An archive of Nostr, read-only.'),
  RELAY_CONTACT: plainOrNone.prefault(''),
  RELAY_PUBKEY: keyList.prefault(''),
  RELAY_URL: webSocketUrlOrNone.prefault(''),
  RELAY_AUTH: boolean('false'),
  RELAY_READERS: keyList.prefault(''),
  RELAY_HEALTH_PORT: listenPort.prefault('8087'),
};

/** The login with which API and relay read. */
export const readerLoginVariables = {
  API_DB_USER: apiVariables.API_DB_USER,
  API_DB_PASSWORD: apiVariables.API_DB_PASSWORD,
};

/** Read by `npm start` only. */
export const localVariables = { LOCAL_DATA_PATH: plain.prefault('./data') };

/** Read by docker-compose.yml and by `npm start`. */
export const initPathVariable = { POSTGRES_DB_INIT_PATH: plain.prefault('./init.sql') };

/** Read by docker-compose.yml only. */
export const deploymentVariables = {
  POSTGRES_DB_DATA_PATH: plain.prefault(''),
  DATASETS_PATH: plain.prefault(''),
  POSTGRES_ADMIN_PASSWORD: password,
  POSTGRES_READER_PASSWORD: password.prefault(''),
  POSTGRES_SHARED_BUFFERS: size.prefault('512MB'),
  POSTGRES_MEMORY: size.prefault('4g'),
  MONITOR_MEMORY: size.prefault('1g'),
  SYNCHRONIZER_MEMORY: size.prefault('2g'),
  PRIORITY_SYNCHRONIZER_MEMORY: size.prefault('2g'),
  FINDER_MEMORY: size.prefault('1g'),
  API_MEMORY: size.prefault('512m'),
  API_DB_PASSWORD: password,
  REFRESHER_MEMORY: size.prefault('512m'),
  RELAY_MEMORY: size.prefault('1g'),
  DB_PORT: port.prefault('5432'),
  PGBOUNCER_PORT: port.prefault('6432'),
  PGBOUNCER_TLS_PORT: port.prefault('6433'),
  PGBOUNCER_TLS_PATH: plainOrNone.prefault(''),
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
  ...apiVariables,
  ...refresherVariables,
  ...relayServerVariables,
  ...localVariables,
  ...initPathVariable,
  ...deploymentVariables,
};

/** Variables that are valid by themselves; a refused one is absent, an unset one is undefined. */
type Given<T extends Record<string, z.ZodType>> = { [K in keyof T]?: z.output<T[K]> };

/** What is wrong with the key pair as a pair, or null. Shows neither key. */
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

/** The first relay to publish to that could never be connected to, as a sentence, or null. */
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
  prefix: 'MONITOR' | 'SYNCHRONIZER' | 'FINDER' | 'REFRESHER' | 'API' | 'RELAY',
  min: number | undefined,
  max: number | undefined,
): string | null {
  if (min === undefined || max === undefined || min <= max) return null;
  return `${prefix}_DB_MAX_POOL (${max}) must not be smaller than ${prefix}_DB_MIN_POOL (${min}).`;
}

/** What is wrong with the settings of authentication together, or null. */
export function authProblem({
  RELAY_AUTH: isOn,
  RELAY_URL: url,
  RELAY_READERS: readers = [],
  RELAY_PUBKEY: keys = [],
}: Given<typeof relayServerVariables>): string | null {
  if (keys.length > 1) return 'RELAY_PUBKEY must be one public key.';
  if (isOn && url === null)
    return 'RELAY_AUTH needs RELAY_URL: clients sign the URL of the relay to which they authenticate.';
  if (isOn === false && readers.length > 0)
    return 'RELAY_READERS needs RELAY_AUTH: readers are known by their authentication.';
  return null;
}

export function timeProblem(
  start: number | 'resume' | undefined,
  stop: number | 'now' | undefined,
): string | null {
  if (typeof start !== 'number' || typeof stop !== 'number' || start < stop) return null;
  return `SYNCHRONIZER_START_TIMESTAMP (${start}) must be earlier than SYNCHRONIZER_STOP_TIMESTAMP (${stop}).`;
}
