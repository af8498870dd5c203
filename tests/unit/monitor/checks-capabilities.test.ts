import { afterEach, describe, expect, test } from 'vitest';
import { checkCapabilities, LIMIT_TRIED } from '../../../src/monitor/checks/capabilities.ts';
import { Sample, wordToSearch } from '../../../src/monitor/checks/sample.ts';
import type { RelayUrl } from '../../../src/network/url.ts';
import type { CapabilitiesData } from '../../../src/nostr/check-result.ts';
import type { NostrEvent } from '../../../src/nostr/event.ts';
import { connectRelay } from '../../../src/relay-client/connection.ts';
import { signedEvent, signedEvents } from '../../fixtures/events.ts';
import { probeContext } from '../../fixtures/probe-context.ts';
import type { Verb } from '../../relay/scripted-relay.ts';
import {
  closed,
  type Nip77Options,
  type ScriptedRelay,
  type ScriptedRelayOptions,
  startScriptedRelay,
} from '../../relay/scripted-relay.ts';

const cleanups: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const NOTES = Array.from({ length: 60 }, (_, index) =>
  signedEvent({ content: `remember number ${index}`, created_at: 1_600_000_000 + 1000 * index }),
);

/** Answers that nobody has to wait for, where something else is tested. */
const QUICK: Record<string, Verb> = {
  COUNT: ([, id], reply) => reply('COUNT', id, { count: 1 }),
  'NEG-OPEN': ([, id], reply) => reply('NEG-ERR', id, 'negentropy is disabled'),
};

async function relayWith(options: ScriptedRelayOptions = {}): Promise<ScriptedRelay> {
  const relay = await startScriptedRelay({ events: NOTES, verbs: QUICK, ...options });
  cleanups.push(() => relay.stop());
  return relay;
}

interface Asked {
  readonly claimedLimit?: number;
  readonly timeoutMs?: number;
}

async function measure(relay: ScriptedRelay, asked: Asked = {}): Promise<CapabilitiesData> {
  const context = probeContext({ timeoutMs: asked.timeoutMs ?? 5000 });
  const connection = await connectRelay(relay.url as RelayUrl, context);
  cleanups.push(() => connection.close());
  return checkCapabilities(connection, context, asked.claimedLimit ?? null);
}

describe('checkCapabilities at a relay with all NIPs', () => {
  test('finds all of them with at most eight requests', async () => {
    const relay = await relayWith({ search: 'matched', quirk: { end: 'nip67', cap: 20 } });
    relay.change({ nip77: {} });
    expect(await measure(relay)).toEqual({
      ...{ nip45: true, nip50: true, nip67: true, nip77: true, maxLimit: 20 },
    });
    const asked = relay.messages
      .map(({ message }) => (message as string[])[0] ?? '')
      .filter((type) => ['REQ', 'COUNT', 'NEG-OPEN'].includes(type));
    expect(asked.length).toBeLessThanOrEqual(8);
  });
});

describe('checkCapabilities at a relay without these NIPs', () => {
  test('finds none of them by its NOTICEs', async () => {
    expect(await measure(await relayWith({ verbs: {} }))).toEqual({
      ...{ nip45: false, nip50: false, nip67: false, nip77: false, maxLimit: null },
    });
  });

  test('finds none of them at a silent relay, after one deadline for NIP-77 and a short wait for COUNT', async () => {
    const relay = await relayWith({ verbs: {}, silentToUnknown: true, search: 'ignored' });
    expect(await measure(relay, { timeoutMs: 400 })).toMatchObject({
      ...{ nip45: false, nip50: false, nip77: false },
    });
    expect(relay.fired.silentToUnknown).toBeGreaterThanOrEqual(2);
  });

  test('finds none of them at an empty relay', async () => {
    const relay = await relayWith({ events: [] });
    expect(await measure(relay)).toEqual({
      ...{ nip45: true, nip50: null, nip67: false, nip77: false, maxLimit: null },
    });
  });
});

describe('checkCapabilities at a relay that refuses the kinds of the sample', () => {
  test.each([
    ['an author must be specified to get their kind:1 notes', {}],
    ['kind not allowed: 7', { kinds: [0] }],
  ])('measures with other filters after "%s"', async (text, eventFilter) => {
    const profiles = Array.from({ length: 30 }, (_, index) =>
      signedEvent({ kind: 0, created_at: 1_600_000_000 + index }),
    );
    const relay = await relayWith({
      events: profiles,
      quirk: { cap: 10, refuseFilter: { when: ({ kinds }) => kinds?.includes(1) ?? false, text } },
    });
    const context = probeContext({ timeoutMs: 5000, eventFilter });
    const connection = await connectRelay(relay.url as RelayUrl, context);
    cleanups.push(() => connection.close());
    const { maxLimit } = await checkCapabilities(connection, context, null);
    expect(maxLimit).toBe(10);
    expect(relay.fired.refuseFilter).toBeGreaterThan(0);
  });
});

