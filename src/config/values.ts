import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { getPublicKey } from 'nostr-tools/pure';
import { z } from 'zod';
import { parseRelayUrl, type RelayUrl } from '../network/url.ts';
import { type CheckName, checkNames } from '../nostr/check-result.ts';
import { canonicalFilter, type EventFilter } from '../nostr/filter.ts';

/**
 * The kinds of values of variables: each turns a text into a value, or into the end of a sentence that says what is wrong
 * with it. No sentence ever contains a secret.
 */

export const makeKeys =
  'Make a key pair with: npm run keygen (in Docker: docker compose run --rm keygen)';
export const makePassword = 'Make one with: openssl rand -hex 24';

function quote(text: string): string {
  return JSON.stringify(text.length > 40 ? `${text.slice(0, 40)}...` : text);
}

function refuse(ctx: z.RefinementCtx<string>, message: string): void {
  ctx.addIssue({ code: 'custom', message });
}

/** A whole number in plain decimal digits, times `factor`: 20 with factor 1000 is 20 s in milliseconds. */
export function integer(min: number, max: number, what = 'a whole number', factor = 1) {
  return z.string().transform((text, ctx) => {
    const value = /^(0|-?[1-9][0-9]*)$/.test(text) ? Number(text) : Number.NaN;
    if (value >= min && value <= max) return value * factor;
    refuse(ctx, `must be ${what} from ${min} to ${max}, not ${quote(text)}.`);
    return z.NEVER;
  });
}

/** A share of one: 0.25 is a quarter. */
export const share = z.string().transform((text, ctx) => {
  const value = /^(0\.\d{1,4}|1(\.0{1,4})?)$/.test(text) ? Number(text) : 0;
  if (value > 0) return value;
  refuse(ctx, `must be a number above 0 and up to 1, such as 0.25, not ${quote(text)}.`);
  return z.NEVER;
});

const MAX_TIMESTAMP = 2 ** 31 - 1;

export const secondsInMs = (min: number, max: number) =>
  integer(min, max, 'a whole number of seconds', 1000);
export const secondsInMsOrNone = (min: number, max: number) =>
  z.string().transform((text, ctx): number | null => {
    if (text === '') return null;
    const given = secondsInMs(min, max).safeParse(text);
    if (given.success) return given.data;
    for (const { message } of given.error.issues) refuse(ctx, message);
    return z.NEVER;
  });
export const minutesInSeconds = (min: number, max: number) =>
  integer(min, max, 'a whole number of minutes', 60);
export const hoursInSeconds = (min: number, max: number) =>
  integer(min, max, 'a whole number of hours', 3600);
export const hoursInMs = (min: number, max: number) =>
  integer(min, max, 'a whole number of hours', 3_600_000);
export const daysInSeconds = (min: number, max: number) =>
  integer(min, max, 'a whole number of days', 86_400);
export const count = (max: number) => integer(1, max);
export const port = integer(1, 65_535, 'a port number');
export const listenPort = integer(0, 65_535, 'a port number (0 takes any free one)');
export const cores = count(1024).prefault('1');

export const boolean = (fallback: 'true' | 'false') =>
  z
    .stringbool({
      truthy: ['true', '1', 'yes'],
      falsy: ['false', '0', 'no'],
      case: 'insensitive',
      error: (issue) => `must be true or false (or 1, 0, yes, no), not ${quote(`${issue.input}`)}.`,
    })
    .prefault(fallback);

const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof logLevels)[number];

export const logLevel = z
  .string()
  .toLowerCase()
  .pipe(z.enum(logLevels, { error: `must be one of ${logLevels.join(', ')}.` }));

const isHost = (text: string) => isIP(text) !== 0 || /^[A-Za-z0-9._-]+$/.test(text);
const hostRule = 'must be a host name or an IP address alone, without scheme, user, port or path.';
export const host = z.string().refine(isHost, hostRule);
export const hostOrNone = z
  .string()
  .refine((text) => text === '' || isHost(text), hostRule)
  .transform((text) => text || null);
