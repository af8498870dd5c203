import { describe, expect } from 'vitest';
import type { NostrEvent } from '../../../src/nostr/event.ts';
import {
  authsOf,
  DAY,
  EVENTS,
  OURS,
  type Say,
  startTerse,
  T,
  type TerseRelay,
  authTest as test,
} from '../../fixtures/visit-auth.ts';
import { unanswered } from '../../relay/scripted-relay.ts';

describe('silence after a challenge', () => {
  test.for(['for-good', 'until-auth'] as const)(
    'is answered by AUTH: a relay that holds requests back (%s) is read',
    async (holds, { start, visit, remembered }) => {
      const relay = await start({ holds });
      expect(await visit(relay, { requestTimeoutMs: 400 })).toMatchObject({
        outcome: 'complete',
        events: 60,
        invalid: {},
      });
      expect(relay.fired).toMatchObject({ held: 2, auth: 1 }); // the first REQ is sent once more anyhow
      expect(relay.connections.total).toBe(1);
      expect(await remembered(relay)).toEqual({ reason: null, pause: 0 });
    },
  );

  test('that goes on after AUTH is a timeout, after a bounded number of requests', async ({
    start,
    visit,
    remembered,
  }) => {
    const relay = await start({ reads: false }, { quirk: unanswered });
    expect(await visit(relay, { requestTimeoutMs: 300 })).toMatchObject({
      ...{ outcome: 'failed', reason: 'timeout' },
    });
    expect(relay.fired.auth).toBeLessThanOrEqual(relay.connections.total);
    expect(relay.requests.length).toBeLessThanOrEqual(12);
    expect(relay.connections.total).toBeLessThanOrEqual(4);
    expect(await remembered(relay)).toEqual({ reason: 'failed', pause: 300 });
  });

  test('that goes on after OK false is a timeout, not a refusal', async ({
    start,
    visit,
    remembered,
  }) => {
    const relay = await start({ reads: false, refuse: 'error: no' }, { quirk: unanswered });
    expect(await visit(relay, { requestTimeoutMs: 300 })).toMatchObject({ reason: 'timeout' });
    expect(relay.fired['auth-failed']).toBeGreaterThan(0);
    expect(await remembered(relay)).toEqual({ reason: 'failed', pause: 300 });
  });

  test('is auth_required without a key if the relay never sent anything else', async ({
    start,
    visit,
    remembered,
  }) => {
    const relay = await start({ holds: 'for-good' });
    expect(await visit(relay, { secretKey: null, requestTimeoutMs: 300 })).toMatchObject({
      ...{ outcome: 'failed', reason: 'auth_required', events: 0 },
    });
    expect(authsOf(relay)).toEqual([]);
    expect(relay.fired.held).toBeGreaterThan(1);
    expect(await remembered(relay)).toEqual({ reason: 'auth_required', pause: DAY });
  });

  test.for([
    ['in this visit', (_: unknown, n: number) => (n > 1 ? unanswered : 'answer')],
    ['in an earlier one', () => 'answer' as const],
  ] as const)(
    'is a timeout where there is no key and the relay has served %s',
    async ([when, onRequest], { start, visit, remembered }) => {
      const relay = await start({ reads: false }, { onRequest });
      const options = { secretKey: null, requestTimeoutMs: 300, batchSize: 20 };
      if (when === 'in an earlier one') {
        await visit(relay, { ...options, stopTimestamp: T - 50 });
        relay.change({ onRequest: () => unanswered });
      }
      expect(await visit(relay, options)).toMatchObject({ reason: 'timeout' });
      expect((await remembered(relay))?.reason).not.toBe('auth_required');
    },
  );

  test('of one request only, without a key, does not stop other reading', async ({
    start,
    visit,
  }) => {
    const second = EVENTS.map(({ created_at }) => created_at).sort((a, b) => b - a)[0] ?? 0;
    const quirk = { poison: { createdAt: [second], how: 'silence' } } as const;
    const relay = await start({ reads: false }, { quirk });
    const options = { secretKey: null, requestTimeoutMs: 300 };
    expect(await visit(relay, options)).toMatchObject({ reason: 'holes', events: 59 });
    expect(relay.fired.poison).toBeGreaterThan(1);
  });
});

