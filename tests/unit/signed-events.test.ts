import { verifyEvent } from 'nostr-tools/pure';
import { describe, expect, it } from 'vitest';
import {
  forgedEvents,
  isValidEvent,
  makeKeys,
  mixedEvents,
  newestFirst,
  realEvents,
  realEventsPath,
  realOrSignedEvents,
  signedEvent,
  signedEvents,
} from '../support/events.ts';

const WINDOW = { from: 1_700_000_000, to: 1_700_086_400 };

describe('signed events', () => {
  it('verify, by nostr-wasm and by nostr-tools', () => {
    const events = signedEvents(300, { ...WINDOW, seed: 1 });
    expect(events.filter((event) => !isValidEvent(event))).toEqual([]);
    expect(events.slice(0, 20).filter((event) => !verifyEvent({ ...event }))).toEqual([]);
  });

  it('verify with any text, and with a content of a megabyte', () => {
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

  it('are the same for the same seed, and others for another', () => {
    const ids = (seed: number) =>
      signedEvents(50, { ...WINDOW, seed }).map(({ id, sig }) => id + sig);
    expect(ids(4)).toEqual(ids(4));
    expect(new Set([...ids(4), ...ids(5)]).size).toBe(100);
  });

  it('lie in their window, newest first, and have the size asked for', () => {
    const events = signedEvents(200, { from: 10, to: 12, contentBytes: 500 });
    expect(new Set(events.map(({ created_at }) => created_at))).toEqual(new Set([10, 11, 12]));
    expect(events).toEqual([...events].sort(newestFirst));
    expect(events.every(({ content }) => content.length === 500)).toBe(true);
  });

  it('are signed by the given key', () => {
    const [first, second] = makeKeys(2, 3);
    if (!first || !second) throw new Error('two keys were asked for');
    expect(signedEvent({ created_at: 1, secretKey: second.secretKey }).pubkey).toBe(
      second.publicKey,
    );
    expect(first.publicKey).not.toBe(second.publicKey);
  });
});

describe('forged events', () => {
  it.each(['signature', 'id', 'content'] as const)('by %s do not verify', (how) => {
    const forged = forgedEvents(20, { ...WINDOW, how });
    expect(forged.filter(isValidEvent)).toEqual([]);
    expect(new Set(forged.map(({ id }) => id)).size).toBe(20);
  });
});

describe('events to test with', () => {
  it('are the real ones where they are at hand', () => {
    const real = realEvents();
    if (real.length === 0)
      console.log(`no real events at ${realEventsPath()}: signed ones stand in for them`);
    expect(realOrSignedEvents().length).toBeGreaterThanOrEqual(2000);
    expect(real.slice(0, 50).filter((event) => !isValidEvent(event))).toEqual([]);
  });

  it('are of many kinds where they are our own', () => {
    const events = mixedEvents(500);
    expect(new Set(events.map(({ kind }) => kind)).size).toBeGreaterThan(10);
    expect(events.filter((event) => !isValidEvent(event))).toEqual([]);
  });
});
