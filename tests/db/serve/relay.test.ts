/** The relay over an archive: NIP-01, and what is shown to whom. */
import { describe, expect } from 'vitest';
import { WebSocket } from 'ws';
import type { NostrEvent } from '../../../src/nostr/event.ts';
import { newestFirst, signedEvent, signedEvents } from '../../fixtures/events.ts';
import { relayServerTest as test } from '../../fixtures/relay-server-test.ts';
import { makeKeys, signEvent } from '../../relay/signer.ts';

const EVENTS = signedEvents(120, { from: 1000, to: 1040, kinds: [1, 1, 7] });
const ids = (events: readonly NostrEvent[]) => events.map(({ id }) => id);
const EXPIRED = signedEvent({ created_at: 1500, tags: [['expiration', '2000']] });
const PROTECTED = signedEvent({ created_at: 1600, tags: [['-']] });
const [OWN, OTHER] = makeKeys(2);

describe('REQ', () => {
  test('gives stored events newest first, ties by id, and says when that was all', async ({
    store,
    connect,
  }) => {
    await store(EVENTS);
    const client = await connect({ limits: { pageEvents: 7 } });
    const all = await client.request({});
    expect(ids(all.events)).toEqual(ids(EVENTS));
    expect(all.events).toEqual(EVENTS);
    expect(all.end).toEqual(['EOSE', 's1', ['finish']]);
    const some = await client.request({ limit: 10 });
    expect(ids(some.events)).toEqual(ids(EVENTS.slice(0, 10)));
    expect(some.end).toEqual(['EOSE', 's2', ['more']]);
    expect((await client.request({ limit: 120 })).end).toEqual(['EOSE', 's3', ['finish']]);
    expect((await client.request({ limit: 0 })).end).toEqual(['EOSE', 's4']);
    expect((await client.request({ authors: [] })).end).toEqual(['EOSE', 's5', ['finish']]);
    expect((await client.request({ ids: ['0'.repeat(64)] })).end?.[2]).toEqual(['finish']);
  });

  test('gives events of several filters once, each filter with its own limit', async ({
    store,
    connect,
  }) => {
    await store(EVENTS);
    const client = await connect({ limits: { pageEvents: 3 } });
    const author = EVENTS[5]?.pubkey ?? '';
    const filters = [
      { kinds: [7], limit: 5 },
      { authors: [author] },
      { ids: ids(EVENTS.slice(50, 52)) },
    ];
    const { events, end } = await client.request(filters);
    const wanted = new Set([
      ...EVENTS.filter(({ kind }) => kind === 7).slice(0, 5),
      ...EVENTS.filter(({ pubkey }) => pubkey === author),
      ...EVENTS.slice(50, 52),
    ]);
    expect(ids(events)).toEqual(ids([...wanted].sort(newestFirst)));
    expect(end?.[2]).toEqual(['more']);
    // What one filter leaves out and another has given is not left out.
    const both = await client.request([{ limit: 119 }, {}]);
    expect(both.events).toHaveLength(120);
    expect(both.end?.[2]).not.toEqual(['more']);
  });

  test('sends new events once, in the order of their commits, until CLOSE', async ({
    store,
    connect,
  }) => {
    await store(EVENTS.slice(0, 20));
    const client = await connect();
    await client.request({ kinds: [1], since: 1000 }, { id: 'live' });
    await client.request({ kinds: [7] }, { id: 'other' });
    client.messages.length = 0;
    const fresh = EVENTS.slice(20, 40);
    await store(fresh);
    const notes = fresh.filter(({ kind }) => kind === 1);
    const of = (name: string) =>
      client.messages.filter(([type, id]) => type === 'EVENT' && id === name);
    await client.until(() => client.messages.length >= fresh.length, 20_000);
    expect(
      of('live')
        .map(([, , event]) => (event as NostrEvent).id)
        .sort(),
    ).toEqual(ids(notes).sort());
    expect(of('other')).toHaveLength(fresh.length - notes.length);
    client.send('CLOSE', 'live');
    await store(EVENTS.slice(40, 60));
    await client.until(
      () => of('other').length === EVENTS.slice(20, 60).filter(({ kind }) => kind === 7).length,
      20_000,
    );
    expect(of('live')).toHaveLength(notes.length);
  });

  test('loses nothing that is stored while stored events are sent', async ({ store, connect }) => {
    const client = await connect({ limits: { pageEvents: 5 } });
    for (let at = 0; at < EVENTS.length; at += 20) {
      if (at === 40) client.send('REQ', 'x', {});
      await store(EVENTS.slice(at, at + 20));
    }
    const got = () =>
      new Set(
        client.messages.flatMap(([type, , event]) =>
          type === 'EVENT' ? [(event as NostrEvent).id] : [],
        ),
      );
    await client.until(() => got().size === EVENTS.length, 20_000);
    expect(got().size).toBe(EVENTS.length);
  });

  test('a new REQ takes the place of one with its id', async ({ store, connect }) => {
    const client = await connect();
    await client.request({ kinds: [1] }, { id: 'a' });
    await client.request({ kinds: [7] }, { id: 'a' });
    client.messages.length = 0;
    await store(EVENTS.slice(0, 9));
    await client.until(() => client.messages.length >= 3, 20_000);
    const kinds = client.messages.map(([, , event]) => (event as NostrEvent).kind);
    expect(new Set(kinds)).toEqual(new Set([7]));
  });
});

