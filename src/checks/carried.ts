import type { CapabilitiesData, Nip11Data } from '../nostr/check-result.ts';
import { parseNip11 } from '../nostr/nip11.ts';
import type { Validators } from '../relay/http-caching.ts';
import type { DocumentRetry } from '../relay/retry-after.ts';

/** A result of an earlier check that may be repeated instead of measured. */
export interface Carried<Data> extends CarryTerms {
  readonly data: Data;
  /** How long it took when it was measured. */
  readonly durationMs: number;
}

/** Until when later snapshots may repeat a result, Unix seconds, and what to ask with whether it is still the same. */
export interface CarryTerms extends Validators {
  readonly freshUntil: number;
}

export interface CarriedChecks {
  readonly nip11?: Carried<Nip11Data>;
  readonly capabilities?: Carried<CapabilitiesData>;
  readonly nip11Retry?: DocumentRetry;
}

/** One as it is stored: `data` as the check's result has it, but that of nip11 without the parsed document. */
export interface StoredCarried extends CarryTerms {
  readonly name: string;
  readonly durationMs: number;
  readonly data: unknown;
}

/** Reads what was stored. What does not fit, for an older version wrote it, is left out and measured again. */
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