/** Empty: this machine. A directory: that of PostgreSQL's Unix socket (libpq's `host`). */
export const databaseHost = z
  .string()
  .refine((text) => text === '' || text.startsWith('/') || isHost(text), hostRule)
  .transform((text) => text || '127.0.0.1');

/** The modes of libpq that decide; `allow` and `prefer` leave it to the server whether to encrypt. */
const sslModes = ['disable', 'require', 'verify-ca', 'verify-full'] as const;
export type SslMode = (typeof sslModes)[number];

export const sslMode = z
  .string()
  .toLowerCase()
  .pipe(z.enum(sslModes, { error: `must be one of ${sslModes.join(', ')}.` }));

/** The content of the PEM file at a path. */
export const certificateFile = z.string().transform((path, ctx): string | null => {
  if (path === '') return null;
  try {
    const pem = readFileSync(path, 'utf8');
    new X509Certificate(pem);
    return pem;
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? `${error.code}` : 'unreadable';
    const why = /^E[A-Z]+$/.test(code) ? `cannot be read (${code})` : 'holds no PEM certificate';
    refuse(ctx, `names a file that ${why}: ${quote(path)}.`);
    return z.NEVER;
  }
});

const isPlain = (text: string) => text.trim() === text && !/\p{Cc}/u.test(text);
const plainRule = 'must not begin or end with a space or hold control characters.';
export const plain = z.string().refine(isPlain, plainRule);
export const plainOrNone = plain.transform((text) => text || null);
/** PostgreSQL silently truncates longer names (NAMEDATALEN, chapter 4.1.1). */
export const identifier = plain.refine(
  (text) => Buffer.byteLength(text) <= 63,
  'must not be longer than 63 bytes.',
);
export const identifierOrNone = identifier.transform((text) => text || null);
export const email = z
  .string()
  .regex(/^[^\s@]+@[^\s@.]+(\.[^\s@.]+)+$/, 'must be an e-mail address such as admin@example.com.');

export const size = z
  .string()
  .regex(/^[1-9][0-9]*[kmg]b?$/i, 'must be a size such as 512MB or 2g.');

export const password = z
  .string({ error: `is not set. ${makePassword}` })
  .refine((text) => !text.includes('\0'), 'must not hold a NUL character.');

const keyRule = 'must be 64 hexadecimal characters (an nsec1... or npub1... is another spelling).';
export const key = z
  .string({ error: `is not set. ${makeKeys}` })
  .regex(/^[0-9a-fA-F]{64}$/, keyRule)
  .toLowerCase();

/** The public key of a secret key in hex (BIP-340); null when it is no secret key of secp256k1. */
export function publicKeyOf(secretKey: string): string | null {
  try {
    return getPublicKey(Buffer.from(secretKey, 'hex'));
  } catch {
    return null;
  }
}

export const secretKey = key.refine(
  (text) => !/^[0-9a-f]{64}$/.test(text) || publicKeyOf(text) !== null,
  `is not a valid secp256k1 secret key. ${makeKeys}`,
);

export const startTimestamp = integer(
  -1,
  MAX_TIMESTAMP,
  '-1 (resume), 0 (genesis) or a Unix time in seconds,',
).transform((value): number | 'resume' => (value === -1 ? 'resume' : value));
export const stopTimestamp = integer(
  -1,
  MAX_TIMESTAMP,
  '-1 (now) or a Unix time in seconds,',
).transform((value): number | 'now' => (value === -1 ? 'now' : value));

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

