import { readFileSync } from 'node:fs';
import { schnorr } from '@noble/curves/secp256k1.js';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type SchnorrVerify, selfTest } from '../../../src/nostr/schnorr.ts';
import { loadNativeSchnorr } from '../../../src/nostr/schnorr-native.ts';
import { loadWasmSchnorr } from '../../../src/nostr/schnorr-wasm.ts';

// The test vectors of BIP-340 for messages of 32 bytes, as the bitcoin/bips repository publishes
// them (bip-0340/test-vectors.csv). Nostr signs nothing but 32 bytes: the event id.
const VECTORS = readFileSync(new URL('bip340-vectors.csv', import.meta.url), 'utf8')
  .trim()
  .split('\n')
  .slice(1)
  .map((line) => {
    const [index, , pubkey = '', , message = '', sig = '', result, comment] = line
      .toLowerCase()
      .split(',');
    return { name: `${index} ${comment}`, pubkey, message, sig, holds: result === 'true' };
  });

const noble: SchnorrVerify = (message, pubkey, sig) =>
  schnorr.verify(Buffer.from(sig, 'hex'), Buffer.from(message, 'hex'), Buffer.from(pubkey, 'hex'));

const wasm = await loadWasmSchnorr();
const native = await loadNativeSchnorr();
const implementations: [string, SchnorrVerify][] = [
  ['noble', noble],
  ['nostr-wasm', wasm],
];
if (native.ok) implementations.push(['libsecp256k1', native.verify]);
else console.log(`bip340.test: libsecp256k1 is left out, ${native.reason}`);

describe.each(implementations)('BIP-340 by %s', (_name, verify) => {
  test('runs all fifteen test vectors', () => {
    expect(VECTORS).toHaveLength(15);
    expect(VECTORS.filter((vector) => vector.holds)).toHaveLength(5);
  });

  test.each(VECTORS)('vector $name', ({ message, pubkey, sig, holds }) => {
    expect(verify(message, pubkey, sig)).toBe(holds);
    expect(verify(message, pubkey, sig), 'asked again, with the key parsed').toBe(holds);
  });

  test('passes the self-test', () => {
    expect(selfTest(verify)).toBeNull();
  });
});

const ours = implementations.filter(([name]) => name !== 'noble');

describe('all implementations, compared with noble', () => {
  const secret = fc.uint8Array({ minLength: 32, maxLength: 32 }).filter((bytes) => {
    return bytes[0] !== 0xff && bytes.some((byte) => byte !== 0);
  });
  const digest = fc.uint8Array({ minLength: 32, maxLength: 32 });
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

  test('agree on valid signatures and on ones with a flipped bit', () => {
    const flip = fc.option(fc.integer({ min: 0, max: 128 * 8 - 1 }));
    fc.assert(
      fc.property(secret, digest, flip, (key, message, bit) => {
        const bytes = Buffer.concat([
          message,
          schnorr.getPublicKey(key),
          schnorr.sign(message, key),
        ]);
        if (bit !== null) bytes.writeUInt8((bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7)), bit >> 3);
        const [m, p, s] = [bytes.subarray(0, 32), bytes.subarray(32, 64), bytes.subarray(64)];
        const expected = noble(hex(m), hex(p), hex(s));
        expect(expected).toBe(bit === null);
        for (const [name, verify] of ours) {
          expect(verify(hex(m), hex(p), hex(s)), name).toBe(expected);
        }
      }),
      { numRuns: 100 },
    );
  });

  test('agree on random bytes', () => {
    const bytes = fc.tuple(digest, digest, fc.uint8Array({ minLength: 64, maxLength: 64 }));
    fc.assert(
      fc.property(bytes, ([message, pubkey, sig]) => {
        const expected = noble(hex(message), hex(pubkey), hex(sig));
        for (const [name, verify] of ours) {
          expect(verify(hex(message), hex(pubkey), hex(sig)), name).toBe(expected);
        }
      }),
      { numRuns: 100 },
    );
  });
});

describe.each(ours)('malformed input to %s', (_name, verify) => {
  const [good] = VECTORS.filter((vector) => vector.holds);
  if (good === undefined) throw new Error('no valid vector');

  test('is refused without throwing', () => {
    const text = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.string({ unit: fc.constantFrom(...'0123456789abcdefABCDEFgİ\0 '), minLength: 60 }),
      fc.anything().map((value) => value as string),
    );
    const field = fc.constantFrom<'message' | 'pubkey' | 'sig'>('message', 'pubkey', 'sig');
    fc.assert(
      fc.property(field, text, (name, value) => {
        const changed = { ...good, [name]: value };
        expect(verify(changed.message, changed.pubkey, changed.sig)).toBe(false);
      }),
      { numRuns: 1000 },
    );
  });

  test.each(['message', 'pubkey', 'sig'] as const)(
    'is refused for each wrong digit of %s',
    (field) => {
      for (const [at, digit] of [...good[field]].entries()) {
        const code = digit.charCodeAt(0);
        for (const other of ['g', '/', ':', '`', '@', ' ', code + 0x100, code + 0x4e00]) {
          const replaced = typeof other === 'number' ? String.fromCharCode(other) : other;
          const text = good[field].slice(0, at) + replaced + good[field].slice(at + 1);
          const changed = { ...good, [field]: text };
          expect(verify(changed.message, changed.pubkey, changed.sig), text).toBe(false);
        }
      }
      expect(verify(good.message, good.pubkey, good.sig)).toBe(true);
    },
  );
});

describe.each(ours)('keys that share a slot in %s', (_name, verify) => {
  const message = '11'.repeat(32);
  const sign = (key: Uint8Array): string =>
    Buffer.from(schnorr.sign(Buffer.from(message, 'hex'), key)).toString('hex');

  test('do not affect each other, nor does one that is not on the curve', () => {
    const [one, other] = collidingKeys();
    const tail = one.pubkey.slice(-3);
    const noPoint = Array.from({ length: 64 }, (_, index) => {
      return index.toString(16).padStart(61, 'e') + tail;
    }).find((pubkey) => !isPoint(pubkey));
    if (noPoint === undefined) throw new Error('found no such key');
    for (let round = 0; round < 3; round++) {
      expect(verify(message, one.pubkey, sign(one.secret))).toBe(true);
      expect(verify(message, noPoint, sign(one.secret))).toBe(false);
      expect(verify(message, noPoint, sign(one.secret))).toBe(false);
      expect(verify(message, one.pubkey, sign(one.secret))).toBe(true);
      expect(verify(message, other.pubkey, sign(one.secret))).toBe(false);
      expect(verify(message, other.pubkey, sign(other.secret))).toBe(true);
      expect(verify(message, one.pubkey, sign(other.secret))).toBe(false);
    }
  });
});

interface Key {
  secret: Uint8Array;
  pubkey: string;
}

/** Two keys with the same last 12 bits, which name the slot. */
function collidingKeys(): [Key, Key] {
  const seen = new Map<string, Key>();
  for (let number = 1; number < 2000; number++) {
    const secret = Buffer.from(number.toString(16).padStart(64, '0'), 'hex');
    const pubkey = Buffer.from(schnorr.getPublicKey(secret)).toString('hex');
    const before = seen.get(pubkey.slice(-3));
    if (before !== undefined) return [before, { secret, pubkey }];
    seen.set(pubkey.slice(-3), { secret, pubkey });
  }
  throw new Error('found no two keys with the same last 12 bits');
}

function isPoint(pubkey: string): boolean {
  try {
    schnorr.utils.lift_x(BigInt(`0x${pubkey}`));
    return true;
  } catch {
    return false;
  }
}
