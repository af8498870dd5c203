/**
 * Checks one BIP-340 signature. All three are lower-case hex: a message of 32 bytes, an x-only public key of 32 and a
 * signature of 64. Returns false for anything malformed; never throws.
 */
export type SchnorrVerify = (message: string, pubkey: string, sig: string) => boolean;

/**
 * A build of libsecp256k1 that reads its arguments from shared memory. Parsed public keys are kept in slots; a slot may be
 * passed to `verify` only after `parseKey` returned true for it, because the C library aborts the process otherwise.
 */
export interface SchnorrLibrary {
  /** {@link MEMORY_BYTES} long, laid out as the constants below say. */
  readonly memory: Buffer;
  /** Parses the public key at {@link PUBKEY_AT} into the slot. */
  parseKey(slot: number): boolean;
  /** Checks the signature over the message, with the key of the slot. */
  verify(slot: number): boolean;
}

export const MESSAGE_AT = 0;
export const SIGNATURE_AT = 32;
export const PUBKEY_AT = 96;
const KEYS_AT = 128;
/** sizeof(secp256k1_xonly_pubkey), which its header fixes. */
export const KEY_BYTES = 64;
const KEY_SLOTS = 4096;
export const MEMORY_BYTES = KEYS_AT + KEY_SLOTS * KEY_BYTES;

/** Where a slot begins, in bytes from the start of the memory. */
export function keyAt(slot: number): number {
  return KEYS_AT + slot * KEY_BYTES;
}

/**
 * Builds the check from a library. Parsing a key is a square root modulo p, an eighth of the work of a check, and the
 * events of a page have few authors: parsed keys are cached, each in the slot of its last 12 bits. Two keys that share a
 * slot are parsed again in turn.
 */
export function schnorrVerifier(library: SchnorrLibrary): SchnorrVerify {
  const { memory } = library;
  const parsed: string[] = new Array<string>(KEY_SLOTS).fill('');
  return (message, pubkey, sig) => {
    if (!decodeHex(memory, message, MESSAGE_AT, 32)) return false;
    if (!decodeHex(memory, sig, SIGNATURE_AT, 64)) return false;
    if (!decodeHex(memory, pubkey, PUBKEY_AT, 32)) return false;
    const slot = memory.readUInt16BE(PUBKEY_AT + 30) % KEY_SLOTS;
    if (parsed[slot] !== pubkey) {
      // A key that does not parse makes its slot unusable.
      parsed[slot] = '';
      if (!library.parseKey(slot)) return false;
      parsed[slot] = pubkey;
    }
    return library.verify(slot);
  };
}

const NIBBLES = new Int8Array(128).fill(-1);
for (const [value, digit] of [...'0123456789abcdef'].entries())
  NIBBLES[digit.charCodeAt(0)] = value;

// Not Buffer.write(hex): it accepts capitals, and characters above U+00FF by their low byte.
function decodeHex(memory: Buffer, hex: string, at: number, bytes: number): boolean {
  if (typeof hex !== 'string' || hex.length !== bytes * 2) return false;
  for (let index = 0; index < bytes; index++) {
    const high = NIBBLES[hex.charCodeAt(index * 2)] ?? -1;
    const low = NIBBLES[hex.charCodeAt(index * 2 + 1)] ?? -1;
    if (high < 0 || low < 0) return false;
    memory[at + index] = high * 16 + low;
  }
  return true;
}

const KNOWN = {
  message: '243f6a8885a308d313198a2e03707344a4093822299f31d0082efa98ec4e6c89',
  pubkey: 'dff1d77f2a671c5f36183726db2341be58feae1da2deced843240f7b502ba659',
  good: '6896bd60eeae296db48a229ff71dfe071bde413e6d43f917dc8dcf8c78de33418906d11ac976abccb20b091292bff4ea897efcb639ea871cfa95f6de339e4b0a',
  bad: 'fff97bd5755eeea420453a14355235d382f6472f8568a18b2f057a14602975563cc27944640ac607cd107ae10923d9ef7a73c643e166be5ebeafa34b1ac553e2',
};

/**
 * Runs a check on test vectors 1 (valid) and 6 (invalid) of BIP-340, so that a broken library is never used.
 *
 * @returns null when both results are right, else what was wrong
 */
export function selfTest(verify: SchnorrVerify): string | null {
  if (!verify(KNOWN.message, KNOWN.pubkey, KNOWN.good)) return 'it refuses a valid signature';
  if (verify(KNOWN.message, KNOWN.pubkey, KNOWN.bad)) return 'it accepts an invalid signature';
  return null;
}
