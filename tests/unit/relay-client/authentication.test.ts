import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect } from 'vitest';
import { Authenticator, askAuthenticated } from '../../../src/relay-client/authentication.ts';
import { firstAnswer } from '../../../src/relay-client/first-answer.ts';
import { connectionTest } from '../../relay/connection-test.ts';
import type { AuthPolicy } from '../../relay/scripted-relay.ts';
import {
  closed,
  type OnRequest,
  type ScriptedRelay,
  unanswered,
} from '../../relay/scripted-relay.ts';
import { makeKeys } from '../../relay/signer.ts';

const [KEYS] = makeKeys(1);
const { signal } = new AbortController();

/**
 * `start` connects to a relay; `ask` sends a REQ, again after NIP-42; its `answer` is null when the REQ was answered.
 */
const test = connectionTest.extend('start', ({ startRelay, open }) => {
  return async (auth: AuthPolicy, onRequest?: OnRequest, silenceMs = 5000) => {
    const relay = await startRelay({ auth, ...(onRequest && { onRequest }) });
    const connection = await open(relay.url);
    const authenticator = new Authenticator(connection, KEYS?.secretKey ?? null);
    const ask = (timeoutMs = 2000) =>
      askAuthenticated(
        async () =>
          (await firstAnswer(connection, { limit: 1 }, { timeoutMs: silenceMs, signal })).reason,
        (reason) => reason === 'auth_required',
        { authenticator, timeoutMs, signal, isSilent: (reason) => reason === 'timeout' },
      );
    return { relay, authenticator, ask };
  };
});

describe('answering a NIP-42 challenge', () => {
  test('sends the request again when the OK never arrives; its answer decides', async ({
    start,
  }) => {
    const { relay, ask } = await start({ ok: 'never' });
    expect(await ask(300)).toEqual({ answer: null, authentication: 'unanswered' });
    expect(relay.fired).toMatchObject({ 'ok-late': 1, auth: 1, 'auth-required': 1 });
    expect(relay.requests).toHaveLength(2);
  });

  test('accepts an OK false that arrives after the request was sent again', async ({ start }) => {
    const { relay, ask } = await start({ refuse: 'restricted: no', ok: { afterMs: 5600 } });
    expect(await ask(20_000)).toEqual({ answer: 'auth_required', authentication: 'refused' });
    expect(relay.fired).toMatchObject({ 'auth-failed': 1, 'auth-required': 2, 'ok-late': 1 });
  }, 20_000);

  test('sends the request again after a late OK true', async ({ start }) => {
    let isKnown = false;
    const onRequest: OnRequest = () => (isKnown ? 'answer' : closed('auth-required: one moment'));
    const { relay, ask } = await start({ reads: false, ok: { afterMs: 5600 } }, onRequest);
    const asked = ask(20_000);
    await relay.until(({ fired }) => fired.auth === 1);
    await sleep(5500);
    isKnown = true;
    expect(await asked).toEqual({ answer: null, authentication: 'accepted' });
    expect(relay.fired.auth).toBe(1);
  }, 20_000);

  test('authenticates again as often as the session expires', async ({ start }) => {
    let expired = false;
    const { relay, ask } = await start({}, () => {
      if (!expired) return 'answer';
      expired = false;
      return closed('auth-required: your session has expired');
    });
    for (let times = 1; times <= 6; times += 1) {
      expired = times > 1;
      expect(await ask()).toEqual({ answer: null, authentication: 'accepted' });
    }
    expect(relay.fired.auth).toBe(6);
  });

  test('answers at most two challenges within one request', async ({ start }) => {
    const { relay, ask } = await start({ loop: true });
    expect(await ask()).toMatchObject({ answer: 'auth_required' });
    expect(relay.fired.auth).toBe(2);
    expect(await ask()).toMatchObject({ answer: 'auth_required', authentication: 'impossible' });
    expect(relay.fired.auth).toBe(2);
  });

  test('bounds the number of answers to a relay that sends EOSE in between', async ({ start }) => {
    const onRequest: OnRequest = () => ({
      garbage: [{ text: '["EOSE","another"]' }],
      ...closed('auth-required: again'),
    });
    const { relay, ask } = await start({ reads: false }, onRequest);
    expect(await ask()).toMatchObject({ answer: 'auth_required' });
    expect(relay.fired.auth).toBeLessThanOrEqual(3);
    expect(relay.requests.length).toBeLessThanOrEqual(4);
  });
});

describe('AUTH that is refused with OK false', () => {
  test('does not end a request that the relay serves nevertheless', async ({ start }) => {
    const { relay, ask, authenticator } = await start({ refuse: 'error: no', servesRefused: true });
    expect(await ask()).toEqual({ answer: null, authentication: 'refused' });
    expect(relay.fired).toMatchObject({ 'auth-required': 1, 'auth-failed': 1 });
    expect(relay.requests).toHaveLength(2);
    expect(authenticator.isRefused).toBe(false);
  });

  test('is followed by one more request, and no other AUTH', async ({ start }) => {
    const { relay, ask } = await start({ refuse: 'error: no' });
    expect(await ask()).toEqual({ answer: 'auth_required', authentication: 'refused' });
    expect(relay.fired).toMatchObject({ 'auth-required': 2, 'auth-failed': 1 });
    expect(relay.requests).toHaveLength(2);
  });
});

/** Requests of different ids: the first one of a connection is sent once more after silence, under its id. */
const subscriptions = ({ requests }: ScriptedRelay) =>
  new Set(requests.map(({ subscription }) => subscription)).size;

describe('request without an answer after a challenge', () => {
  test.for(['for-good', 'until-auth'] as const)(
    '%s is sent again after AUTH',
    async (holds, { start }) => {
      const { relay, ask } = await start({ holds }, undefined, 400);
      expect(await ask()).toEqual({ answer: null, authentication: 'accepted' });
      expect(relay.fired).toMatchObject({ held: 2, auth: 1 }); // the first REQ is sent once more anyhow
      expect(relay.requests).toHaveLength(3);
      expect(relay.fired['auth-required']).toBeUndefined();
    },
  );

  test('is not sent a third time if it is not answered after AUTH either', async ({ start }) => {
    const { relay, ask } = await start({}, () => unanswered, 300);
    relay.change({ auth: { reads: false } });
    relay.say('AUTH', 'a challenge');
    expect(await ask(500)).toMatchObject({ answer: 'timeout', authentication: 'refused' });
    expect(subscriptions(relay)).toBe(2);
    expect(await ask(500)).toEqual({ answer: 'timeout', authentication: null });
    expect(relay.fired['auth-failed']).toBe(1);
  });

  test('is not assumed to be withheld if the relay has served another one since its challenge', async ({
    start,
  }) => {
    const { relay, ask } = await start(
      { reads: false },
      (_, n) => (n === 1 ? 'answer' : unanswered),
      300,
    );
    expect(await ask()).toEqual({ answer: null, authentication: null });
    expect(await ask()).toEqual({ answer: 'timeout', authentication: null });
    expect(relay.requests).toHaveLength(2);
  });

  test('is not assumed to be withheld without a challenge', async ({ start }) => {
    const { relay, ask } = await start(
      { reads: false, challenge: 'on-demand' },
      () => unanswered,
      300,
    );
    expect(await ask()).toEqual({ answer: 'timeout', authentication: null });
    expect(subscriptions(relay)).toBe(1);
  });
});