describe('maxLimit', () => {
  test('is the page size if there are older events, and null if there are none', async () => {
    expect(await measure(await relayWith({ quirk: { cap: 25 } }))).toMatchObject({ maxLimit: 25 });
    expect(await measure(await relayWith({ quirk: { cap: 60 } }))).toMatchObject({
      maxLimit: null,
    });
  });

  test('is 1,000 if 1,000 events arrive', async () => {
    const events = signedEvents(LIMIT_TRIED + 5, { from: 1, to: 1_700_000_000, kinds: [7] });
    const relay = await relayWith({ events });
    expect(await measure(relay)).toMatchObject({ maxLimit: LIMIT_TRIED });
  });

  test('is 1,000 at a relay that ignores limits', async () => {
    const events = signedEvents(LIMIT_TRIED + 300, { from: 1, to: 1_700_000_000, kinds: [7] });
    const relay = await relayWith({ events, quirk: { ignore: ['limit'] } });
    expect(await measure(relay)).toMatchObject({ maxLimit: LIMIT_TRIED });
  });

  test.each([
    ['what its document claims', 40, 40],
    ['something smaller', undefined, null],
  ])('is requested again with %s after a refusal', async (_, claimedLimit, maxLimit) => {
    const relay = await relayWith({
      quirk: { refuseLimitAbove: { limit: claimedLimit ?? 500, say: 'closed' } },
    });
    const asked = claimedLimit === undefined ? {} : { claimedLimit };
    expect(await measure(relay, asked)).toMatchObject({ maxLimit });
    expect(relay.fired.refuseLimitAbove).toBe(1);
  });

  test('does not count duplicates and invalid events', async () => {
    const inject = [{ id: 'x' }, null, 7, { id: 'f'.repeat(64), created_at: 1e21 }];
    const relay = await relayWith({ quirk: { cap: 25, repeatEvery: 1, inject } });
    expect(await measure(relay)).toMatchObject({ maxLimit: 25 });
  });
});

describe('NIP-77', () => {
  const nip77 = async (options: Nip77Options, timeoutMs = 5000) => {
    const relay = await relayWith();
    relay.change({ nip77: options });
    return (await measure(relay, { timeoutMs })).nip77;
  };
  const at = (what: NonNullable<Nip77Options['trouble']>['what']) => ({
    trouble: { round: 1, what },
  });

  test('is false at a relay that reconciles and does not list what it holds', async () => {
    expect(await nip77({ items: [] })).toBe(false);
  });

  test.each<[boolean | null, string, Nip77Options, number?]>([
    [false, 'says that it does not know it', at({ notice: 'ERROR: bad msg: unknown cmd' })],
    [false, 'has it disabled', at({ error: 'negentropy is disabled' })],
    [false, 'says nothing', at('silence'), 300],
    [false, 'sends garbage', at({ payload: 'zz' })],
    [false, 'sends a NEG-ERR that is no refusal', at({ error: 'error: internal' })],
    [null, 'wants us to wait', at({ error: 'rate-limited: slow down' })],
    [null, 'wants to know us first', at({ closed: 'auth-required: who are you?' })],
    [null, 'finds one second too large', { maxIds: 0 }],
  ])('is %s at a relay that %s', async (verdict, _, options, timeoutMs) => {
    expect(await nip77(options, timeoutMs)).toBe(verdict);
  });
});

describe('NIP-45', () => {
  const nip45 = async (verb: Verb) => {
    const relay = await relayWith({ verbs: { ...QUICK, COUNT: verb } });
    return (await measure(relay)).nip45;
  };

  test.each<[boolean | null, string, Verb]>([
    [
      true,
      'counts, and says that it may be wrong',
      ([, id], reply) => reply('COUNT', id, { count: 93, approximate: true }),
    ],
    [
      true,
      'takes its time',
      ([, id], reply) => {
        setTimeout(() => reply('COUNT', id, { count: 1 }), 300);
      },
    ],
    [
      false,
      'counts nothing where it showed something',
      ([, id], reply) => reply('COUNT', id, { count: 0 }),
    ],
    [false, 'answers with what is no count', ([, id], reply) => reply('COUNT', id, { count: -1 })],
    [false, 'counts for somebody else', (_, reply) => reply('COUNT', 'other', { count: 1 })],
    [false, 'closes it', ([, id], reply) => reply('CLOSED', id, 'unsupported: no COUNT here')],
    [null, 'wants us to wait', ([, id], reply) => reply('CLOSED', id, 'rate-limited: slow down')],
  ])('is %s at a relay that %s', async (verdict, _, verb) => {
    expect(await nip45(verb)).toBe(verdict);
  });
});

