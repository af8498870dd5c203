import {
  keyAt,
  MEMORY_BYTES,
  MESSAGE_AT,
  PUBKEY_AT,
  type SchnorrVerify,
  SIGNATURE_AT,
  schnorrVerifier,
  selfTest,
} from './schnorr.ts';

type Exports = Record<string, unknown>;
type WasmFunction = (...values: number[]) => number;
type Instantiate = (
  source: unknown,
  imports: unknown,
) => Promise<{ instance: { exports: Exports } }>;

/**
 * Loads the Schnorr check of the libsecp256k1 that nostr-wasm contains as WebAssembly.
 *
 * The package exports only the check of a whole event: it hashes the event a second time, in 1 MiB of memory, so that
 * valid events above 945 KB fail with "Out of memory". This uses the functions underneath, which need 128 bytes of an
 * event whatever its size.
 *
 * @throws Error when the installed version is not the one in package.json
 */
export async function loadWasmSchnorr(): Promise<SchnorrVerify> {
  const verify = bind(await instantiate());
  const failure = selfTest(verify);
  if (failure !== null) throw new Error(`nostr-wasm cannot be used, ${failure}. Run npm ci.`);
  return verify;
}

/**
 * The package does not export its WebAssembly instance. It calls WebAssembly.instantiate before its first await, so that
 * function is replaced for just that one synchronous call.
 */
async function instantiate(): Promise<Exports> {
  const { initNostrWasm } = await import('nostr-wasm');
  const runtime = (globalThis as unknown as { WebAssembly: { instantiate: Instantiate } })
    .WebAssembly;
  const original = runtime.instantiate;
  let made: ReturnType<Instantiate> | undefined;
  runtime.instantiate = (source, imports) => {
    made = original(source, imports);
    return made;
  };
  let ready: Promise<unknown>;
  try {
    ready = initNostrWasm();
  } finally {
    runtime.instantiate = original;
  }
  await ready;
  if (made === undefined)
    throw new Error('nostr-wasm created no WebAssembly instance. Run npm ci.');
  return (await made).instance.exports;
}

/** Names of the functions of libsecp256k1 in nostr-wasm 0.1.0, which is minified. */
const NAMES = { memory: 'g', malloc: 'i', contextCreate: 'o', keyParse: 'p', verify: 'u' };

function bind(exports: Exports): SchnorrVerify {
  const malloc = functionOf(exports, NAMES.malloc);
  const parse = functionOf(exports, NAMES.keyParse);
  const check = functionOf(exports, NAMES.verify);
  const context = functionOf(exports, NAMES.contextCreate)(CONTEXT_VERIFY);
  const start = malloc(MEMORY_BYTES);
  const { buffer } = exports[NAMES.memory] as { buffer: ArrayBuffer };
  return schnorrVerifier({
    memory: Buffer.from(buffer, start, MEMORY_BYTES),
    parseKey: (slot) => parse(context, start + keyAt(slot), start + PUBKEY_AT) === 1,
    verify: (slot) =>
      check(context, start + SIGNATURE_AT, start + MESSAGE_AT, 32, start + keyAt(slot)) === 1,
  });
}

function functionOf(exports: Exports, name: string): WasmFunction {
  const found = exports[name];
  if (typeof found !== 'function') {
    throw new Error(`nostr-wasm exports no function "${name}"; version 0.1.0 does. Run npm ci.`);
  }
  return found as WasmFunction;
}

/** SECP256K1_CONTEXT_VERIFY, which the older release in the package requires. */
const CONTEXT_VERIFY = 257;