export const eventFilter = z.string().transform((text, ctx): EventFilter => {
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

/** The synchronizers depend on these: without them no relay is readable, and nothing is archived. */
const NEEDED_CHECKS: readonly CheckName[] = ['open', 'read'];

export const checkList = z.string().transform((text, ctx): CheckName[] => {
  const given = text.split(',').map((name) => name.trim().toLowerCase());
  const unknown = given.filter((name) => !checkNames.some((known) => known === name));
  for (const name of unknown)
    refuse(ctx, `holds ${quote(name)}: a check is one of ${checkNames.join(', ')}.`);
  const missing = NEEDED_CHECKS.filter((name) => !given.includes(name));
  if (missing.length > 0)
    refuse(ctx, `must hold ${missing.join(' and ')}: the synchronizers depend on their results.`);
  return checkNames.filter((name) => given.includes(name));
});

/** URLs with commas between them; each relay once. */
export const relayList = z.string().transform((text, ctx): RelayUrl[] => {
  const relays = new Set<RelayUrl>();
  for (const part of text.split(',').map((part) => part.trim())) {
    if (part === '') continue;
    const parsed = parseRelayUrl(part);
    if (parsed.ok) relays.add(parsed.url);
    else refuse(ctx, `names ${quote(part)}, which is no relay URL: ${parsed.reason}.`);
  }
  return [...relays];
});

/** Geohash: base32 without a, i, l and o; twelve characters are exact to 4 cm. */
export const geohashOrNone = z
  .string()
  .regex(/^[0-9b-hjkmnp-z]{0,12}$/, 'must be a geohash of at most 12 characters, such as u33d.')
  .transform((text) => text || null);

/** URLs, with white space or commas between them. */
export const webUrls = plain.transform((text, ctx): string[] => {
  const urls = text.split(/[\s,]+/).filter(Boolean);
  for (const url of urls) {
    const { protocol, username, password } = URL.canParse(url) ? new URL(url) : {};
    if (!/^https?:$/.test(protocol ?? '') || username || password)
      refuse(ctx, `must hold http:// or https:// URLs without a password, not ${quote(url)}.`);
  }
  return urls;
});

const listed = (text: string) => text.split(/[\s,]+/).filter(Boolean);

/** Origins of web pages (RFC 6454) such as `https://example.com`, with white space or commas between them; or `*`. */
export const origins = plain.transform((text, ctx): string[] => {
  const given = listed(text);
  for (const origin of given)
    if (origin !== '*' && !(URL.canParse(origin) && new URL(origin).origin === origin))
      refuse(ctx, `must hold origins such as https://example.com, or *, not ${quote(origin)}.`);
  return given;
});

/** IP addresses or networks such as 10.0.0.0/8, with white space or commas between them. */
export const addresses = plain.transform((text, ctx): string[] => {
  const given = listed(text);
  for (const address of given) {
    const [ip = '', bits = '0', ...more] = address.split('/');
    const most = isIP(ip) === 6 ? 128 : 32;
    if (isIP(ip) === 0 || !/^\d{1,3}$/.test(bits) || Number(bits) > most || more.length > 0)
      refuse(ctx, `must hold IP addresses or networks such as 10.0.0.0/8, not ${quote(address)}.`);
  }
  return given;
});

/** Public keys in hex, with white space or commas between them. */
export const keyList = plain.transform((text, ctx): string[] => {
  const given = listed(text).map((each) => each.toLowerCase());
  for (const each of given)
    if (!/^[0-9a-f]{64}$/.test(each))
      refuse(ctx, `must hold public keys in hex, not ${quote(each)}.`);
  return given;
});

/** A WebSocket URL, or nothing. */
export const webSocketUrlOrNone = plain
  .refine(
    (text) => text === '' || (URL.canParse(text) && /^wss?:$/.test(new URL(text).protocol)),
    'must be a WebSocket URL such as wss://relay.example.com.',
  )
  .transform((text) => text || null);

/** `host:port`, with white space or commas between them. */
export const hostPorts = plain.transform((text, ctx): string[] => {
  const given = listed(text);
  for (const address of given)
    if (!/^[^\s/-][^\s/]*:\d{1,5}$/.test(address))
      refuse(ctx, `must hold addresses such as monitor:8081, not ${quote(address)}.`);
  return given;
});
