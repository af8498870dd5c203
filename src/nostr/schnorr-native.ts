import type { LibraryHandle } from 'koffi';
import {
  KEY_BYTES,
  keyAt,
  MEMORY_BYTES,
  MESSAGE_AT,
  PUBKEY_AT,
  type SchnorrVerify,
  SIGNATURE_AT,
  schnorrVerifier,
  selfTest,
} from './schnorr.ts';

export type NativeSchnorr =
  | { ok: true; library: string; verify: SchnorrVerify }
  | { ok: false; reason: string };

// Only sonames of releases: 0.2 is 1, 0.3 to 0.5 are 2, 0.6 is 5, 0.7 is 6. Builds from before the
// first release (soname 0) have functions of these names with other arguments, which would crash.
const SONAMES = ['6', '5', '2', '1'];

/** File names of libsecp256k1 on this platform, newest release first. */
export function nativeLibraryNames(platform: NodeJS.Platform = process.platform): string[] {
  if (platform === 'linux') return SONAMES.map((version) => `libsecp256k1.so.${version}`);
  if (platform !== 'darwin') return [];
  const names = SONAMES.map((version) => `libsecp256k1.${version}.dylib`);
  // Homebrew on Apple silicon is outside the loader's default path.
  return [...names, ...names.map((name) => `/opt/homebrew/lib/${name}`)];
}

/**
 * Opens the system's libsecp256k1 (Debian: `libsecp256k1-1` or `-2`) and returns its Schnorr check, after a self-test.
 * Never throws: without a usable library it returns the reason.
 */
export async function loadNativeSchnorr(names = nativeLibraryNames()): Promise<NativeSchnorr> {
  if (names.length === 0) return { ok: false, reason: `no library known for ${process.platform}` };
  const koffi = await importKoffi();
  if (typeof koffi === 'string') return { ok: false, reason: koffi };
  const problems: string[] = [];
  for (const name of names) {
    const opened = open(() => koffi.load(name));
    if (opened.ok) return { ok: true, library: name, verify: opened.verify };
    problems.push(`${name}: ${opened.reason}`);
  }
  const informative = problems.filter((problem) => !/no such file/i.test(problem));
  const reason = informative.join('; ') || `none of ${names.join(', ')} is installed`;
  return { ok: false, reason };
}

// The addon is a binary per platform; the import throws when there is none.
async function importKoffi(): Promise<typeof import('koffi') | string> {
  try {
    return await import('koffi');
  } catch (error) {
    return `the koffi package cannot be loaded (${messageOf(error)})`;
  }
}

function open(
  load: () => LibraryHandle,
): { ok: true; verify: SchnorrVerify } | { ok: false; reason: string } {
  try {
    const verify = bind(load());
    const failure = selfTest(verify);
    return failure === null ? { ok: true, verify } : { ok: false, reason: failure };
  } catch (error) {
    return { ok: false, reason: messageOf(error) };
  }
}

function bind(library: LibraryHandle): SchnorrVerify {
  const createContext: (flags: number) => unknown = library.func(
    'void *secp256k1_context_create(unsigned int flags)',
  );
  const parse: (context: unknown, parsed: Buffer, bytes: Buffer) => number = library.func(
    'int secp256k1_xonly_pubkey_parse(void *context, void *parsed, void *bytes)',
  );
  const check: (
    context: unknown,
    sig: Buffer,
    message: Buffer,
    length: number,
    key: Buffer,
  ) => number = library.func(
    'int secp256k1_schnorrsig_verify(void *context, void *sig, void *message, size_t length, void *key)',
  );
  const context = createContext(CONTEXT_NONE);
  if (!context) throw new Error('secp256k1_context_create returned no context');

  // Views are created once: a call then costs 0.2 µs besides the 45 µs of curve arithmetic.
  const memory = Buffer.alloc(MEMORY_BYTES);
  const message = memory.subarray(MESSAGE_AT, MESSAGE_AT + 32);
  const sig = memory.subarray(SIGNATURE_AT, SIGNATURE_AT + 64);
  const pubkey = memory.subarray(PUBKEY_AT, PUBKEY_AT + 32);
  const keys: Buffer[] = [];
  const keyOf = (slot: number): Buffer => {
    const known = keys[slot];
    if (known !== undefined) return known;
    const key = memory.subarray(keyAt(slot), keyAt(slot) + KEY_BYTES);
    keys[slot] = key;
    return key;
  };
  return schnorrVerifier({
    memory,
    parseKey: (slot) => parse(context, keyOf(slot), pubkey) === 1,
    verify: (slot) => check(context, sig, message, 32, keyOf(slot)) === 1,
  });
}

/** SECP256K1_CONTEXT_NONE: enough to verify since release 0.2. */
const CONTEXT_NONE = 1;

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
