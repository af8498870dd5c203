/** JSON that PostgreSQL can store: no NUL, no lone surrogate, finite numbers, at most `MAX_DEPTH` levels. */
export type JsonValue =
  | string
  | number
  | boolean
  | null
  | JsonValue[]
  | { [member: string]: JsonValue };

/** "Server Limitations" of NIP-11: claims, not measurements. A missing member means that nothing is claimed. */
export interface Nip11Limitation {
  readonly max_message_length?: number;
  readonly max_subscriptions?: number;
  readonly max_filters?: number;
  readonly max_limit?: number;
  readonly max_subid_length?: number;
  readonly max_event_tags?: number;
  readonly max_content_length?: number;
  readonly min_pow_difficulty?: number;
  readonly min_prefix?: number;
  readonly created_at_lower_limit?: number;
  readonly created_at_upper_limit?: number;
  readonly default_limit?: number;
  readonly auth_required?: boolean;
  readonly payment_required?: boolean;
  readonly restricted_writes?: boolean;
  readonly [other: string]: JsonValue | undefined;
}

/**
 * The information document of a relay (NIP-11), names as on the wire. A member is null when it is missing or has a wrong
 * type. Members of the NIP without a column of their own (`self`, `fees`, `retention` …) and unknown members are in
 * `extra_fields`.
 */
export interface Nip11Document {
  readonly name: string | null;
  readonly description: string | null;
  readonly banner: string | null;
  readonly icon: string | null;
  readonly pubkey: string | null;
  readonly contact: string | null;
  readonly supported_nips: readonly number[] | null;
  readonly software: string | null;
  readonly version: string | null;
  readonly privacy_policy: string | null;
  readonly terms_of_service: string | null;
  readonly limitation: Nip11Limitation | null;
  readonly extra_fields: { readonly [member: string]: JsonValue } | null;
}

/** Why a body is not a NIP-11 document. */
export type Nip11Failure = 'not_json' | 'not_object';

export type Nip11ParseResult =
  /** `dropped`: how many members or elements were left out, for a wrong type or because PostgreSQL cannot store them. */
  { ok: true; document: Nip11Document; dropped: number } | { ok: false; reason: Nip11Failure };

/** Arrays and objects inside one member; real documents stay below 5. */
const MAX_DEPTH = 8;
const MAX_EXTRA_FIELDS = 64;
/** Characters of canonical JSON that all extra fields may take together. */
const MAX_EXTRA_LENGTH = 32 * 1024;

/** Reads one member: the value to keep, or undefined when its type is wrong. Calls `drop` for each part that is left out. */
type Reader<T> = (value: unknown, drop: () => void) => T | undefined;

/**
 * Parses the body of a NIP-11 response. The document is untrusted: single members of a wrong type are left out and
 * counted, never the whole document. So are strings with NUL or lone surrogates, which text and jsonb of PostgreSQL refuse
 * (22021, 22P05), and `__proto__`. Never throws.
 *
 * @param bodyText of bounded length
 * @returns the document, or why the body is none
 */
export function parseNip11(bodyText: string): Nip11ParseResult {
  let body: unknown;
  try {
    body = JSON.parse(bodyText);
  } catch {
    return { ok: false, reason: 'not_json' };
  }
  if (!isObject(body)) return { ok: false, reason: 'not_object' };
  return readDocument(body);
}

