import { Metadata, RelayDiscovery, RelayList, RelayMonitorAnnouncement } from 'nostr-tools/kinds';
import type { EventTemplate } from 'nostr-tools/pure';
import type { CheckName, CheckResults } from './check-result.ts';
import type { NostrEvent } from './event.ts';
import { canonicalJson, type JsonValue, type Nip11Document } from './nip11.ts';
import type { Nip66Result } from './nip66.ts';
import { signEvent } from './sign.ts';

/** The events that a relay monitor publishes (NIP-66), built from its measurements. Pure but for the signature. */

/** One check of a relay that answered. */
export interface Discovery {
  /** The relay's URL as `RelayUrl` has it. */
  readonly url: string;
  /** As tag `n` names it. */
  readonly network: string;
  /** Unix seconds. */
  readonly generatedAt: number;
  readonly nip66: Nip66Result;
  readonly checks: CheckResults;
}

/** Documents of relays are untrusted: most elements of a list that are published, and their length in characters. */
const MAX_LISTED = 50;
const MAX_WORD_LENGTH = 64;
const MAX_NIPS = 200;
/** Characters of the document in `content`; relays commonly refuse events of more than 64 KB. */
const MAX_DOCUMENT_LENGTH = 16 * 1024;

/** Signs the kind 30166 event of one check. Its `created_at` is the time of the check. */
export function discoveryEvent(discovery: Discovery, secretKey: Uint8Array): NostrEvent {
  const { generatedAt, checks } = discovery;
  const content = documentText(checks);
  return signEvent(
    { kind: RelayDiscovery, created_at: generatedAt, tags: discoveryTags(discovery), content },
    secretKey,
  );
}

function discoveryTags({ url, network, nip66, checks }: Discovery): string[][] {
  const document = checks.nip11?.success ? checks.nip11.data.document : null;
  const geo = checks.geo?.success ? checks.geo.data : null;
  return [
    ['d', identifier(url)],
    ['n', network],
    ...typesOf(checks).map((type) => ['T', type]),
    ...nipsOf(checks, document).map((nip) => ['N', `${nip}`]),
    ...requirementsOf(checks, document).map((requirement) => ['R', requirement]),
    ...wordsOf(document?.extra_fields?.tags).map((topic) => ['t', topic]),
    ...refusedKinds(document).map((kind) => ['k', `!${kind}`]),
    ...(geo?.geohash ? [['g', geo.geohash]] : []),
    ...labels(document, geo?.country ?? null),
    ...roundTripTimes(nip66),
  ];
}

/** The normalised URL by RFC 3986 section 6.2.3: the path of a bare host is `/`, as in the NIP; `RelayUrl` omits it. */
function identifier(url: string): string {
  return new URL(url).href;
}

/** Of the relay types in use, search is the only one that a check can detect. */
function typesOf({ capabilities }: CheckResults): string[] {
  return capabilities?.success && capabilities.data.nip50 === true ? ['Search'] : [];
}

/** The NIPs that the document claims, corrected by measurements. */
function nipsOf(checks: CheckResults, document: Nip11Document | null): number[] {
  const nips = new Set(document?.supported_nips?.slice(0, MAX_NIPS));
  const set = (nip: number, supported: boolean | null) => {
    if (supported === true) nips.add(nip);
    if (supported === false) nips.delete(nip);
  };
  if (document) set(11, true);
  const { read, write, capabilities } = checks;
  if (isAuthenticated(read) || isAuthenticated(write)) set(42, true);
  if (capabilities?.success) {
    const { nip45, nip50, nip67, nip77 } = capabilities.data;
    set(45, nip45);
    set(50, nip50);
    set(67, nip67);
    set(77, nip77);
  }
  return [...nips].sort((a, b) => a - b);
}

function isAuthenticated(check: CheckResults['read'] | CheckResults['write']): boolean {
  return check?.success === true && check.data.authenticated;
}

/** Requirements that hold, and with `!` those that do not; omitted when neither a check nor the document says. */
function requirementsOf(checks: CheckResults, document: Nip11Document | null): string[] {
  const claims = document?.limitation;
  const holds: [string, boolean | null][] = [
    ['auth', needsAuth(checks) ?? claims?.auth_required ?? null],
    ['payment', claims?.payment_required ?? null],
    ['pow', needsWork(checks, claims?.min_pow_difficulty)],
    ['writes', restrictsWrites(checks) ?? claims?.restricted_writes ?? null],
  ];
  return holds.flatMap(([name, value]) => (value === null ? [] : [value ? name : `!${name}`]));
}

function needsAuth({ read }: CheckResults): boolean | null {
  if (read?.success) return read.data.authenticated;
  return read?.reason === 'auth_required' ? true : null;
}

/** A relay that accepted an event without work requires none; accepting the work that it claims proves nothing. */
function needsWork({ write }: CheckResults, claimed: number | undefined): boolean | null {
  if (write?.success === false && write.reason === 'pow') return true;
  if (claimed !== undefined) return claimed > 0;
  return write?.success ? false : null;
}

/** The test event was signed by a key that the relay does not know. */
function restrictsWrites({ write }: CheckResults): boolean | null {
  if (write?.success) return false;
  return ['restricted', 'blocked', 'auth_required'].includes(write?.reason ?? '') ? true : null;
}

