import { afterEach, describe, expect, test } from 'vitest';
import { type ProbeContext, probeRelay } from '../../../src/monitor/probe.ts';
import type { RelayUrl } from '../../../src/network/url.ts';
import { unixNow } from '../../../src/nostr/unix-time.ts';
import { probeContext } from '../../fixtures/probe-context.ts';
import {
  closes,
  type ScriptedRelay,
  type ScriptedRelayOptions,
  startScriptedRelay,
} from '../../relay/scripted-relay.ts';

const NOW = unixNow();

let relay: ScriptedRelay;
afterEach(() => relay.stop());

async function probe(options: ScriptedRelayOptions = {}, changes: Partial<ProbeContext> = {}) {
  relay = await startScriptedRelay(options);
  return probeRelay(
    { url: relay.url as RelayUrl, network: 'clearnet' },
    probeContext({ now: () => NOW, ...changes }),
  );
}

const dataOf = async (snapshot: ReturnType<typeof probe>) => {
  const { checks } = await snapshot;
  return [checks.read, checks.write].map((result) =>
    result?.success ? result.data : result?.reason,
  );
};

describe('test event of checkWrite', () => {
  test('is ephemeral and expires, and is not found afterwards', async () => {
    expect(await dataOf(probe())).toEqual([
      { empty: true, authenticated: false, asked: 'bare' },
      { stored: false, authenticated: false },
    ]);
    const [event, ...others] = relay.published;
    expect(event?.kind).toBeGreaterThanOrEqual(20_000);
    expect(event?.kind).toBeLessThan(30_000);
    expect(event?.tags).toEqual([['expiration', String(NOW + 3600)]]);
    expect(others).toEqual([]);
  });

  test('is found if the relay stores it, and no deletion request is sent', async () => {
    expect(await dataOf(probe({ storesEphemeral: true }))).toEqual([
      { empty: true, authenticated: false, asked: 'bare' },
      { stored: true, authenticated: false },
    ]);
    await relay.until(({ connections }) => connections.open === 0);
    expect(relay.published).toHaveLength(1);
    expect(relay.events.map(({ tags }) => tags)).toEqual([[['expiration', String(NOW + 3600)]]]);
  });

  test('counts as written if reading back is refused', async () => {
    const refuse = { after: 0, end: { closed: 'error: no ids here' } } as const;
    const snapshot = probe({
      onRequest: ({ filters: [filter] }) => (filter?.ids ? refuse : 'answer'),
    });
    expect((await dataOf(snapshot))[1]).toEqual({ stored: null, authenticated: false });
  });

  test('is not confused with another event that the relay returns', async () => {
    const inject = [{ id: 'f'.repeat(64) }];
    const snapshot = probe({
      onRequest: ({ filters: [filter] }) => (filter?.ids ? { inject } : 'answer'),
    });
    expect((await dataOf(snapshot))[1]).toEqual({ stored: false, authenticated: false });
  });
});

describe('NIP-42 in the checks', () => {
  test.each(['on-connect', 'on-demand'] as const)(
    'is done where the relay asks for it, challenge %s',
    async (challenge) => {
      const snapshot = probe({ auth: { challenge } });
      expect(await dataOf(snapshot)).toEqual([
        { empty: true, authenticated: true, asked: 'bare' },
        { stored: false, authenticated: false }, // it knows us by then
      ]);
      expect((await snapshot).nip66).toMatchObject({
        readable: true,
        writable: true,
        reason: null,
      });
      expect(relay.fired.auth).toBe(1);
    },
  );

  test('is done for the write check if only writing requires it', async () => {
    expect(await dataOf(probe({ auth: { reads: false } }))).toEqual([
      { empty: true, authenticated: false, asked: 'bare' },
      { stored: false, authenticated: true },
    ]);
  });

  test('leaves its own reason for each step if the relay does not accept the key', async () => {
    expect(await dataOf(probe({ auth: { allow: () => false } }))).toEqual([
      'restricted',
      'restricted',
    ]);
  });

  test('ends with auth_required if each authentication is followed by another challenge', async () => {
    expect(await dataOf(probe({ auth: { loop: true } }, { timeoutMs: 1000 }))).toEqual([
      'auth_required',
      'auth_required',
    ]);
    expect(relay.fired.auth).toBeLessThanOrEqual(2);
  });
});

describe('NOTICE in the write check', () => {
  const onlyWrite = { selected: new Set(['open', 'write'] as const), timeoutMs: 4000 };

  test('is not an answer to the first EVENT if it may be a greeting', async () => {
    const text = 'restricted: payment is required to publish';
    const { nip66 } = await probe({ greeting: { text } }, onlyWrite);
    expect(nip66).toMatchObject({ writable: true, reason: null });
    expect(relay.fired.greeting).toBe(1);
  });

  test.each([
    ['restricted: payment is required to publish', 'restricted'],
    ['too many concurrent REQs', 'timeout'],
  ])('"%s" gives the reason of an EVENT without OK: %s', async (text, reason) => {
    const snapshot = probe(
      { greeting: { text, afterMs: 200 }, write: 'silent' },
      {
        ...onlyWrite,
        timeoutMs: 1500,
      },
    );
    expect((await snapshot).nip66).toMatchObject({ writable: false, reason });
    expect(relay.fired.greeting).toBe(1);
  });
});

test('a refusal in the close frame is the reason of the read check', async () => {
  const snapshot = await probe({ quirk: closes(1008, 'blocked: your address is banned') });
  expect(snapshot.nip66).toMatchObject({ openable: true, readable: false, reason: 'blocked' });
  expect(relay.fired.close).toBe(1);
});

test('a relay that never sends OK to AUTH is readable if it answers then', async () => {
  const { nip66 } = await probe({ auth: { ok: 'never' } }, { timeoutMs: 1500 });
  expect(nip66).toMatchObject({ readable: true, writable: true, reason: null });
  expect(relay.fired['ok-late']).toBe(1);
});

test('a refused connection returns the pause of Retry-After', async () => {
  const headers = { 'retry-after': '7200' };
  const snapshot = await probe({
    upgrade: { status: 429, headers },
    nip11: { status: 503, headers },
  });
  expect(snapshot.nip66.reason).toBe('http_429');
  expect(snapshot.retry).toEqual({ seconds: 7200, nip11: { seconds: 7200, reason: 'http_503' } });
});