describe('refusals', () => {
  test('each has the answer and the prefix of its kind', async ({ connect }) => {
    const client = await connect({ env: { RELAY_MAX_SUBSCRIPTIONS: '2' } });
    const ask = async (...message: unknown[]) => {
      client.messages.length = 0;
      client.socket.send(
        typeof message[0] === 'string' && message.length === 1
          ? message[0]
          : JSON.stringify(message),
      );
      await client.until(() => client.messages.length > 0);
      return client.messages[0];
    };
    const event = EVENTS[0] as NostrEvent;
    expect(await ask('EVENT', event)).toEqual([
      'OK',
      event.id,
      false,
      'restricted: read-only archive',
    ]);
    expect((await ask('EVENT', {}))?.[0]).toBe('NOTICE');
    expect(await ask('REQ', 'x')).toEqual(['CLOSED', 'x', expect.stringMatching(/^invalid: /)]);
    expect(await ask('REQ', 'x', 7)).toEqual(['CLOSED', 'x', expect.stringMatching(/^invalid: /)]);
    expect(await ask('REQ', 'x', { authors: ['abc'] })).toEqual([
      'CLOSED',
      'x',
      expect.stringMatching(/^invalid: authors/),
    ]);
    expect(await ask('REQ', 'x', { search: 'fox' })).toEqual([
      'CLOSED',
      'x',
      expect.stringMatching(/^unsupported: /),
    ]);
    expect(await ask('REQ', 'x', { colour: 1 })).toEqual([
      'CLOSED',
      'x',
      expect.stringMatching(/^unsupported: .*colour/),
    ]);
    expect(await ask('REQ', 'x', ...Array(21).fill({}))).toEqual([
      'CLOSED',
      'x',
      expect.stringMatching(/^blocked: /),
    ]);
    expect((await ask('REQ', '', {}))?.[0]).toBe('NOTICE');
    expect((await ask('REQ', 'x'.repeat(65), {}))?.[0]).toBe('NOTICE');
    expect(await ask('REQ', 'é'.repeat(64), { limit: 0 })).toEqual(['EOSE', 'é'.repeat(64)]);
    expect((await ask('HELLO'))?.[0]).toBe('NOTICE');
    expect((await ask('{'))?.[1]).toMatch(/^invalid: /);
    await ask('REQ', 'b', { limit: 0 });
    expect(await ask('REQ', 'c', { limit: 0 })).toEqual([
      'CLOSED',
      'c',
      expect.stringMatching(/^rate-limited: /),
    ]);
    expect((await ask('AUTH', event))?.[0]).toBe('OK');
  });

  test('a client that sends too much is refused, then disconnected', async ({ connect }) => {
    const client = await connect({ env: { RELAY_RATE_LIMIT: '10' }, limits: { maxRefused: 5 } });
    for (let i = 0; i < 20; i++) client.send('REQ', `s${i}`, { limit: 0 });
    expect(await client.until(() => client.isClosed)).toBe(true);
    const refused = client.messages.filter(([type]) => type === 'CLOSED');
    expect(refused.length).toBeGreaterThanOrEqual(5);
    for (const [, , text] of refused) expect(text).toMatch(/^rate-limited: /);
  });

  test('connections are limited by address, and other paths are none', async ({ serve }) => {
    const { url } = await serve({ env: { RELAY_MAX_CONNECTIONS_PER_ADDRESS: '1' } });
    const statusOf = (path = '') =>
      new Promise<number>((resolve) => {
        const socket = new WebSocket(url + path);
        socket.onopen = () => resolve(101);
        socket.onerror = () => resolve(0);
      });
    expect(await statusOf('other')).toBe(0);
    expect(await statusOf()).toBe(101);
    expect(await statusOf()).toBe(0);
  });

  test('the document of NIP-11 states the limits that hold', async ({ serve }) => {
    const { url } = await serve({ env: { RELAY_MAX_LIMIT: '70', RELAY_NAME: 'ours' } });
    const answer = await fetch(url.replace('ws:', 'http:'), {
      headers: { accept: 'application/nostr+json' },
    });
    expect(answer.headers.get('access-control-allow-origin')).toBe('*');
    expect(await answer.json()).toMatchObject({
      name: 'ours',
      supported_nips: [1, 11, 40, 45, 67, 70, 77],
      limitation: {
        max_limit: 70,
        default_limit: 70,
        restricted_writes: true,
        max_subid_length: 64,
      },
    });
  });
});

