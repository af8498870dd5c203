import { afterEach, describe, expect, test } from 'vitest';
import type { NostrEvent } from '../../../src/nostr/event.ts';
import {
  isValidEvent,
  makeKeys,
  mixedEvents,
  newestFirst,
  signedEvent,
  signedEvents,
} from '../../fixtures/events.ts';
import { RelayClient } from '../../relay/bare-client.ts';
import {
  type ScriptedRelay,
  type ScriptedRelayOptions,
  startScriptedRelay,
} from '../../relay/scripted-relay.ts';

const NOW = Math.floor(Date.now() / 1000);
const WINDOW = { from: NOW - 1000, to: NOW - 100 };
const EVENTS = signedEvents(1000, WINDOW);

const running: { stop(): Promise<void> }[] = [];

async function start(options: ScriptedRelayOptions = {}): Promise<[ScriptedRelay, RelayClient]> {
  const relay = await startScriptedRelay({ events: EVENTS, ...options });
  running.push(relay);
  return [relay, await RelayClient.connect(relay.url)];
}

afterEach(async () => {
  await Promise.all(running.splice(0).map((relay) => relay.stop()));
});

describe('a scripted relay that behaves', () => {
  test('answers newest first, with as many as are asked for, then EOSE', async () => {
    const [relay, client] = await start();
    const { events, end } = await client.request({ limit: 10 });
    expect(events).toEqual(EVENTS.slice(0, 10));
    expect(end).toEqual(['EOSE', 's1']);
    expect(relay.requests).toMatchObject([
      { n: 1, subscription: 's1', filters: [{ limit: 10 }], eventsSent: 10 },
    ]);
  });

  test('joins several filters, each with its own limit', async () => {
    const [, client] = await start({ events: mixedEvents(300) });
    const { events } = await client.request([
      { kinds: [7], limit: 3 },
      { kinds: [1], limit: 2 },
      { kinds: [1, 7], limit: 1 },
    ]);
    expect(events.map(({ kind }) => kind).sort()).toEqual([1, 1, 7, 7, 7]);
    expect(events).toEqual([...events].sort(newestFirst));
  });

  test('gives everything to a client that pages downwards', async () => {
    const [relay, client] = await start({ quirk: { cap: 300 } });
    const ids = new Set<string>();
    let until = NOW;
    for (let fresh = 1; fresh > 0; ) {
      const { events } = await client.request({ until, limit: 500 });
      const before = ids.size;
      for (const { id } of events) ids.add(id);
      fresh = ids.size - before;
      until = Math.min(until, ...events.map(({ created_at }) => created_at));
    }
    expect(ids).toEqual(new Set(EVENTS.map(({ id }) => id)));
    expect(relay.fired.cap).toBeGreaterThanOrEqual(3);
    expect(relay.requests.length).toBeLessThanOrEqual(5);
  });

  test('pushes new events to open subscriptions alone, whatever their limit was', async () => {
    const [relay, client] = await start();
    await client.request({ kinds: [1], limit: 0 }, { id: 'notes' });
    await client.request({ kinds: [7], limit: 0 }, { id: 'likes' });
    const note = signedEvent({ created_at: NOW, content: 'new' });
    relay.publish(note);
    expect(await client.next(([type]) => type === 'EVENT')).toEqual(['EVENT', 'notes', note]);
    client.send('CLOSE', 'notes');
    await relay.until(({ messages }) =>
      messages.some(({ message }) => String(message).startsWith('CLOSE')),
    );
    relay.publish(signedEvent({ created_at: NOW, content: 'newer' }));
    await client.request({ limit: 0 });
    expect(client.messages.filter(([type]) => type === 'EVENT')).toHaveLength(1);
  });

  test('pushes what arrives while the page is sent after EOSE, once', async () => {
    const [relay, client] = await start({ quirk: { betweenMs: 5 } });
    const answer = client.request({ limit: 10 }, { id: 'slow' });
    await relay.until(({ eventsSent }) => eventsSent > 0);
    const late = signedEvent({ created_at: NOW, content: 'in the middle' });
    relay.publish(late);
    expect((await answer).events).toHaveLength(10);
    expect(
      await client.next(
        ([type, , event]) => type === 'EVENT' && (event as NostrEvent).id === late.id,
      ),
    ).not.toBeNull();
    expect(client.messages.at(-1)).toEqual(['EVENT', 'slow', late]);
  });

  test('stores late events without telling anybody, and serves them', async () => {
    const [relay, client] = await start();
    await client.request({ limit: 0 });
    const backdated = signedEvent({ created_at: 5, content: 'found in a drawer' });
    relay.add([backdated]);
    expect((await client.request({ until: 10 })).events).toEqual([backdated]);
    expect(client.messages.filter(([type]) => type === 'EVENT')).toHaveLength(1);
    relay.remove([backdated.id]);
    expect((await client.request({ until: 10 })).events).toEqual([]);
  });

  test('replaces a subscription under the same id', async () => {
    const [relay, client] = await start();
    await client.request({ kinds: [1], limit: 0 }, { id: 'same' });
    await client.request({ kinds: [7], limit: 0 }, { id: 'same' });
    relay.publish(signedEvent({ created_at: NOW, content: 'x' }));
    relay.publish(signedEvent({ created_at: NOW, kind: 7, content: '+' }));
    const pushed = await client.next(([type]) => type === 'EVENT');
    expect(pushed?.[2]).toMatchObject({ kind: 7 });
  });

  test('stops a page when the client closes it', async () => {
    const [relay, client] = await start({ quirk: { betweenMs: 1 } });
    const answer = client.request({ limit: 1000 }, { id: 'long', silenceMs: 300 });
    await relay.until(({ eventsSent }) => eventsSent > 10);
    client.send('CLOSE', 'long');
    expect((await answer).end).toBeNull();
    expect(relay.requests[0]).toMatchObject({ end: 'cancelled' });
    expect(relay.eventsSent).toBeLessThan(1000);
  });

  test('refuses filters that are none, and says why', async () => {
    const [relay, client] = await start();
    expect((await client.request({ ids: ['abc'] })).end).toEqual([
      'CLOSED',
      's1',
      'invalid: ids of the filter',
    ]);
    expect((await client.request([])).end).toEqual(['CLOSED', 's2', 'invalid: no filter']);
    client.send('REQ', 'x'.repeat(65), {});
    expect((await client.next(([type]) => type === 'NOTICE'))?.[1]).toMatch(/subscription id/);
    expect(relay.fired).toMatchObject({ 'invalid-filter': 2, 'invalid-subscription': 1 });
  });

  test('counts connections, and what is open at once', async () => {
    const [relay, client] = await start();
    const second = await RelayClient.connect(relay.url);
    await second.close();
    await relay.until(({ connections }) => connections.open === 1);
    expect(relay.connections).toEqual({ open: 1, total: 2, max: 2 });
    await client.request({ limit: 1 });
    expect(relay.bytes.received).toBe('["REQ","s1",{"limit":1}]'.length);
    expect(relay.bytes.sent).toBeGreaterThan(300);
    relay.forget();
    expect(relay.connections).toEqual({ open: 1, total: 1, max: 1 });
    expect(relay.requests).toEqual([]);
  });

  test('waits for a client that does not read', async () => {
    const [relay, client] = await start({
      events: signedEvents(1500, { ...WINDOW, contentBytes: 20_000 }),
    });
    client.socket.pause();
    client.send('REQ', 'heavy', {});
    await relay.until(({ eventsSent }) => eventsSent > 0);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(relay.eventsSent).toBeLessThan(1250);
    client.socket.resume();
    expect(await client.next(([type]) => type === 'EOSE', 20_000)).not.toBeNull();
    expect(relay.eventsSent).toBe(1500);
  });

  test('serves 20,000 events in pages of 500', async () => {
    const [relay, client] = await start({
      events: signedEvents(20_000, { from: 0, to: NOW }),
      quirk: { cap: 500 },
    });
    const ids = new Set<string>();
    for (let until = NOW; until > 0 && ids.size < 20_000; ) {
      const { events } = await client.request({ until, limit: 500 });
      for (const { id } of events) ids.add(id);
      until = events.at(-1)?.created_at ?? 0;
    }
    expect(ids.size).toBe(20_000);
    expect(relay.eventsSent).toBeLessThan(20_100);
  });
});

