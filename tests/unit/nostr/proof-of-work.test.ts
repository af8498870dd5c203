import { getPow } from 'nostr-tools/nip13';
import { finalizeEvent, getPublicKey, verifyEvent } from 'nostr-tools/pure';
import { describe, expect, test } from 'vitest';
import { mineEvent } from '../../../src/nostr/proof-of-work.ts';
import { makeKeys } from '../../relay/signer.ts';

const KEY = makeKeys(1)[0]?.secretKey ?? new Uint8Array(32);
const PUBKEY = getPublicKey(KEY);
const PATIENT = { maxMs: 60_000 };

describe('mineEvent', () => {
  test.each([
    ['no tags', [], ''],
    [
      'tags and content that need escaping',
      [
        ['a', '"]]\\'],
        ['nonce-like', '""'],
      ],
      'line\n"quoted" 🐘',
    ],
  ])('finds a nonce that nostr-tools agrees with: %s', async (_, tags, content) => {
    const template = { kind: 1, created_at: 1_700_000_000, tags, content };
    const mined = await mineEvent(template, PUBKEY, 10, PATIENT);
    if (!mined) throw new Error('no nonce was found');
    const event = finalizeEvent(mined, KEY);
    expect(getPow(event.id)).toBeGreaterThanOrEqual(10);
    expect(verifyEvent(event)).toBe(true);
    expect(event.tags.slice(0, -1)).toEqual(tags);
    expect(event.tags.at(-1)).toEqual(['nonce', expect.stringMatching(/^\d+$/), '10']);
  });

  test('does not change the template', async () => {
    const template = { kind: 1, created_at: 1, tags: [['a', 'b']], content: '' };
    await mineEvent(template, PUBKEY, 4, PATIENT);
    expect(template).toEqual({ kind: 1, created_at: 1, tags: [['a', 'b']], content: '' });
  });

  test('returns null when the time limit has passed', async () => {
    const template = { kind: 1, created_at: 1, tags: [], content: '' };
    expect(await mineEvent(template, PUBKEY, 48, { maxMs: 20 })).toBeNull();
  });

  test('yields to the event loop, and stops on abort', async () => {
    const template = { kind: 1, created_at: 1, tags: [], content: '' };
    const stop = new AbortController();
    let ticks = 0;
    const interval = setInterval(() => {
      ticks += 1;
      if (ticks === 5) stop.abort(new Error('enough'));
    }, 1);
    const mining = mineEvent(template, PUBKEY, 48, { maxMs: 60_000, signal: stop.signal });
    await expect(mining).rejects.toThrow('enough');
    clearInterval(interval);
    expect(ticks).toBeGreaterThanOrEqual(5);
  });
});
