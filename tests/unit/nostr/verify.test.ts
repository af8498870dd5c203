import { describe, expect, type TestContext, test } from 'vitest';
import { type IdentifiedEvent, type NostrEvent, parseEvent } from '../../../src/nostr/event.ts';
import { selfTest } from '../../../src/nostr/schnorr.ts';
import { loadNativeSchnorr, nativeLibraryNames } from '../../../src/nostr/schnorr-native.ts';
import { createVerifier, matchesArchived, type Verifier } from '../../../src/nostr/verify.ts';
import { forge, realEvents, signedEvent } from '../../fixtures/events.ts';

const NOTE = identified(signedEvent({ created_at: 1_700_000_000, content: 'hello' }));

function identified(value: NostrEvent): IdentifiedEvent {
  const parsed = parseEvent(value);
  if (!parsed.ok) throw new Error(`a test event is malformed: ${parsed.reason}`);
  return parsed.event;
}

function skip(context: TestContext, reason: string): void {
  console.log(`${context.task.name}: skipped, ${reason}`);
  context.skip(reason);
}

const native = await loadNativeSchnorr();
const verifiers: [string, Verifier][] = [
  ['nostr-wasm', await createVerifier({ prefer: 'nostr-wasm' })],
];
if (native.ok) verifiers.push(['libsecp256k1', await createVerifier()]);
else console.log(`verify.test: libsecp256k1 is left out, ${native.reason}`);

describe.each(verifiers)('createVerifier by %s', (name, verifier) => {
  test('has its name and a note', () => {
    expect(verifier.name).toBe(name);
    expect(verifier.note).not.toBe('');
  });

  test('returns a signed event as verified', () => {
    expect(verifier.verify(NOTE)).toBe(NOTE);
  });

  test('returns null for a forged signature, one of another event, or by another key', () => {
    const other = identified(signedEvent({ created_at: 1_700_000_000, content: 'another' }));
    const stranger = identified(
      signedEvent({ created_at: 1, secretKey: new Uint8Array(32).fill(3) }),
    );
    expect(verifier.verify(identified(forge(NOTE, 'signature')))).toBeNull();
    expect(verifier.verify({ ...NOTE, sig: other.sig })).toBeNull();
    expect(verifier.verify({ ...NOTE, pubkey: stranger.pubkey })).toBeNull();
    expect(verifier.verify(NOTE)).toBe(NOTE);
  });

  test('does not throw on malformed fields', () => {
    for (const junk of ['', 'x', 'F'.repeat(64), 'f'.repeat(64), '0'.repeat(64), null, 7, {}]) {
      for (const field of ['id', 'pubkey', 'sig']) {
        expect(verifier.verify({ ...NOTE, [field]: junk } as IdentifiedEvent)).toBeNull();
      }
    }
  });

  test('verifies an event of 3 MB', () => {
    const large = identified(signedEvent({ created_at: 1, content: 'x'.repeat(3_000_000) }));
    expect(verifier.verify(large)).toBe(large);
    expect(verifier.verify(identified(forge(large, 'signature')))).toBeNull();
  });

  test('verifies every real event, and none once its signature is changed', (context) => {
    const events = realEvents().map(identified);
    if (events.length === 0)
      return skip(context, 'BIGBROTR_TEST_EVENTS names no file of real events');
    expect(events.filter((event) => verifier.verify(event) === null)).toEqual([]);
    const forged = events.slice(0, 200).map((event) => identified(forge(event, 'signature')));
    expect(forged.filter((event) => verifier.verify(event) !== null)).toEqual([]);
  });
});

describe('createVerifier', () => {
  test('uses WebAssembly when configured', async () => {
    const verifier = await createVerifier({ prefer: 'nostr-wasm' });
    expect(verifier.name).toBe('nostr-wasm');
  });

  test('falls back to WebAssembly without a library, with the reason in its note', async () => {
    const verifier = await createVerifier({ libraries: ['libno-such-thing.so.9'] });
    expect(verifier.name).toBe('nostr-wasm');
    expect(verifier.note).toContain('libno-such-thing.so.9');
    expect(verifier.verify(NOTE)).toBe(NOTE);
  });

  test('falls back to WebAssembly when the library lacks the functions', async (context) => {
    if (process.platform !== 'linux') return skip(context, 'only Linux has libc.so.6');
    const verifier = await createVerifier({ libraries: ['libc.so.6'] });
    expect(verifier.name).toBe('nostr-wasm');
    expect(verifier.note).toContain('secp256k1_context_create');
  });

  test('tries the next library name', async (context) => {
    if (!native.ok) return skip(context, `no libsecp256k1: ${native.reason}`);
    const verifier = await createVerifier({ libraries: ['libno-such-thing.so.9', native.library] });
    expect(verifier.name).toBe('libsecp256k1');
    expect(verifier.note).toContain(native.library);
  });

  test('supports several verifiers in one thread', async () => {
    const made = await Promise.all([createVerifier(), createVerifier(), createVerifier()]);
    expect(made.map((verifier) => verifier.verify(NOTE))).toEqual([NOTE, NOTE, NOTE]);
  });
});

describe('selfTest', () => {
  test('detects a check that accepts everything or nothing', () => {
    expect(selfTest(() => true)).toContain('accepts an invalid signature');
    expect(selfTest(() => false)).toContain('refuses a valid signature');
  });
});

describe('nativeLibraryNames', () => {
  test('excludes builds from before the first release', () => {
    for (const platform of ['linux', 'darwin', 'win32'] as const) {
      const names = nativeLibraryNames(platform);
      expect(names.filter((name) => /\.so$|\.so\.0|k1\.0?\.?dylib/.test(name))).toEqual([]);
    }
    expect(nativeLibraryNames('linux')).toContain('libsecp256k1.so.2');
    expect(nativeLibraryNames('win32')).toEqual([]);
  });
});

describe('matchesArchived', () => {
  test('accepts the stored signature, and no other', () => {
    expect(matchesArchived(NOTE, NOTE.sig)).toBe(NOTE);
    expect(matchesArchived(NOTE, forge(NOTE, 'signature').sig)).toBeNull();
    expect(matchesArchived(NOTE, '')).toBeNull();
  });
});