describe('writing to a scripted relay', () => {
  const event = signedEvent({ created_at: NOW, content: 'hello' });

  test('stores and serves what verifies, and knows duplicates', async () => {
    const [relay, client] = await start({ events: [] });
    expect(await client.publish(event)).toEqual(['OK', event.id, true, '']);
    expect((await client.request({ ids: [event.id] })).events).toEqual([event]);
    client.messages.length = 0;
    expect((await client.publish(event))?.[3]).toMatch(/^duplicate:/);
    expect(relay.published).toHaveLength(2);
  });

  test('refuses what does not verify', async () => {
    const [relay, client] = await start({ events: [] });
    expect((await client.publish({ ...event, content: 'forged' }))?.slice(2)).toEqual([
      false,
      'invalid: id or signature',
    ]);
    expect(relay.events).toEqual([]);
  });

  test('keeps no ephemeral events unless told to', async () => {
    const ephemeral = signedEvent({ created_at: NOW, kind: 20_001 });
    const [relay, client] = await start({ events: [] });
    expect((await client.publish(ephemeral))?.[2]).toBe(true);
    expect(relay.events).toEqual([]);
    relay.change({ storesEphemeral: true });
    await client.publish(signedEvent({ created_at: NOW, kind: 20_002 }));
    expect(relay.events).toHaveLength(1);
  });

  test('refuses, wants work, or says nothing', async () => {
    const [relay, client] = await start({ write: { refuse: 'blocked: not here' } });
    expect((await client.publish(event))?.slice(2)).toEqual([false, 'blocked: not here']);
    client.messages.length = 0;
    relay.change({ write: { pow: 40 } });
    expect((await client.publish(event))?.[3]).toMatch(/^pow: difficulty \d+ is less than 40/);
    client.messages.length = 0;
    relay.change({ write: { pow: 0 } });
    expect((await client.publish(event))?.[2]).toBe(true);
    relay.change({ write: 'silent' });
    client.send('EVENT', signedEvent({ created_at: NOW, content: 'anybody?' }));
    await relay.until(({ fired }) => fired['write-silent'] === 1);
    expect(client.messages.filter(([type]) => type === 'OK')).toHaveLength(1);
  });
});

