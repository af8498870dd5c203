import type { IdentifiedEvent } from './event.ts';
import type { ReceivedEvent } from './event-text.ts';
import type { SchnorrVerify } from './schnorr.ts';
import { loadNativeSchnorr } from './schnorr-native.ts';
import { loadWasmSchnorr } from './schnorr-wasm.ts';

declare const verified: unique symbol;

/** An event whose id and signature are valid. Only this file creates one. */
export type VerifiedEvent = IdentifiedEvent & { readonly [verified]: 'VerifiedEvent' };

export interface Verifier {
  readonly name: 'libsecp256k1' | 'nostr-wasm';
  /** One sentence for the log: which library checks signatures and, if it is not native, why. */
  readonly note: string;
  /** The event as verified, or null when its signature is invalid. Never throws. */
  verify(event: IdentifiedEvent): VerifiedEvent | null;
}

export interface VerifierOptions {
  /** Skips the native library, for comparison or diagnosis. */
  prefer?: 'nostr-wasm';
  /** Names or paths of the native library, instead of the defaults. */
  libraries?: string[];
}

/**
 * Creates the signature check (BIP-340) of one thread: the system's libsecp256k1 if there is one, else WebAssembly, which
 * is about seven times slower. Both run a self-test. The memory is reused by every check, so each thread needs its own.
 *
 * @throws Error when neither works: the installation is broken
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
 * An event that the archive already holds needs no signature check: the same id means the same content, and the signature
 * was checked when it was stored. The same goes for a `HashedEvent`: what hashes to the id of a verified event is that event.
 * Null when the signatures differ: then the event must be verified like a new one.
 *
 * @param archivedSig the stored signature in lower-case hex
 */
export function matchesArchived(event: ReceivedEvent, archivedSig: string): VerifiedEvent | null {
  return event.sig === archivedSig ? (event as unknown as VerifiedEvent) : null;
}

/**
 * An event of which a copy with the same id and the same signature was verified needs no second check: the id is a hash over
 * the public key too. Null where there was none.
 */
export function matchesVerified(
  event: ReceivedEvent,
  isCopyVerified: boolean,
): VerifiedEvent | null {
  return isCopyVerified ? (event as unknown as VerifiedEvent) : null;
}

function verifier(name: Verifier['name'], note: string, check: SchnorrVerify): Verifier {
  return {
    name,
    note,
    verify: (event) => (check(event.id, event.pubkey, event.sig) ? (event as VerifiedEvent) : null),
  };
}