/**
 * Serialises a value as canonical JSON (RFC 8785): members sorted by UTF-16 code units, no white space, numbers as
 * ECMAScript writes them. Equal values give equal text, so its SHA-256 identifies a document.
 */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map((element) => canonicalJson(element)).join(',')}]`;
  if (!isObject(value)) return JSON.stringify(value) ?? 'null';
  const members = Object.entries(value)
    .filter(([, member]) => member !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, member]) => `${JSON.stringify(name)}:${canonicalJson(member)}`);
  return `{${members.join(',')}}`;
}

function readDocument(body: Record<string, unknown>): Nip11ParseResult {
  let dropped = 0;
  const drop = () => {
    dropped += 1;
  };
  const read = <T>(name: string, reader: Reader<T>): T | null =>
    readMember(body[name], reader, drop);
  const document: Nip11Document = {
    name: read('name', readText),
    description: read('description', readText),
    banner: read('banner', readText),
    icon: read('icon', readText),
    pubkey: read('pubkey', readText),
    contact: read('contact', readText),
    supported_nips: read('supported_nips', listOf(readNatural)),
    software: read('software', readText),
    version: read('version', readText),
    privacy_policy: read('privacy_policy', readText),
    terms_of_service: read('terms_of_service', readText),
    limitation: read('limitation', readLimitation),
    extra_fields: readExtraFields(body, drop),
  };
  return { ok: true, document, dropped };
}

const COLUMNS = new Set([
  'name',
  'description',
  'banner',
  'icon',
  'pubkey',
  'contact',
  'supported_nips',
  'software',
  'version',
  'privacy_policy',
  'terms_of_service',
  'limitation',
]);

/** JSON null means the same as a missing member. */
function readMember<T>(value: unknown, reader: Reader<T>, drop: () => void): T | null {
  if (value === undefined || value === null) return null;
  const result = reader(value, drop);
  if (result === undefined) drop();
  return result ?? null;
}

function readText(value: unknown): string | undefined {
  return typeof value === 'string' && isStorable(value) ? value : undefined;
}

function readInteger(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isSafeInteger(value) ? value : undefined;
}

function readNatural(value: unknown): number | undefined {
  const integer = readInteger(value);
  return integer !== undefined && integer >= 0 ? integer : undefined;
}

function readBoolean(value: unknown): boolean | undefined {
  return typeof value === 'boolean' ? value : undefined;
}

function readObject(value: unknown, drop: () => void): { [member: string]: JsonValue } | undefined {
  return isObject(value) ? readMembers(value, drop, 1) : undefined;
}

/** Elements of a wrong type are left out, the others keep their order. */
function listOf<T>(reader: Reader<T>): Reader<T[]> {
  return (value, drop) => {
    if (!Array.isArray(value)) return undefined;
    const kept: T[] = [];
    for (const element of value) {
      const result = reader(element, drop);
      if (result === undefined) drop();
      else kept.push(result);
    }
    return kept;
  };
}

const LIMITATION_READERS = new Map<string, Reader<JsonValue>>([
  ['max_message_length', readInteger],
  ['max_subscriptions', readInteger],
  ['max_filters', readInteger],
  ['max_limit', readInteger],
  ['max_subid_length', readInteger],
  ['max_event_tags', readInteger],
  ['max_content_length', readInteger],
  ['min_pow_difficulty', readInteger],
  ['min_prefix', readInteger],
  ['created_at_lower_limit', readInteger],
  ['created_at_upper_limit', readInteger],
  ['default_limit', readInteger],
  ['auth_required', readBoolean],
  ['payment_required', readBoolean],
  ['restricted_writes', readBoolean],
]);

function readLimitation(value: unknown, drop: () => void): Nip11Limitation | undefined {
  return isObject(value) ? readMembers(value, drop, 1, LIMITATION_READERS) : undefined;
}

/** Members of the NIP without a column; their types are checked as well. */
const EXTRA_READERS = new Map<string, Reader<JsonValue>>([
  ['self', readText],
  ['supported_nips_at', readInteger],
  ['retention', listOf(readObject)],
  ['relay_countries', listOf(readText)],
  ['language_tags', listOf(readText)],
  ['tags', listOf(readText)],
  ['posting_policy', readText],
  ['payments_url', readText],
  ['fees', readObject],
]);

/** Members of the NIP come first, then the rest by name: the bounds cut the same members of the same document each time. */
function readExtraFields(
  body: Record<string, unknown>,
  drop: () => void,
): Nip11Document['extra_fields'] {
  const unknown = Object.keys(body).filter(
    (name) => !COLUMNS.has(name) && !EXTRA_READERS.has(name),
  );
  const fields: { [member: string]: JsonValue } = {};
  let count = 0;
  let length = 0;
  for (const name of [...EXTRA_READERS.keys(), ...unknown.sort()]) {
    const [member] = Object.entries(readMembers({ [name]: body[name] }, drop, 0, EXTRA_READERS));
    if (!member) continue;
    const size = canonicalJson(member).length;
    if (count >= MAX_EXTRA_FIELDS || length + size > MAX_EXTRA_LENGTH) {
      drop();
      continue;
    }
    fields[member[0]] = member[1];
    count += 1;
    length += size;
  }
  return count > 0 ? fields : null;
}

/** Copies the members of an object that can be stored; those in `readers` must have the type given there. */
function readMembers(
  object: Record<string, unknown>,
  drop: () => void,
  depth: number,
  readers: ReadonlyMap<string, Reader<JsonValue>> = new Map(),
): { [member: string]: JsonValue } {
  const kept: { [member: string]: JsonValue } = {};
  for (const [name, value] of Object.entries(object)) {
    if (value === undefined) continue;
    if (name === '__proto__' || !isStorable(name)) {
      drop(); // assigning __proto__ would change the prototype of the copy
      continue;
    }
    const reader = readers.get(name);
    if (reader && value === null) continue;
    const result = reader ? reader(value, drop) : readJson(value, drop, depth);
    if (result === undefined) drop();
    else kept[name] = result;
  }
  return kept;
}

function readJson(value: unknown, drop: () => void, depth: number): JsonValue | undefined {
  if (value === null || typeof value === 'boolean') return value;
  if (typeof value === 'string') return readText(value);
  if (typeof value === 'number') return Number.isFinite(value) ? value : undefined; // JSON.parse reads 1e400 as Infinity
  if (depth >= MAX_DEPTH) return undefined;
  if (Array.isArray(value))
    return listOf((element) => readJson(element, drop, depth + 1))(value, drop);
  return isObject(value) ? readMembers(value, drop, depth + 1) : undefined;
}

/** PostgreSQL stores neither NUL nor lone surrogates. */
function isStorable(text: string): boolean {
  return !text.includes('\0') && !/\p{Surrogate}/u.test(text);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