/** Kinds that the relay does not store (NIP-11 `retention` with time 0), ranges excluded. */
function refusedKinds(document: Nip11Document | null): number[] {
  const retention = document?.extra_fields?.retention;
  if (!Array.isArray(retention)) return [];
  const kinds = retention.flatMap((entry) => {
    if (typeof entry !== 'object' || entry === null || Array.isArray(entry)) return [];
    return entry.time === 0 && Array.isArray(entry.kinds) ? entry.kinds : [];
  });
  const single = kinds.filter((kind) => typeof kind === 'number' && isKind(kind)) as number[];
  return [...new Set(single)].sort((a, b) => a - b).slice(0, MAX_LISTED);
}

function isKind(kind: number): boolean {
  return Number.isInteger(kind) && kind >= 0 && kind <= 65_535;
}

/** Labels of NIP-32: languages of the document, and the country of the address. */
function labels(document: Nip11Document | null, country: string | null): string[][] {
  const languages = wordsOf(document?.extra_fields?.language_tags);
  const byNamespace: [string, string[]][] = [
    ['ISO-639-1', languages.filter((tag) => /^[a-z]{2}$/.test(tag))],
    ['BCP-47', languages.filter((tag) => /^[A-Za-z0-9]+(-[A-Za-z0-9]+)+$/.test(tag))],
    ['ISO-3166-1', country === null ? [] : [country]],
  ];
  return byNamespace.flatMap(([namespace, values]) =>
    values.length === 0
      ? []
      : [['L', namespace], ...values.map((value) => ['l', value, namespace])],
  );
}

function roundTripTimes({ rtt_open, rtt_read, rtt_write }: Nip66Result): string[][] {
  const times = { open: rtt_open, read: rtt_read, write: rtt_write };
  return Object.entries(times).flatMap(([step, ms]) =>
    ms === null ? [] : [[`rtt-${step}`, `${ms}`]],
  );
}

function wordsOf(value: JsonValue | undefined): string[] {
  if (!Array.isArray(value)) return [];
  const words = value.filter(
    (word) => typeof word === 'string' && word !== '' && word.length <= MAX_WORD_LENGTH,
  ) as string[];
  return [...new Set(words)].slice(0, MAX_LISTED);
}

/** The relay's document without white space; its known members when that is too long; else empty. */
function documentText({ nip11 }: CheckResults): string {
  if (!nip11?.success) return '';
  const { document, raw } = nip11.data;
  const { extra_fields, ...columns } = document;
  const known = Object.fromEntries(Object.entries(columns).filter(([, value]) => value !== null));
  const texts = [compact(raw), canonicalJson({ ...known, ...extra_fields }), canonicalJson(known)];
  return texts.find((text) => text !== null && text.length <= MAX_DOCUMENT_LENGTH) ?? '';
}

function compact(json: string | null): string | null {
  try {
    return json === null ? null : JSON.stringify(JSON.parse(json));
  } catch {
    return null; // such as a body with a byte order mark
  }
}

/** What the monitor publishes about itself. */
export interface MonitorSelf {
  /** For its profile (kind 0). */
  readonly name: string;
  /** Seconds from one check of a relay to the next. */
  readonly frequencySeconds: number;
  /** Deadline of each step of a check on clearnet relays, in milliseconds. */
  readonly timeoutMs: number;
  readonly checks: readonly CheckName[];
  /** Its location; null when it is not published. */
  readonly geohash: string | null;
  /** Relays that it publishes to. */
  readonly relays: readonly string[];
}

/** Names of checks that differ in the NIP. */
const CHECK_NAMES: Partial<Record<CheckName, string>> = { tls: 'ssl' };
/** Checks with a timeout for the answer of the relay. */
const TIMED: readonly CheckName[] = ['open', 'read', 'write', 'nip11'];
/** The program that created the event (NIP-89). The monitor recognises its own profile by it. */
export const CLIENT_TAG: readonly string[] = ['client', 'bigbrotr'];

/**
 * The events about the monitor itself, in the order of their kinds: profile (0), relay list (10002, NIP-65) and
 * announcement (10166).
 *
 * NIP-66 contradicts itself about `timeout`: by its text milliseconds come first, alone when they hold for all checks; in
 * its example, and in every monitor seen, the check comes first. One tag of the first form and one of the second for each
 * check satisfy both.
 *
 * @param createdAt Unix seconds
 */
export function monitorEvents(self: MonitorSelf, createdAt: number): EventTemplate[] {
  const { name, frequencySeconds, timeoutMs, checks, geohash, relays } = self;
  const about = `Checks Nostr relays every ${Math.round(frequencySeconds / 3600)} hours and publishes what it finds (NIP-66).`;
  const client = [...CLIENT_TAG];
  const template = (kind: number, tags: string[][], content = '') => ({
    kind,
    created_at: createdAt,
    tags: [...tags, client],
    content,
  });
  return [
    template(Metadata, [], JSON.stringify({ name, about, bot: true })),
    template(
      RelayList,
      relays.map((url) => ['r', identifier(url), 'write']),
    ),
    template(RelayMonitorAnnouncement, [
      ['frequency', `${frequencySeconds}`],
      ['timeout', `${timeoutMs}`],
      ...TIMED.filter((check) => checks.includes(check)).map((check) => [
        'timeout',
        check,
        `${timeoutMs}`,
      ]),
      ...checks.map((check) => ['c', CHECK_NAMES[check] ?? check]),
      ...(geohash === null ? [] : [['g', geohash]]),
    ]),
  ];
}
