import type { CheckName } from '../../src/nostr/check-result.ts';
import type { ProbeContext } from '../../src/probe.ts';
import { connectRelay } from '../../src/relay/connection.ts';
import { fetchNip11 } from '../../src/relay/nip11-fetch.ts';
import { makeKeys } from './relay-signer.ts';

const SECRET_KEY = makeKeys(1)[0]?.secretKey ?? new Uint8Array(32);

/** The checks that the archive itself goes by. */
export const BASIC_CHECKS: readonly CheckName[] = ['open', 'read', 'write', 'nip11'];

/** What a probe of the tests works with, unless told: loopback, the basic checks, nothing remembered. */
export function probeContext(changes: Partial<ProbeContext> = {}): ProbeContext {
  return {
    secretKey: SECRET_KEY,
    timeoutMs: 10_000,
    allowPrivate: true,
    torProxy: null,
    signal: new AbortController().signal,
    selected: new Set(BASIC_CHECKS),
    capabilitiesSeconds: 86_400,
    geoip: { city: null, asn: null },
    dnsServers: null,
    carried: async () => ({}),
    connect: connectRelay,
    fetchNip11,
    now: Date.now,
    ...changes,
  };
}