describe('the policy of a relay after NIP-42', () => {
  const failed = { outcome: 'failed', events: 0 };

  test('records auth_required when no key is configured', async ({ start, visit, remembered }) => {
    const relay = await start({});
    expect(await visit(relay, { secretKey: null })).toMatchObject({
      ...failed,
      detail: 'auth_required: auth-required: who are you?',
    });
    expect(authsOf(relay)).toEqual([]);
    expect(relay.requests).toHaveLength(1);
    expect(await remembered(relay)).toEqual({ reason: 'auth_required', pause: DAY });
  });

  test('records restricted when the relay refuses this key', async ({
    start,
    visit,
    remembered,
  }) => {
    const relay = await start({ allow: (pubkey) => pubkey !== OURS.publicKey });
    expect(await visit(relay)).toMatchObject({
      ...failed,
      detail: 'restricted: restricted: not for you',
    });
    expect(relay.fired).toMatchObject({ auth: 1, restricted: 1 });
    expect(await remembered(relay)).toEqual({ reason: 'restricted', pause: DAY });
  });

  test('records the refusal when the relay answers AUTH with OK false', async ({
    visit,
    remembered,
  }) => {
    const relay = await startTerse(([type, first], say) => {
      if (type === 'AUTH') say('OK', (first as NostrEvent).id, false, 'error: not on the list');
      else if (type === 'REQ') {
        say('AUTH', 'who?');
        say('CLOSED', first, 'auth-required: who?');
      }
    });
    expect(await visit(relay)).toMatchObject({ ...failed, pages: 2 });
    expect(authsOf(relay)).toHaveLength(1);
    expect(await remembered(relay)).toEqual({ reason: 'restricted', pause: DAY });
  });

  test('bounds the AUTH messages to a relay that asks for one at every REQ', async ({
    start,
    visit,
    remembered,
  }) => {
    const relay = await start({ loop: true });
    expect(await visit(relay)).toMatchObject(failed);
    expect(relay.fired.auth).toBeGreaterThanOrEqual(1);
    expect(relay.fired.auth).toBeLessThanOrEqual(2);
    expect(relay.requests.length).toBeLessThanOrEqual(3);
    expect(await remembered(relay)).toEqual({ reason: 'auth_required', pause: DAY });
  });

  test.for<[string, number, (say: Say) => void]>([
    ['never sends a challenge', 1, () => {}],
    ['sends one that is too long to be one', 1, (say) => say('AUTH', 'x'.repeat(100_000))],
    ['never says OK and refuses the second REQ too', 2, (say) => say('AUTH', 'who?')],
    [
      'says OK to something else',
      2,
      (say) => {
        say('AUTH', 'who?');
        say('OK', 'f'.repeat(64), true, '');
      },
    ],
  ])('a relay that %s', async ([_what, requests, challenge], { visit, remembered }) => {
    const relay = await startTerse(([type, first], say) => {
      if (type !== 'REQ') return;
      challenge(say);
      say('CLOSED', first, 'auth-required: who?');
    });
    expect(await visit(relay, { requestTimeoutMs: 1000 })).toMatchObject(failed);
    expect(
      relay.messages.filter(({ message }) => (message as unknown[])[0] === 'REQ'),
    ).toHaveLength(requests);
    expect(await remembered(relay)).toEqual({ reason: 'auth_required', pause: DAY });
  });

  test('records nothing when we stop while waiting for OK, and a failure when the connection is lost', async ({
    visit,
    remembered,
  }) => {
    const stop = new AbortController();
    const asksAnd = (onAuth: () => void) =>
      startTerse(([type, first], say) => {
        if (type === 'AUTH') onAuth();
        else if (type === 'REQ') {
          say('AUTH', 'who?');
          say('CLOSED', first, 'auth-required: who?');
        }
      });
    const stopping = await asksAnd(() => stop.abort());
    expect(await visit(stopping, { signal: stop.signal })).toMatchObject({ outcome: 'unfinished' });
    expect(authsOf(stopping)).toHaveLength(1);
    expect(await remembered(stopping)).toEqual({ reason: null, pause: 0 });
    const lost: TerseRelay = await asksAnd(() => lost.dropAll());
    expect(await visit(lost)).toMatchObject({
      ...failed,
      detail: expect.stringMatching(/^(disconn|closed: auth-required)/),
    });
    expect(await remembered(lost)).toEqual({ reason: 'failed', pause: 300 });
  });
});
