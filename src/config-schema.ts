import { isIP } from 'node:net';
import { getPublicKey } from 'nostr-tools/pure';
import { z } from 'zod';
import { type CheckName, checkNames } from './checks/result.ts';
import { canonicalFilter, type EventFilter } from './nostr/filter.ts';
import { forbiddenHost } from './relay/address.ts';
import { networkOf, parseRelayUrl, type RelayUrl } from './relay/url.ts';

/**
 * Every environment variable of Bigbrotr: how its text is checked, what it becomes, and its default.
 * A default is written as it stands in `env.example`, which a test compares with this table.
 * A message is the end of a sentence that begins with the variable's name, and never holds a secret.
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

const makeKeys = 'Make a key pair with: npm run keygen';
const makePassword = `Make one with: node -p "crypto.randomBytes(24).toString('hex')"`;

/** What to do about a variable that is missing or still holds the placeholder, as a sentence. */
export function remedyFor(name: string): string {
  if (name === 'SECRET_KEY' || name === 'PUBLIC_KEY') return makeKeys;
  return name.endsWith('PASSWORD') ? makePassword : 'Put your own value there.';
}

function quote(text: string): string {
  return JSON.stringify(text.length > 40 ? `${text.slice(0, 40)}...` : text);
}

function refuse(ctx: z.RefinementCtx<string>, message: string): void {
  ctx.addIssue({ code: 'custom', message });
}

/** A whole number in plain decimal digits, times `factor`: 20 with factor 1000 is 20 s in milliseconds. */
function integer(min: number, max: number, what = 'a whole number', factor = 1) {
  return z.string().transform((text, ctx) => {
    const value = /^(0|-?[1-9][0-9]*)$/.test(text) ? Number(text) : Number.NaN;
    if (value >= min && value <= max) return value * factor;
    refuse(ctx, `must be ${what} from ${min} to ${max}, not ${quote(text)}.`);
    return z.NEVER;
  });
}

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const MAX_TIMESTAMP = 2 ** 31 - 1;

const seconds = (min: number, max: number) =>
  integer(min, max, 'a whole number of seconds', SECOND);
const secondsOrNone = (min: number, max: number) =>
  z.string().transform((text, ctx): number | null => {
    if (text === '') return null;
    const given = seconds(min, max).safeParse(text);
    if (given.success) return given.data;
    for (const { message } of given.error.issues) refuse(ctx, message);
    return z.NEVER;
  });
const minutes = (min: number, max: number) =>
  integer(min, max, 'a whole number of minutes', MINUTE);
const hours = (min: number, max: number) => integer(min, max, 'a whole number of hours', HOUR);
const days = (min: number, max: number) => integer(min, max, 'a whole number of days', DAY);
const count = (max: number) => integer(1, max);
const port = integer(1, 65_535, 'a port number');
const listenPort = integer(0, 65_535, 'a port number (0 takes any free one)');
const cores = count(1024).prefault('1');

const boolean = (fallback: 'true' | 'false') =>
  z
    .stringbool({
      truthy: ['true', '1', 'yes'],
      falsy: ['false', '0', 'no'],
      case: 'insensitive',
      error: (issue) => `must be true or false (or 1, 0, yes, no), not ${quote(`${issue.input}`)}.`,
    })
    .prefault(fallback);

export const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof logLevels)[number];

const logLevel = z
  .string()
  .toLowerCase()
  .pipe(z.enum(logLevels, { error: `must be one of ${logLevels.join(', ')}.` }));

const isHost = (text: string) => isIP(text) !== 0 || /^[A-Za-z0-9._-]+$/.test(text);
const hostRule = 'must be a host name or an IP address alone, without scheme, user, port or path.';
const host = z.string().refine(isHost, hostRule);
const hostOrNone = z
  .string()
  .refine((text) => text === '' || isHost(text), hostRule)
  .transform((text) => text || null);
