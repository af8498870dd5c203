import { getPow } from 'nostr-tools/nip13';
import { getPublicKey, verifyEvent } from 'nostr-tools/pure';
import { describe, expect, test } from 'vitest';
import {
  MAX_POW_BITS,
  makeTestEvent,
  TEST_EVENT_KIND,
  toNip66Result,
} from '../../../src/nostr/nip66.ts';
import { notOpened } from '../../fixtures/probe-context.ts';
import { makeKeys } from '../../relay/signer.ts';

const KEY = makeKeys(1)[0]?.secretKey ?? new Uint8Array(32);
const NOW = 1_700_000_000;

describe('makeTestEvent', () => {
  test('returns an ephemeral event that expires and verifies', async () => {
    const event = await makeTestEvent(KEY, { createdAt: NOW, minPow: 0 });
    if (!event) throw new Error('no event was made');
    expect(event).toMatchObject({
      kind: TEST_EVENT_KIND,
      created_at: NOW,
      pubkey: getPublicKey(KEY),
      content: '',
    });
    expect(event.kind).toBeGreaterThanOrEqual(20_000);
    expect(event.kind).toBeLessThan(30_000);
    expect(event.tags).toEqual([['expiration', String(NOW + 3600)]]);
    expect(verifyEvent({ ...event })).toBe(true);
    expect(Object.getOwnPropertySymbols(event)).toEqual([]);
  });

  test('adds the required proof of work, and commits to it', async () => {
    const event = await makeTestEvent(KEY, { createdAt: NOW, minPow: 8 });
    if (!event) throw new Error('no event was made');
    expect(getPow(event.id)).toBeGreaterThanOrEqual(8);
    expect(event.tags.find(([name]) => name === 'nonce')?.[2]).toBe('8');
    expect(verifyEvent({ ...event })).toBe(true);
  });

  test('treats a negative difficulty as none', async () => {
    const event = await makeTestEvent(KEY, { createdAt: NOW, minPow: -5 });
    expect(event?.tags).toHaveLength(1);
  });

  test('does not start too much work, and stops at its time limit', async () => {
    expect(await makeTestEvent(KEY, { createdAt: NOW, minPow: MAX_POW_BITS + 1 })).toBeNull();
    expect(await makeTestEvent(KEY, { createdAt: NOW, minPow: 2 ** 50 })).toBeNull();
    expect(await makeTestEvent(KEY, { createdAt: NOW, minPow: MAX_POW_BITS, maxMs: 1 })).toBeNull();
  });
});

describe('toNip66Result', () => {
  test('has the reason of the first failed step, and the times of the others', () => {
    const ok = (rtt: number) => ({ ok: true, rtt }) as const;
    const failed = (reason: string) => ({ ok: false, reason }) as const;
    expect(toNip66Result(ok(1.4), ok(2.5), ok(3))).toEqual({
      openable: true,
      readable: true,
      writable: true,
      rtt_open: 1,
      rtt_read: 3,
      rtt_write: 3,
      reason: null,
    });
    expect(toNip66Result(ok(1), failed('timeout'), ok(3))).toMatchObject({
      readable: false,
      writable: true,
      rtt_read: null,
      rtt_write: 3,
      reason: 'timeout',
    });
    expect(toNip66Result(ok(1), failed('closed'), failed('pow')).reason).toBe('closed');
    expect(toNip66Result(failed('dns'))).toEqual(notOpened('dns'));
  });
});
