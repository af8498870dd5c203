import { getPow } from 'nostr-tools/nip13';
import { getPublicKey, verifyEvent } from 'nostr-tools/pure';
import { describe, expect, test } from 'vitest';
import {
  MAX_POW_BITS,
  makeTestEvent,
  refusalOfOk,
  TEST_EVENT_KIND,
  toNip66Result,
} from '../../src/nostr/nip66.ts';
import { makeKeys } from '../support/relay-signer.ts';

const KEY = makeKeys(1)[0]?.secretKey ?? new Uint8Array(32);
const NOW = 1_700_000_000;

describe('makeTestEvent', () => {
  test('is ephemeral, expires, and verifies', async () => {
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

  test('carries the proof of work that is asked for, and commits to it', async () => {
    const event = await makeTestEvent(KEY, { createdAt: NOW, minPow: 8 });
    if (!event) throw new Error('no event was made');
    expect(getPow(event.id)).toBeGreaterThanOrEqual(8);
    expect(event.tags.find(([name]) => name === 'nonce')?.[2]).toBe('8');
    expect(verifyEvent({ ...event })).toBe(true);
  });

  test('a relay that claims a negative difficulty asks for none', async () => {
    const event = await makeTestEvent(KEY, { createdAt: NOW, minPow: -5 });
    expect(event?.tags).toHaveLength(1);
  });

  test('too much work is not begun, and not gone on with past its time', async () => {
    expect(await makeTestEvent(KEY, { createdAt: NOW, minPow: MAX_POW_BITS + 1 })).toBeNull();
    expect(await makeTestEvent(KEY, { createdAt: NOW, minPow: 2 ** 50 })).toBeNull();
    expect(await makeTestEvent(KEY, { createdAt: NOW, minPow: MAX_POW_BITS, maxMs: 1 })).toBeNull();
  });
});

describe('refusalOfOk', () => {
  test.each([
    [true, '', null],
    [true, 'blocked: but taken', null],
    [false, 'duplicate: already have this event', null],
    [
      false,
      "mute: no one was listening to your ephemeral event and it wasn't handled in any way",
      null,
    ],
    [false, 'pow: 28 bits needed', 'pow'],
    [false, 'invalid: created_at too late', 'invalid'],
    [false, 'error: could not connect to the database', 'error'],
    [false, 'auth-required: we only accept events from registered users', 'auth_required'],
    [false, 'restricted: not allowed to write', 'restricted'],
    [false, 'rate-limited: slow down there chief', 'rate_limited'],
    [false, 'blocked: you are banned from posting here', 'blocked'],
    [false, 'something else', 'rejected'],
    [false, '', 'rejected'],
  ])('%s "%s" is %s', (accepted, text, reason) => {
    expect(refusalOfOk(accepted, text)).toBe(reason);
  });
});

describe('toNip66Result', () => {
  test('names the first step that failed, and keeps the times of the others', () => {
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
    expect(toNip66Result(failed('dns'))).toEqual({
      openable: false,
      readable: false,
      writable: false,
      rtt_open: null,
      rtt_read: null,
      rtt_write: null,
      reason: 'dns',
    });
  });
});
