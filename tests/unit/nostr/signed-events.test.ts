import { verifyEvent } from 'nostr-tools/pure';
import { describe, expect, test } from 'vitest';
import {
  forgedEvents,
  isValidEvent,
  makeKeys,
  mixedEvents,
  newestFirst,
  realEvents,
  realOrSignedEvents,
  signedEvent,
  signedEvents,
} from '../../fixtures/events.ts';

const WINDOW = { from: 1_700_000_000, to: 1_700_086_400 };

describe('signed test events', () => {
  test('verify, by nostr-wasm and by nostr-tools', () => {
    const events = signedEvents(300, { ...WINDOW, seed: 1 });
    expect(events.filter((event) => !isValidEvent(event))).toEqual([]);
    expect(events.slice(0, 20).filter((event) => !verifyEvent({ ...event }))).toEqual([]);
  });

  test('verify with any text, and with a content of a megabyte', () => {
    const content = ' \u0000\u0001\b\t\n\f\r"\\/\u007f\u2028\u2029äß日本語🦊';
    const odd = signedEvent({
      created_at: 0,
      kind: 65_535,
      content,
      tags: [[], [''], ['t', content], ['x', '', '']],
    });
    const large = signedEvent({ created_at: 1, content: 'x'.repeat(1_000_000) });
    expect([odd, large].map(isValidEvent)).toEqual([true, true]);
  });

  test('are deterministic for a seed, and differ between seeds', () => {
    const ids = (seed: number) =>
      signedEvents(50, { ...WINDOW, seed }).map(({ id, sig }) => id + sig);
    expect(ids(4)).toEqual(ids(4));
    expect(new Set([...ids(4), ...ids(5)]).size).toBe(100);
  });

  test('lie in their window, newest first, with the requested size', () => {
    const events = signedEvents(200, { from: 10, to: 12, contentBytes: 500 });
    expect(new Set(events.map(({ created_at }) => created_at))).toEqual(new Set([10, 11, 12]));
    expect(events).toEqual([...events].sort(newestFirst));
    expect(events.every(({ content }) => content.length === 500)).toBe(true);
  });

  test('are signed by the given key', () => {
    const [first, second] = makeKeys(2, 3);
    if (!first || !second) throw new Error('two keys were asked for');
    expect(signedEvent({ created_at: 1, secretKey: second.secretKey }).pubkey).toBe(
      second.publicKey,
    );
    expect(first.publicKey).not.toBe(second.publicKey);
  });
});

describe('forged test events', () => {
  test.each(['signature', 'id', 'content'] as const)('by %s do not verify', (how) => {
    const forged = forgedEvents(20, { ...WINDOW, how });
    expect(forged.filter(isValidEvent)).toEqual([]);
    expect(new Set(forged.map(({ id }) => id)).size).toBe(20);
  });
});

describe('sample events', () => {
  test('are real ones when they are available', () => {
    const real = realEvents();
    if (real.length === 0)
      console.log('BIGBROTR_TEST_EVENTS names no file of real events: signed ones are used');
    expect(realOrSignedEvents().length).toBeGreaterThanOrEqual(2000);
    expect(real.slice(0, 50).filter((event) => !isValidEvent(event))).toEqual([]);
  });

  test('have many kinds when they are generated', () => {
    const events = mixedEvents(500);
    expect(new Set(events.map(({ kind }) => kind)).size).toBeGreaterThan(10);
    expect(events.filter((event) => !isValidEvent(event))).toEqual([]);
  });
});