/** Empty is this machine; a directory is where PostgreSQL keeps its Unix socket (libpq's `host`). */
const databaseHost = z
  .string()
  .refine((text) => text === '' || text.startsWith('/') || isHost(text), hostRule)
  .transform((text) => text || '127.0.0.1');

const isPlain = (text: string) => text.trim() === text && !/\p{Cc}/u.test(text);
const plainRule = 'must not begin or end with a space or hold control characters.';
const plain = z.string().refine(isPlain, plainRule);
const plainOrNone = plain.transform((text) => text || null);
/** PostgreSQL cuts longer names off without a word (NAMEDATALEN, chapter 4.1.1). */
const identifier = plain.refine(
  (text) => Buffer.byteLength(text) <= 63,
  'must not be longer than 63 bytes.',
);
const email = z
  .string()
  .regex(/^[^\s@]+@[^\s@.]+(\.[^\s@.]+)+$/, 'must be an e-mail address such as admin@example.com.');

const size = z.string().regex(/^[1-9][0-9]*[kmg]b?$/i, 'must be a size such as 512MB or 2g.');

const password = z
  .string({ error: `is not set. ${makePassword}` })
  .refine((text) => !text.includes('\0'), 'must not hold a NUL character.');

const keyRule = 'must be 64 hexadecimal characters (an nsec1... or npub1... is another spelling).';
const key = z
  .string({ error: `is not set. ${makeKeys}` })
  .regex(/^[0-9a-fA-F]{64}$/, keyRule)
  .toLowerCase();

/** The public key of a secret key in hex (BIP-340); null when it is no secret key of secp256k1. */
function publicKeyOf(secretKey: string): string | null {
  try {
    return getPublicKey(Buffer.from(secretKey, 'hex'));
  } catch {
    return null;
  }
}

const secretKey = key.refine(
  (text) => !/^[0-9a-f]{64}$/.test(text) || publicKeyOf(text) !== null,
  `is not a valid secp256k1 secret key. ${makeKeys}`,
);

const startTimestamp = integer(
  -1,
  MAX_TIMESTAMP,
  '-1 (resume), 0 (genesis) or a Unix time in seconds,',
).transform((value): number | 'resume' => (value === -1 ? 'resume' : value));
const stopTimestamp = integer(-1, MAX_TIMESTAMP, '-1 (now) or a Unix time in seconds,').transform(
  (value): number | 'now' => (value === -1 ? 'now' : value),
);

const hexList = z.array(z.string().regex(/^[0-9a-f]{64}$/)).min(1);
const kindList = z.array(z.int().min(0).max(65_535)).min(1);
const textList = z.array(z.string()).min(1);
const hexRule = 'must be a non-empty list of strings of 64 lowercase hexadecimal characters.';
const kindRule = 'must be a non-empty list of whole numbers from 0 to 65535.';

const elsewhere: Record<string, string> = {
  since: 'SYNCHRONIZER_START_TIMESTAMP',
  until: 'SYNCHRONIZER_STOP_TIMESTAMP',
  limit: 'SYNCHRONIZER_BATCH_SIZE',
};

/** What is wrong with one key of a filter (NIP-01), or null. */
function filterProblem(name: string, value: unknown): string | null {
  if (Object.hasOwn(elsewhere, name)) return `is not taken here: use ${elsewhere[name]} instead.`;
  if (['ids', 'authors', '#e', '#p'].includes(name)) {
    return hexList.safeParse(value).success ? null : hexRule;
  }
  if (name === 'kinds') return kindList.safeParse(value).success ? null : kindRule;
  if (!/^#[A-Za-z]$/.test(name)) {
    return 'is not a key of a NIP-01 filter: ids, authors, kinds and # with one letter are.';
  }
  return textList.safeParse(value).success ? null : 'must be a non-empty list of strings.';
}

