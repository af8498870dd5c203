/**
 * Normalises relay URLs: one spelling for each relay. Untrusted text becomes a `RelayUrl` here or is refused with a
 * reason; nothing else creates one.
 *
 * Two spellings become one URL only when no server can distinguish them. The WHATWG URL standard does most of it (scheme
 * and host in lower case, IDN to punycode, every notation of an IPv4 address to four decimals, dot segments), RFC 3986
 * section 6.2.2 the percent-encoding. Dropped are the default port, the trailing dot of the host, the slash of a bare host
 * and the fragment (never sent, RFC 6455 section 3). What a server can distinguish is kept, as NIP-66 asks for RFC 3986
 * and two relays that were merged by mistake cannot be separated again: `ws` and `wss`, upper case in a path, a trailing
 * slash on a path, a query.
 *
 * Text that cannot be a relay URL is refused, not repaired. Of 8,865 URLs of real relays none had a query or an encoded
 * character, and none was longer than 97 bytes.
 */
import { createHash } from 'node:crypto';

declare const brand: unique symbol;

/** The network that a relay is reached through (NIP-66, tag `n`). */
export type Network = 'clearnet' | 'tor' | 'i2p' | 'loki';
/** A relay's normalised URL: equal strings are the same relay. Only `parseRelayUrl` creates one. */
export type RelayUrl = string & { readonly [brand]: 'RelayUrl' };
export interface RelayAddress {
  url: RelayUrl;
  network: Network;
}
export type ParsedRelayUrl =
  | { ok: true; url: RelayUrl; network: Network }
  | { ok: false; reason: string };

/**
 * Maximum length of a normalised URL, in bytes (it is all ASCII). The longest of a real relay has 97; an index entry of
 * PostgreSQL ends at 2,704.
 */
export const MAX_RELAY_URL_BYTES = 255;
/** Maximum length of a text that is parsed, in characters: normalising percent-encoding shortens it. */
const MAX_RAW_CHARS = 4 * MAX_RELAY_URL_BYTES;

/** Why a text was refused: a closed set, so that refusals can be counted by reason. */
const REASON = {
  empty: 'there is no URL',
  long: `it is longer than ${MAX_RELAY_URL_BYTES} bytes`,
  invisible: 'it has a space or an invisible character inside',
  glued: 'two URLs are glued together',
  scheme: 'it does not begin with ws:// or wss://',
  http: 'http is not a scheme of relays: write ws:// or wss://',
  noHost: 'there is no host after the scheme',
  credentials: 'it has a user name or a password, which a relay URL must not have',
  portZero: 'port 0 is not a port',
  port: 'its port is not a number from 1 to 65535',
  host: 'its host is not a valid name or address',
  topLevel: 'its host ends in a top-level domain that cannot exist',
  onion2: 'its onion address is of version 2, which Tor no longer serves',
  onion3: 'its onion address is not a valid one of version 3',
  emptySegment: 'its path has an empty part (//)',
  encoding: 'its percent-encoding is broken',
  character: 'its path or query has a character that no relay URL has',
} as const;
type Reason = (typeof REASON)[keyof typeof REASON];

