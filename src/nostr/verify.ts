import type { IdentifiedEvent } from './event.ts';
import type { SchnorrVerify } from './schnorr.ts';
import { loadNativeSchnorr } from './schnorr-native.ts';
import { loadWasmSchnorr } from './schnorr-wasm.ts';

declare const verified: unique symbol;

/** An event whose id and signature both hold. Only this file makes one. */
export type VerifiedEvent = IdentifiedEvent & { readonly [verified]: 'VerifiedEvent' };

export interface Verifier {
  readonly name: 'libsecp256k1' | 'nostr-wasm';
  /** One sentence for the log: what checks signatures here and, if it is not native, why. */
  readonly note: string;
  /** The event as verified, or null where its signature does not hold. Never throws. */
  verify(event: IdentifiedEvent): VerifiedEvent | null;
}

export interface VerifierOptions {
  /** Passes over the native library, to compare or to rule it out. */
  prefer?: 'nostr-wasm';
  /** Names or paths of the native library, instead of the usual ones. */
  libraries?: string[];
}

/**
 * Makes the signature check (BIP-340) of one thread: the system's libsecp256k1 where there is one,
 * else WebAssembly, which does about a seventh as much. Either has passed a self-test. It keeps
 * memory that it reuses for every check, so each worker thread makes its own.
 *
 * @throws Error when neither works, which only a broken installation brings about.
 */
export async function createVerifier(options: VerifierOptions = {}): Promise<Verifier> {
  if (options.prefer === 'nostr-wasm') {
    return verifier('nostr-wasm', 'WebAssembly, as asked for', await loadWasmSchnorr());
  }
  const native = await loadNativeSchnorr(options.libraries);
  if (native.ok) return verifier('libsecp256k1', `native ${native.library}`, native.verify);
  const note = `WebAssembly, several times slower: no native libsecp256k1 (${native.reason}); on Debian: apt-get install libsecp256k1-2 (or -1)`;
  return verifier('nostr-wasm', note, await loadWasmSchnorr());
}

/**
 * An event that the archive already holds needs no signature check: the same id is the same
 * content, and the signature was checked when it was stored. `archivedSig` is the stored one in
 * lower-case hex. Null where the two differ; then the event has to be verified like a new one.
 */
export function matchesArchived(event: IdentifiedEvent, archivedSig: string): VerifiedEvent | null {
  return event.sig === archivedSig ? (event as VerifiedEvent) : null;
}

function verifier(name: Verifier['name'], note: string, check: SchnorrVerify): Verifier {
  return {
    name,
    note,
    verify: (event) => (check(event.id, event.pubkey, event.sig) ? (event as VerifiedEvent) : null),
  };
}
