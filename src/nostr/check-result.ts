import type { Nip11Document } from './nip11.ts';

/** The checks of a relay, in the order in which they are stored and shown. */
export const checkNames = [
  'open',
  'read',
  'write',
  'nip11',
  'tls',
  'dns',
  'net',
  'geo',
  'http',
  'capabilities',
] as const;

export type CheckName = (typeof checkNames)[number];

/** The result of one check. `reason` is one stable word, as in `RelayError`; `durationMs` is in milliseconds, with a fraction. */
export type CheckResult<Data> =
  | { readonly success: true; readonly durationMs: number; readonly data: Data }
  | { readonly success: false; readonly durationMs: number; readonly reason: string };

/** The connection opened; nothing else is measured. */
export type OpenData = Record<string, never>;

export interface ReadData {
  /** The relay answered that it has no event at all. */
  readonly empty: boolean;
  /** It answered only after NIP-42. */
  readonly authenticated: boolean;
  /**
   * With what it was asked: `bare` is any event; `filter` and `kinds` stand where there is a filter, or any event was
   * refused; `older` where only a question for older events was answered.
   */
  readonly asked: 'bare' | 'filter' | 'kinds' | 'older';
}

export interface WriteData {
  /** The test event could be read back; null when the relay did not answer that request. */
  readonly stored: boolean | null;
  /** It was accepted only after NIP-42. */
  readonly authenticated: boolean;
}

export interface Nip11Data {
  /** The document (NIP-11), each member with the right type or null. */
  readonly document: Nip11Document;
  /** The body as it was sent; null when it is longer than `MAX_RAW_LENGTH`. */
  readonly raw: string | null;
  /** Members or elements of `raw` that were left out of `document`. */
  readonly dropped: number;
}

/** The certificate of the relay (RFC 5280), and the handshake (RFC 8446). An invalid certificate is a result, not a failure. */
export interface TlsData {
  readonly valid: boolean;
  /** Why it is not valid, as the code of OpenSSL (`CERT_HAS_EXPIRED`); null when it is. */
  readonly problem: string | null;
  /** Organisation or common name of its issuer. */
  readonly issuer: string | null;
  /** Common name of its subject. */
  readonly subject: string | null;
  /** Unix seconds. */
  readonly notBefore: number;
  /** Unix seconds. */
  readonly notAfter: number;
  /** Subject alternative names: DNS names and addresses, sorted. */
  readonly sans: readonly string[];
  /** `TLSv1.3` … */
  readonly protocol: string | null;
  readonly cipher: string | null;
  /** SHA-256 of the certificate, 64 hex digits. */
  readonly fingerprint: string;
}

/** DNS records of the host (RFC 1035, RFC 3596), lists sorted. */
export interface DnsData {
  readonly a: readonly string[];
  readonly aaaa: readonly string[];
  readonly cname: string | null;
  /** Name servers of the host or of the nearest parent that has any. */
  readonly ns: readonly string[];
  /** Names of the first address. */
  readonly reverse: readonly string[];
  /** Smallest time to live of the addresses, seconds: what remained of it in the resolver. */
  readonly ttl: number | null;
}

export interface NetData {
  /** The address that was connected to, or the first one from DNS. */
  readonly ip: string;
  /** Autonomous system (RFC 1930). */
  readonly asn: number | null;
  readonly organisation: string | null;
}

/** Location of the address, by the operator's database. */
export interface GeoData {
  /** ISO 3166-1 alpha-2. */
  readonly country: string | null;
  readonly city: string | null;
  /** Degrees, north positive. */
  readonly latitude: number | null;
  /** Degrees, east positive. */
  readonly longitude: number | null;
  /** Nine characters, about 5 m: much finer than the accuracy of the database. Null without coordinates. */
  readonly geohash: string | null;
}

/** Headers of the response to the upgrade (RFC 9110). */
export interface HttpData {
  readonly server: string | null;
  readonly poweredBy: string | null;
  readonly via: string | null;
}

/** Measured, not claimed. Null: undecided. */
export interface CapabilitiesData {
  readonly nip45: boolean | null;
  readonly nip50: boolean | null;
  readonly nip67: boolean | null;
  readonly nip77: boolean | null;
  /** Most events in the answer to one REQ, up to `LIMIT_TRIED`, which means "at least this many". */
  readonly maxLimit: number | null;
}

export interface CheckData {
  readonly open: OpenData;
  readonly read: ReadData;
  readonly write: WriteData;
  readonly nip11: Nip11Data;
  readonly tls: TlsData;
  readonly dns: DnsData;
  readonly net: NetData;
  readonly geo: GeoData;
  readonly http: HttpData;
  readonly capabilities: CapabilitiesData;
}

/** Absent: not selected, not reached (no read without open) or not applicable (no DNS for a `.onion` name). */
export type CheckResults = { readonly [Name in CheckName]?: CheckResult<CheckData[Name]> };