/** Separators, controls, format characters (zero width, direction marks), lone surrogates. */
const INVISIBLE = /[\p{Z}\p{Cc}\p{Cf}\p{Cs}]/u;
/** Characters that RFC 3986 does not allow outside a host, and the comma: they belong to the text around a URL. */
const NOT_OF_A_URL = /["<>[\]\\^`{|},]/;
const PARTS = /^wss?:\/\/([^/?#]*)(.*)$/i;
const HOST_AND_PORT = /^(?:\[[0-9a-f:.]*\]|[^[\]:\\]*)(?::([0-9]*))?$/i;
const DOTTED_QUAD = /^\d+\.\d+\.\d+\.\d+$/;
const LABEL = /^(?!-)[a-z0-9_-]{1,63}(?<!-)$/;
const TOP_LEVEL = /^(?:[a-z]{2,63}|i2p|xn--[a-z0-9-]{1,59})$/;

/**
 * Parses text as a relay URL: returns its normalised form and its network, or the reason for refusing it, a sentence of a
 * closed set. White space around the text is ignored. Idempotent. The address guard decides whether it may be connected to.
 */
export function parseRelayUrl(text: string): ParsedRelayUrl {
  const raw = text.trim();
  const refusal = refuseRaw(raw);
  if (refusal !== null) return { ok: false, reason: refusal };
  const parsed = parseUrl(raw);
  if (parsed === null) return { ok: false, reason: REASON.host };

  const host = parsed.hostname.replace(/\.$/, '');
  const reason = refuseHost(host) ?? refusePath(parsed.pathname) ?? refuseQuery(parsed.search);
  if (reason !== null) return { ok: false, reason };

  const port = parsed.port === '' ? '' : `:${parsed.port}`;
  const path = normaliseEncoding(parsed.pathname);
  const query = normaliseEncoding(parsed.search);
  const resource = path === '/' && query === '' ? '' : path + query;
  const url = `${parsed.protocol}//${host}${port}${resource}`;
  if (url.length > MAX_RELAY_URL_BYTES) return { ok: false, reason: REASON.long };
  return { ok: true, url: url as RelayUrl, network: networkOfHost(host) };
}

/**
 * Null when the text is not a URL. Not `URL.canParse`: in Node.js 20, once the compiler has optimised the call, from about
 * the five-thousandth URL on, it returns false for letters of Latin-1 such as é.
 */
function parseUrl(text: string): URL | null {
  try {
    return new URL(text);
  } catch {
    return null;
  }
}

/** The network of a relay's URL, by the last label of its host. */
export function networkOf(url: RelayUrl): Network {
  return networkOfHost(new URL(url).hostname);
}

function networkOfHost(host: string): Network {
  if (host.endsWith('.onion')) return 'tor';
  if (host.endsWith('.i2p')) return 'i2p';
  return host.endsWith('.loki') ? 'loki' : 'clearnet';
}

/** Checks that must run before the WHATWG parser, which strips, decodes and repairs silently. */
function refuseRaw(raw: string): Reason | null {
  if (raw === '') return REASON.empty;
  if (raw.length > MAX_RAW_CHARS) return REASON.long;
  if (INVISIBLE.test(raw)) return REASON.invisible;
  if (/^https?:/i.test(raw)) return REASON.http;
  const parts = PARTS.exec(raw);
  if (parts === null) return REASON.scheme;
  if (raw.indexOf('://') !== raw.lastIndexOf('://')) return REASON.glued;
  const [, authority = '', rest = ''] = parts;
  return refuseAuthority(authority) ?? (NOT_OF_A_URL.test(rest) ? REASON.character : null);
}

function refuseAuthority(authority: string): Reason | null {
  if (authority.includes('@')) return REASON.credentials;
  if (authority === '' || authority.startsWith(':')) return REASON.noHost;
  const match = HOST_AND_PORT.exec(authority);
  if (match === null) return /^[^[\]:\\]+:[^:]*$/.test(authority) ? REASON.port : REASON.host;
  if (match[1] === undefined || match[1] === '') return null;
  const port = Number(match[1]);
  if (port === 0) return REASON.portZero;
  return port > 65_535 ? REASON.port : null;
}

/** Checks a path without dot segments, decoded as a server would decode it. */
function refusePath(path: string): Reason | null {
  const decoded = decode(path);
  if (decoded === null) return REASON.encoding;
  if (INVISIBLE.test(decoded)) return REASON.invisible;
  if (decoded.includes('://')) return REASON.glued;
  if (NOT_OF_A_URL.test(decoded)) return REASON.character;
  return path.includes('//') ? REASON.emptySegment : null;
}

/** A query may contain anything in encoded form, another relay's URL too (filter and proxy relays). */
function refuseQuery(query: string): Reason | null {
  const decoded = decode(query);
  if (decoded === null) return REASON.encoding;
  return INVISIBLE.test(decoded) ? REASON.invisible : null;
}

function decode(text: string): string | null {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}

/**
 * RFC 3986 sections 6.2.2.1 and 6.2.2.2: hexadecimal digits in upper case, unreserved characters decoded. Nothing else is
 * decoded, so an encoded slash stays distinct from a slash.
 */
function normaliseEncoding(text: string): string {
  return text.replace(/%[0-9a-f]{2}/gi, (triplet) => {
    const character = String.fromCharCode(Number.parseInt(triplet.slice(1), 16));
    return /[A-Za-z0-9\-._~]/.test(character) ? character : triplet.toUpperCase();
  });
}

/** `host` as the WHATWG parser gives it: an IP literal, or a name in lower-case ASCII. */
function refuseHost(host: string): Reason | null {
  if (host.startsWith('[') || DOTTED_QUAD.test(host)) return null;
  const labels = host.split('.');
  if (host.length > 253 || !labels.every((label) => LABEL.test(label))) return REASON.host;
  if (labels.length === 1) return null;
  if (!TOP_LEVEL.test(labels.at(-1) ?? '')) return REASON.topLevel;
  return labels.at(-1) === 'onion' ? refuseOnion(labels.at(-2) ?? '') : null;
}

/**
 * An address of version 3 is base32 of the service's key (32 bytes), a checksum (2 bytes) and the
 * version (Tor rend-spec-v3, section "Encoding onion addresses").
 */
function refuseOnion(address: string): Reason | null {
  if (/^[a-z2-7]{16}$/.test(address)) return REASON.onion2;
  if (!/^[a-z2-7]{56}$/.test(address)) return REASON.onion3;
  const bytes = decodeBase32(address);
  const version = bytes.subarray(34);
  const checksum = createHash('sha3-256')
    .update('.onion checksum')
    .update(bytes.subarray(0, 32))
    .update(version)
    .digest();
  const holds = version[0] === 3 && checksum.subarray(0, 2).equals(bytes.subarray(32, 34));
  return holds ? null : REASON.onion3;
}

/** RFC 4648 base32 in lower case, of a length that needs no padding. */
function decodeBase32(text: string): Buffer {
  let bits = 0n;
  for (const letter of text) {
    bits = (bits << 5n) | BigInt('abcdefghijklmnopqrstuvwxyz234567'.indexOf(letter));
  }
  return Buffer.from(bits.toString(16).padStart((text.length * 5) / 4, '0'), 'hex');
}