describe('NIP-50', () => {
  test('is false at a relay that ignores the search', async () => {
    expect(await measure(await relayWith({ search: 'ignored' }))).toMatchObject({ nip50: false });
  });

  test('is false at a relay that never finds anything', async () => {
    const relay = await relayWith({
      search: 'ignored',
      onRequest: ({ filters: [filter] }, n) =>
        n > 3 && filter?.kinds?.length === 1 ? { after: 0 } : 'answer',
    });
    expect(await measure(relay)).toMatchObject({ nip50: false });
  });

  test('is null if no note has a word', async () => {
    const events = [signedEvent({ created_at: 1, content: 'ok 👍 https://example.com/picture' })];
    const relay = await relayWith({ events, search: 'matched' });
    expect(await measure(relay)).toMatchObject({ nip50: null });
  });
});

describe('checkCapabilities at a relay that rate-limits or disconnects', () => {
  test('sends no further request, and leaves the rest null', async () => {
    const relay = await relayWith({
      onRequest: (_, n) => (n > 2 ? closed('rate-limited: slow down') : 'answer'),
      verbs: QUICK,
    });
    const found = await measure(relay);
    expect(found).toMatchObject({ nip45: true, nip50: null });
    expect(relay.requests.length).toBe(3);
  });

  test.each([
    ['rate_limited', closed('rate-limited: slow down')],
    ['auth_required', closed('auth-required: who are you?')],
    ['timeout', { after: 0, end: 'silence' } as const],
    ['disconnected', { after: 3, end: 'disconnect' } as const],
  ])('fails if the first request is refused: %s', async (reason, quirk) => {
    const relay = await relayWith({ quirk });
    await expect(measure(relay, { timeoutMs: 400 })).rejects.toMatchObject({ reason });
  });

  test('sends no further request to a slow relay, and keeps what was measured', async () => {
    const relay = await relayWith({ quirk: { betweenMs: 30 }, search: 'matched' });
    expect(await measure(relay, { timeoutMs: 300 })).toMatchObject({ nip45: true, maxLimit: null });
    relay.change({ quirk: { delayMs: 450 } });
    relay.forget();
    const found = await measure(relay, { timeoutMs: 600 });
    expect(Object.values(found)).toContain(null);
    expect(relay.requests.length).toBeLessThan(6);
  });

  test('fails if the relay disconnects half-way', async () => {
    const relay = await relayWith({ verbs: { ...QUICK, COUNT: () => relay.dropAll() } });
    await expect(measure(relay)).rejects.toMatchObject({ reason: 'disconnected' });
  });

  test('bounds an endless page', async () => {
    const relay = await relayWith({ quirk: { end: 'endless', ignoreClose: true } });
    expect(await measure(relay, { timeoutMs: 1000 })).toMatchObject({ maxLimit: null });
  });
});

describe('wordToSearch', () => {
  const note = (content: string, created_at = 1) => signedEvent({ content, created_at });
  const wordIn = (...events: NostrEvent[]) => {
    const sample = new Sample();
    sample.add(events);
    return wordToSearch(sample.newestFirst());
  };

  test.each([
    ['the longest of the note', 'Bitcoin fixes something', 'something'],
    [
      'without addresses and references',
      'see https://example.com/long-address nostr:npub1aaaaaaaaaaaaaaa today ',
      null,
    ],
    ['of Latin letters alone', 'Überraschung 日本語日本語 gänzlich', null],
    ['not a part of one', 'interaçãoes x1234567 under_score', null],
  ])('is %s', (_, content, word) => {
    expect(wordIn(note(content))).toBe(word);
  });

  test('takes the oldest note that has a word', () => {
    expect(wordIn(note('newest words', 9), note('elderly words', 5), note('...', 1))).toBe(
      'elderly',
    );
    expect(wordIn(signedEvent({ content: 'reaction', kind: 7, created_at: 1 }))).toBeNull();
  });
});
