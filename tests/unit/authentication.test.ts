import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test } from 'vitest';
import { Authenticator, askAuthenticated } from '../../src/relay/authentication.ts';
import { connectRelay } from '../../src/relay/connection.ts';
import { firstAnswer } from '../../src/relay/first-answer.ts';
import type { AuthPolicy } from '../support/relay-session.ts';
import { makeKeys } from '../support/relay-signer.ts';
import { local, relayUrl } from '../support/relays.ts';
import { closed, type OnRequest, startScriptedRelay } from '../support/scripted-relay.ts';

const [KEYS] = makeKeys(1);
const { signal } = new AbortController();
const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

/** A connection on which REQs are sent, and again after NIP-42; `answer` is null where the REQ was answered. */
async function start(auth: AuthPolicy, onRequest?: OnRequest) {
  const relay = await startScriptedRelay({ auth, ...(onRequest && { onRequest }) });
  closing.push(() => relay.stop());
  const connection = await connectRelay(relayUrl(relay.url), local({}));
  closing.push(() => connection.close());
  const authenticator = new Authenticator(connection, KEYS?.secretKey ?? null);
  const ask = (timeoutMs = 2000) =>
    askAuthenticated(
      async () => (await firstAnswer(connection, { limit: 1 }, { timeoutMs: 5000, signal })).reason,
      (reason) => reason === 'auth_required',
      { authenticator, timeoutMs, signal },
    );
  return { relay, authenticator, ask };
}

describe('NIP-42', () => {
  test('the request is sent again where OK never comes, and the answer tells', async () => {
    const { relay, ask } = await start({ ok: 'never' });
    expect(await ask(300)).toEqual({ answer: null, authentication: 'unanswered' });
    expect(relay.fired).toMatchObject({ 'ok-late': 1, auth: 1, 'auth-required': 1 });
    expect(relay.requests).toHaveLength(2);
  });

  test('an OK false that comes after the request was sent again is honoured', async () => {
    const { relay, ask } = await start({ refuse: 'restricted: no', ok: { afterMs: 5600 } });
    expect(await ask(20_000)).toEqual({ answer: 'auth_required', authentication: 'refused' });
    expect(relay.fired).toMatchObject({ 'auth-failed': 1, 'auth-required': 2, 'ok-late': 1 });
  }, 20_000);

  test('an OK true that comes late lets the request through', async () => {
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

  test('a session that expires is renewed as often as that happens', async () => {
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

  test('a relay that asks again and again within one request is answered twice', async () => {
    const { relay, ask } = await start({ loop: true });
    expect(await ask()).toMatchObject({ answer: 'auth_required' });
    expect(relay.fired.auth).toBe(2);
    expect(await ask()).toMatchObject({ answer: 'auth_required', authentication: 'impossible' });
    expect(relay.fired.auth).toBe(2);
  });

  test('a relay that says EOSE in between gets a bounded number of answers', async () => {
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