/** Refuses each wrong key on `ctx`; true when there was none. */
function isEventFilter(filter: object, ctx: z.RefinementCtx<string>): filter is EventFilter {
  const problems = Object.entries(filter).flatMap(([name, value]) => {
    const problem = filterProblem(name, value);
    return problem ? [`key ${quote(name)} ${problem}`] : [];
  });
  for (const problem of problems) refuse(ctx, problem);
  return problems.length === 0;
}

/** Coverage is kept by filter, whose text is an index entry (init.sql, table filters). */
const MAX_FILTER_BYTES = 2048;

const eventFilter = z.string().transform((text, ctx): EventFilter => {
  let filter: unknown;
  try {
    filter = JSON.parse(text);
  } catch (error) {
    const why = error instanceof Error ? error.message.replace(/\s+/g, ' ') : 'unreadable';
    refuse(ctx, `is not JSON (${why}). In .env write it between single quotes.`);
    return z.NEVER;
  }
  if (typeof filter !== 'object' || filter === null || Array.isArray(filter)) {
    refuse(ctx, 'must be a JSON object such as {"kinds":[0,1]}.');
    return z.NEVER;
  }
  if (!isEventFilter(filter, ctx)) return z.NEVER;
  const bytes = Buffer.byteLength(canonicalFilter(filter));
  if (bytes <= MAX_FILTER_BYTES) return filter;
  refuse(
    ctx,
    `is ${bytes} bytes long: at most ${MAX_FILTER_BYTES} are taken, about 29 ids or authors.`,
  );
  return z.NEVER;
});

/** What the synchronizers go by: without it no relay would be readable, and nothing would be archived. */
const NEEDED_CHECKS: readonly CheckName[] = ['open', 'read'];

const checkList = z.string().transform((text, ctx): CheckName[] => {
  const given = text.split(',').map((name) => name.trim().toLowerCase());
  const unknown = given.filter((name) => !checkNames.some((known) => known === name));
  for (const name of unknown)
    refuse(ctx, `holds ${quote(name)}: a check is one of ${checkNames.join(', ')}.`);
  const missing = NEEDED_CHECKS.filter((name) => !given.includes(name));
  if (missing.length > 0)
    refuse(ctx, `must hold ${missing.join(' and ')}: the synchronizers go by what is found there.`);
  return checkNames.filter((name) => given.includes(name));
});

/** URLs with commas between them; each relay once. */
const relayList = z.string().transform((text, ctx): RelayUrl[] => {
  const relays = new Set<RelayUrl>();
  for (const part of text.split(',').map((part) => part.trim())) {
    if (part === '') continue;
    const parsed = parseRelayUrl(part);
    if (parsed.ok) relays.add(parsed.url);
    else refuse(ctx, `names ${quote(part)}, which is no relay URL: ${parsed.reason}.`);
  }
  return [...relays];
});

/** Geohash: base32 without a, i, l and o; twelve digits are 4 cm. */
const geohashOrNone = z
  .string()
  .regex(/^[0-9b-hjkmnp-z]{0,12}$/, 'must be a geohash of at most 12 characters, such as u33d.')
  .transform((text) => text || null);

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

/** URLs, with white space or commas between them. */
const webUrls = plain.transform((text, ctx): string[] => {
  const urls = text.split(/[\s,]+/).filter(Boolean);
  for (const url of urls) {
    const { protocol, username, password } = URL.canParse(url) ? new URL(url) : {};
    if (!/^https?:$/.test(protocol ?? '') || username || password)
      refuse(ctx, `must hold http:// or https:// URLs without a password, not ${quote(url)}.`);
  }
  return urls;
});

export const finderVariables = {
  FINDER_FREQUENCY_HOUR: hours(1, 8760).prefault('8'),
  FINDER_NUM_CORES: cores,
  FINDER_REQUESTS_PER_CORE: count(1000).prefault('10'),
  FINDER_REQUEST_TIMEOUT: seconds(1, 600).prefault('20'),
  FINDER_URLS: webUrls.prefault(''),
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
