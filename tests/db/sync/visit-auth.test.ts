import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, onTestFinished, vi } from 'vitest';
import type { NostrEvent } from '../../../src/nostr/event.ts';
import { LiveRelays } from '../../../src/sync/live.ts';
import { isValidEvent, signedEvent } from '../../fixtures/events.ts';
import {
  answer,
  authsOf,
  DAY,
  OURS,
  startTerse,
  T,
  authTest as test,
  wasAnswered,
} from '../../fixtures/visit-auth.ts';
import { silent } from '../../postgres/bigbrotr.ts';
import type { Verb } from '../../relay/scripted-relay.ts';
import { closed, notice, nth, type OnRequest, unanswered } from '../../relay/scripted-relay.ts';

describe('auth-required:', () => {
  test.for(['on-connect', 'on-demand'] as const)(
    'is answered as NIP-42 says, and the REQ sent again; the challenge came %s',
    async (challenge, { start, visit, remembered }) => {
      const relay = await start({ challenge });
      expect(await visit(relay)).toMatchObject({ outcome: 'complete', events: 60 });
      expect(relay.fired).toMatchObject({ 'auth-required': 1, auth: 1 });
      const [event, ...others] = authsOf(relay);
      expect(others).toEqual([]);
      expect(event).toMatchObject({
        kind: 22_242,
        pubkey: OURS.publicKey,
        tags: [
          ['relay', relay.url],
          ['challenge', expect.stringMatching(/^[0-9a-f-]{36}$/)],
        ],
        content: '',
      });
      expect(isValidEvent(event as NostrEvent)).toBe(true);
      expect(Math.abs((event?.created_at ?? 0) - Date.now() / 1000)).toBeLessThan(60);
      const [refused, again] = relay.requests;
      expect(refused).toMatchObject({ end: 'closed' });
      expect(again?.filters).toEqual(refused?.filters);
      expect(relay.connections).toMatchObject({ total: 1 });
      expect(await remembered(relay)).toEqual({ reason: null, pause: 0 });
    },
  );

  test('is needed before AUTH is sent: a challenge alone does not reveal the public key', async ({
    start,
    visit,
  }) => {
    const relay = await start({ reads: false });
    expect(await visit(relay)).toMatchObject({ outcome: 'complete' });
    expect(authsOf(relay)).toEqual([]);
  });

  test('as a NOTICE is answered too', async ({ start, visit }) => {
    const onRequest = nth(1, notice('auth-required: read with a key'));
    const relay = await start({ reads: false }, { onRequest });
    expect(await visit(relay, { requestTimeoutMs: 500 })).toMatchObject({
      outcome: 'complete',
      events: 60,
    });
    expect(relay.fired.auth).toBe(1);
  });

  test('is answered when the challenge arrives after it', async ({ visit }) => {
    const relay = await startTerse(async ([type, first], say, messages) => {
      if (type === 'AUTH') say('OK', (first as NostrEvent).id, true, '');
      else if (type === 'REQ' && wasAnswered(messages)) answer(say, first);
      else if (type === 'REQ') {
        say('CLOSED', first, 'auth-required: one moment');
        await sleep(50);
        say('AUTH', 'here it is');
      }
    });
    expect(await visit(relay)).toMatchObject({ outcome: 'complete', events: 60 });
    const [event] = authsOf(relay);
    expect(event?.tags).toEqual([
      ['relay', relay.url],
      ['challenge', 'here it is'],
    ]);
  });

  test('is answered for NIP-77 too, which then works', async ({ start, archive, visit }) => {
    const relay = await start({ reads: false });
    await archive.snapshot(relay.url, { supported_nips: [1, 42, 77] });
    relay.change({
      verbs: {
        'NEG-OPEN': ([, session], reply) =>
          reply('NEG-ERR', session, 'auth-required: who are you?'),
      },
    });
    const reconciles = relay
      .until(({ fired }) => fired.auth === 1)
      .then(() => relay.change({ nip77: { frameSizeLimit: 60_000 } }));
    expect(await visit(relay)).toMatchObject({ outcome: 'complete', events: 60 });
    await reconciles;
    expect(relay.nip77.opened).toHaveLength(1);
    expect(authsOf(relay)).toHaveLength(1);
    const proofs = await archive.db.query('select evidence from coverage');
    expect(proofs).toEqual([{ evidence: 'nip77' }]);
  });

  test('is answered once for a connection: later requests and the next visit need no other AUTH', async ({
    start,
    visit,
    archive,
  }) => {
    const live = new LiveRelays({ max: 1, keepAliveMs: 60_000, forgetMs: 60_000, log: silent });
    const relay = await start({});
    onTestFinished(() => live.close());
    await visit(relay, { live, now: () => T });
    expect(live.size).toBe(1);
    await relay.until(({ requests }) =>
      requests.some(({ filters, end }) => filters[0]?.limit === 0 && end),
    );
    const event = signedEvent({ created_at: T, content: 'for members' });
    relay.publish(event);
    await vi.waitFor(async () => expect(await archive.ids(relay.url)).toContain(event.id), 5000);
    expect(await visit(relay, { live, now: () => T + 10 })).toMatchObject({ outcome: 'complete' });
    expect(relay.fired).toMatchObject({ 'auth-required': 1, auth: 1 });
  });
});

