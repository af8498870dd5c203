import type { Validators } from '../../network/http-caching.ts';
import type { DocumentRetry } from '../../network/retry-after.ts';
import type { CapabilitiesData, Nip11Data } from '../../nostr/check-result.ts';
import { parseNip11 } from '../../nostr/nip11.ts';

/** A result of an earlier check that may be reused instead of measured again. */
export interface Carried<Data> extends CarryTerms {
  readonly data: Data;
  /** Duration of the measurement, in milliseconds. */
  readonly durationMs: number;
}

/** When a reused result expires, and the validators of a conditional request after that. */
export interface CarryTerms extends Validators {
  /** Unix seconds. */
  readonly freshUntil: number;
}

export interface CarriedChecks {
  readonly nip11?: Carried<Nip11Data>;
  readonly capabilities?: Carried<CapabilitiesData>;
  readonly nip11Retry?: DocumentRetry;
}

/** A reusable result as it is stored: `data` of nip11 without the parsed document. */
export interface StoredCarried extends CarryTerms {
  readonly name: string;
  readonly durationMs: number;
  readonly data: unknown;
}

/** Parses stored results. Those in the format of an older version are skipped, so they are measured again. */
export function readCarried(rows: readonly StoredCarried[]): CarriedChecks {
  const carried: { -readonly [Name in keyof CarriedChecks]: CarriedChecks[Name] } = {};
  for (const row of rows) {
    const { name, data, ...terms } = row;
    if (typeof data !== 'object' || data === null) continue;
    if (name === 'nip11') {
      const document = readNip11Data(data);
      if (document) carried.nip11 = { ...terms, data: document };
    } else if (name === 'capabilities' && isCapabilities(data)) {
      carried.capabilities = { ...terms, data };
    }
  }
  return carried;
}

function readNip11Data(data: object): Nip11Data | null {
  if (!('raw' in data && typeof data.raw === 'string')) return null;
  const parsed = parseNip11(data.raw);
  return parsed.ok ? { document: parsed.document, raw: data.raw, dropped: parsed.dropped } : null;
}

const CAPABILITIES: Record<keyof CapabilitiesData, 'boolean' | 'number'> = {
  nip45: 'boolean',
  nip50: 'boolean',
  nip67: 'boolean',
  nip77: 'boolean',
  maxLimit: 'number',
};

function isCapabilities(data: object): data is CapabilitiesData {
  const members: Record<string, unknown> = { ...data };
  return Object.entries(CAPABILITIES).every(
    ([name, type]) => members[name] === null || typeof members[name] === type,
  );
}