describe('authentication', () => {
  const [key] = makeKeys(1, 9);
  const proof = (relay: ScriptedRelay, challenge: unknown, created_at = NOW) =>
    signedEvent({
      created_at,
      kind: 22242,
      tags: [
        ['relay', `${relay.url}/`],
        ['challenge', String(challenge)],
      ],
      ...(key ? { secretKey: key.secretKey } : {}),
    });
  const challengeOf = async (client: RelayClient) =>
    (await client.next(([type]) => type === 'AUTH'))?.[1];

  test('is wanted before a REQ is answered, and then enough', async () => {
    const [relay, client] = await start({ auth: {} });
    const challenge = await challengeOf(client);
    expect((await client.request({ limit: 1 })).end?.[2]).toMatch(/^auth-required: /);
    const event = proof(relay, challenge);
    client.send('AUTH', event);
    expect(await client.next(([type]) => type === 'OK')).toEqual(['OK', event.id, true, '']);
    expect((await client.request({ limit: 1 })).events).toHaveLength(1);
    expect(isValidEvent(event)).toBe(true);
  });

  test.each([
    ['another challenge', (relay: ScriptedRelay) => proof(relay, 'guessed')],
    [
      'another relay',
      (_: ScriptedRelay, challenge: unknown) =>
        proof({ url: 'ws://127.0.0.1:1' } as ScriptedRelay, challenge),
    ],
    [
      'an old proof',
      (relay: ScriptedRelay, challenge: unknown) => proof(relay, challenge, NOW - 3600),
    ],
    [
      'a forged one',
      (relay: ScriptedRelay, challenge: unknown) => ({ ...proof(relay, challenge), content: 'x' }),
    ],
  ])('refuses %s', async (_, make) => {
    const [relay, client] = await start({ auth: {} });
    client.send('AUTH', make(relay, await challengeOf(client)));
    expect((await client.next(([type]) => type === 'OK'))?.[2]).toBe(false);
    expect((await client.request({ limit: 1 })).end?.[0]).toBe('CLOSED');
  });

  test('can restrict, ask on demand, and ask again and again', async () => {
    const [relay, client] = await start({ auth: { challenge: 'on-demand', allow: () => false } });
    expect(client.messages).toEqual([]);
    await client.request({ limit: 1 });
    client.send('AUTH', proof(relay, await challengeOf(client)));
    await client.next(([type]) => type === 'OK');
    expect((await client.request({ limit: 1 })).end?.[2]).toMatch(/^restricted: /);
    relay.change({ auth: { loop: true } });
    expect((await client.request({ limit: 1 })).end?.[2]).toMatch(/^auth-required: /);
    expect(client.messages.filter(([type]) => type === 'AUTH')).toHaveLength(2);
  });
});