describe('NIP-42 on a followed connection', () => {
  test('a session that expires between visits is renewed at each of them', async ({
    start,
    visit,
    remembered,
  }) => {
    const live = new LiveRelays({ max: 1, keepAliveMs: 60_000, forgetMs: 60_000, log: silent });
    onTestFinished(() => live.close());
    let expired = false;
    const onRequest: OnRequest = () => {
      if (!expired) return 'answer';
      expired = false;
      return closed('auth-required: your session has expired');
    };
    const relay = await start({}, { onRequest });
    for (let times = 1; times <= 5; times += 1) {
      expired = times > 1;
      const options = { live, overlapSeconds: 10_000, now: () => T + times };
      expect(await visit(relay, options)).toMatchObject({ outcome: 'complete' });
      expect(await remembered(relay)).toEqual({ reason: null, pause: 0 });
    }
    expect(relay.fired.auth).toBe(5);
    expect(relay.connections.total).toBe(1);
  });
});

describe('an AUTH without an answer', () => {
  test('is followed by the same REQ: a relay that never says OK is read', async ({
    start,
    visit,
    remembered,
  }) => {
    const relay = await start({ ok: 'never' });
    expect(await visit(relay, { requestTimeoutMs: 1000 })).toMatchObject({
      outcome: 'complete',
      events: 60,
    });
    expect(relay.fired).toMatchObject({ 'ok-late': 1, 'auth-required': 1 });
    expect(await remembered(relay)).toEqual({ reason: null, pause: 0 });
  });

  test('is followed by the same NEG-OPEN where that was refused', async ({
    start,
    archive,
    visit,
  }) => {
    const relay = await start({ reads: false, ok: 'never' });
    await archive.snapshot(relay.url, { supported_nips: [1, 42, 77] });
    const refuse: Verb = ([, session], reply) =>
      reply('NEG-ERR', session, 'auth-required: who are you?');
    relay.change({ verbs: { 'NEG-OPEN': refuse } });
    const reconciles = relay
      .until(({ fired }) => fired.auth === 1)
      .then(() => relay.change({ nip77: { frameSizeLimit: 60_000 } }));
    expect(await visit(relay, { requestTimeoutMs: 1000 })).toMatchObject({ outcome: 'complete' });
    await reconciles;
    expect(relay.nip77.opened.length).toBeGreaterThan(0);
  });

  test('means restricted when OK false arrives after the REQ was sent again', async ({
    visit,
    remembered,
  }) => {
    let auth: NostrEvent | null = null;
    let requests = 0;
    const relay = await startTerse(([type, first], say) => {
      if (type === 'AUTH') auth = first as NostrEvent;
      if (type !== 'REQ') return;
      requests += 1;
      if (requests === 1) {
        say('AUTH', 'who?');
        say('CLOSED', first, 'auth-required: who?');
      } else say('OK', auth?.id, false, 'restricted: not for you');
    });
    expect(await visit(relay, { requestTimeoutMs: 800 })).toMatchObject({ outcome: 'failed' });
    expect(await remembered(relay)).toEqual({ reason: 'restricted', pause: DAY });
  });
});

describe('an AUTH that is refused with OK false', () => {
  test('does not stop the reading of a relay that serves nevertheless', async ({
    start,
    visit,
    remembered,
  }) => {
    const relay = await start({ refuse: 'error: unknown key', servesRefused: true });
    expect(await visit(relay)).toMatchObject({ outcome: 'complete', events: 60 });
    expect(relay.fired).toMatchObject({ 'auth-required': 1, 'auth-failed': 1 });
    expect(await remembered(relay)).toEqual({ reason: null, pause: 0 });
  });

  test('does not turn a later silence into a refusal', async ({ start, visit, remembered }) => {
    const auth = { refuse: 'error: unknown key', servesRefused: true };
    const relay = await start(auth, { onRequest: (_, n) => (n > 2 ? unanswered : 'answer') });
    const options = { requestTimeoutMs: 300, batchSize: 20 };
    expect(await visit(relay, options)).toMatchObject({ outcome: 'partial', reason: 'timeout' });
    expect(relay.fired['auth-failed']).toBeGreaterThan(0);
    expect((await remembered(relay))?.reason).not.toBe('restricted');
  });

  test('has no effect on a NIP-77 session that is served nevertheless', async ({
    start,
    archive,
    visit,
  }) => {
    const relay = await start({ reads: false, refuse: 'error: unknown key' });
    await archive.snapshot(relay.url, { supported_nips: [1, 42, 77] });
    const refuse: Verb = ([, session], reply) => reply('NEG-ERR', session, 'auth-required: who?');
    relay.change({ verbs: { 'NEG-OPEN': refuse } });
    const reconciles = relay
      .until(({ fired }) => fired['auth-failed'] === 1)
      .then(() => relay.change({ nip77: { frameSizeLimit: 60_000 } }));
    expect(await visit(relay)).toMatchObject({ outcome: 'complete', events: 60 });
    await reconciles;
    expect(relay.nip77.opened.length).toBeGreaterThan(0);
  });
});