describe('what is shown', () => {
  test('an expired event is shown to those who name its id', async ({ store, connect }) => {
    await store([EXPIRED, ...EVENTS.slice(0, 3)]);
    const client = await connect({ limits: { pageEvents: 2 } });
    const { events, end } = await client.request({ limit: 3 });
    expect(ids(events)).toEqual(ids(EVENTS.slice(0, 3)));
    expect(end?.[2]).toEqual(['finish']);
    expect((await client.request({ ids: [EXPIRED.id] })).events).toEqual([EXPIRED]);
  });

  test('a protected event is shown to everybody, or where clients authenticate to its author', async ({
    store,
    connect,
  }) => {
    await store([PROTECTED]);
    const open = await connect();
    expect((await open.request({})).events).toEqual([PROTECTED]);
    const RELAY_URL = 'wss://archive.example.com';
    const client = await connect({ env: { RELAY_AUTH: 'true', RELAY_URL } });
    const challenge = (await client.next(([type]) => type === 'AUTH'))?.[1] as string;
    const sign = (key: Uint8Array | undefined, parts: object = {}) =>
      signEvent(
        {
          kind: 22_242,
          created_at: Math.floor(Date.now() / 1000),
          tags: [
            ['relay', `${RELAY_URL}/`],
            ['challenge', challenge],
          ],
          content: '',
          ...parts,
        },
        key ?? new Uint8Array(),
      );
    const authenticate = async (event: NostrEvent) => {
      client.send('AUTH', event);
      return client.next(([type, id]) => type === 'OK' && id === event.id);
    };
    expect((await client.request({})).events).toEqual([]);
    expect((await authenticate(sign(OTHER?.secretKey)))?.[2]).toBe(true);
    expect((await client.request({})).events).toEqual([]);
    const wrong = sign(OWN?.secretKey, {
      tags: [
        ['relay', RELAY_URL],
        ['challenge', 'x'],
      ],
    });
    expect((await authenticate(wrong))?.[2]).toBe(false);
    expect((await authenticate(sign(OWN?.secretKey, { created_at: 1000 })))?.[2]).toBe(false);
    const own = sign(OWN?.secretKey);
    expect(own.pubkey).toBe(PROTECTED.pubkey);
    expect((await authenticate(own))?.[2]).toBe(true);
    expect((await client.request({})).events).toEqual([PROTECTED]);
  });
});
