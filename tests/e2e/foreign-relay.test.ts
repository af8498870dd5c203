import { beforeAll, describe, expect } from 'vitest';
import { probeRelay } from '../../src/monitor/probe.ts';
import type { RelayUrl } from '../../src/network/url.ts';
import { checkNames } from '../../src/nostr/check-result.ts';
import type { NostrEvent } from '../../src/nostr/event.ts';
import {
  forge,
  newestFirst,
  realOrSignedEvents,
  signedEvent,
  signedEvents,
} from '../fixtures/events.ts';
import { probeContext } from '../fixtures/probe-context.ts';
import { RelayClient } from '../relay/bare-client.ts';
import {
  ensureForeignRelay,
  FOREIGN_RELAY_INSTALL_TIMEOUT_MS,
  type ForeignRelayOptions,
} from '../relay/foreign-relay.ts';
import { foreignTest } from '../relay/foreign-test.ts';

const NOW = Math.floor(Date.now() / 1000);
const EVENTS = signedEvents(1500, { from: NOW - 100_000, to: NOW - 1000 });
const ids = (events: readonly NostrEvent[]) => events.map(({ id }) => id);

/** `start` gives a relay and a client of it. */
const test = foreignTest.extend('start', ({ startForeign }) => {
  return async (options: ForeignRelayOptions = {}) => {
    const relay = await startForeign(options);
    return { relay, client: await RelayClient.connect(relay.url) };
  };
});

beforeAll(ensureForeignRelay, FOREIGN_RELAY_INSTALL_TIMEOUT_MS);

/** Everything the relay gives to a client that pages downwards. */
async function served(client: RelayClient): Promise<Map<string, NostrEvent>> {
  const found = new Map<string, NostrEvent>();
  for (let until = 4_000_000_000, fresh = 1; fresh > 0; ) {
    const { events } = await client.request({ until, limit: 1000 });
    const before = found.size;
    for (const event of events) found.set(event.id, event);
    fresh = found.size - before;
    until = events.at(-1)?.created_at ?? 0;
  }
  return found;
}

describe('the relay of another implementation', () => {
  test('serves events newest first, with its own limits and without NIP-67', async ({ start }) => {
    const { client } = await start({ events: EVENTS });
    const { events, end } = await client.request({ limit: 10 });
    expect(ids(events)).toEqual(ids(EVENTS.slice(0, 10)));
    expect(end).toEqual(['EOSE', 's1']);
    expect((await client.request({})).events).toHaveLength(100);
    expect((await client.request({ limit: 5000 })).events).toHaveLength(1000);
    expect((await client.request({ limit: 0 })).events).toEqual([]);
    const { events: noted } = await client.request({
      since: EVENTS[50]?.created_at,
      until: EVENTS[40]?.created_at,
    });
    expect(ids(noted).sort()).toEqual(ids(EVENTS.slice(40, 51)).sort());
  });

  test('answers the same filter from a cache for a second, even if there are new events', async ({
    start,
  }) => {
    const { client } = await start();
    const event = signedEvent({ created_at: NOW });
    expect((await client.request({ limit: 5 })).events).toEqual([]);
    expect((await client.publish(event))?.slice(2)).toEqual([true, '']);
    expect((await client.request({ limit: 5 })).events).toEqual([]);
    expect((await client.request({ limit: 6 })).events).toEqual([event]);
  });

  test('verifies what is published, pushes it, and keeps neither ephemeral nor deleted events', async ({
    start,
  }) => {
    const { client, relay } = await start({ filterCacheMs: 0 });
    const note = signedEvent({ created_at: NOW, content: 'a note' });
    const deletion = signedEvent({ created_at: NOW, kind: 5, tags: [['e', note.id]] });
    await client.request({ limit: 0 }, { id: 'live' });
    expect((await client.publish(forge(note, 'signature')))?.slice(2)).toEqual([
      false,
      'invalid: signature is wrong',
    ]);
    client.messages.length = 0;
    await client.publish(signedEvent({ created_at: NOW, kind: 20_001 }));
    const other = signedEvent({ created_at: NOW, content: 'another' });
    for (const event of [other, deletion]) await client.publish(event);
    expect(
      await client.next(
        ([type, , event]) => type === 'EVENT' && (event as NostrEvent).id === other.id,
      ),
    ).not.toBeNull();
    expect(await relay.heldIds()).toEqual([other.id]);
  });

  test('serves its own NIP-11 document or a given one', async ({ start }) => {
    const documentOf = async (url: string) => {
      const response = await fetch(url.replace('ws:', 'http:'), {
        headers: { accept: 'application/nostr+json' },
      });
      return response.json();
    };
    const { relay } = await start({ defaultLimit: 7 });
    expect(await documentOf(relay.url)).toMatchObject({
      limitation: { max_limit: 70, default_limit: 7 },
    });
    const { relay: named } = await start({ nip11: { name: 'ours' } });
    expect(await documentOf(named.url)).toEqual({ name: 'ours' });
  });

  test('is described correctly by the checks of the monitor', async ({ start }) => {
    const notes = signedEvents(600, { from: 1_600_000_000, to: 1_700_000_000, kinds: [1] });
    const { relay } = await start({ events: notes, defaultLimit: 20, filterCacheMs: 0 });
    const { checks } = await probeRelay(
      { url: relay.url as RelayUrl, network: 'clearnet' },
      probeContext({ selected: new Set(checkNames) }),
    );
    expect(checks).toMatchObject({
      open: { success: true },
      read: { data: { empty: false, authenticated: false } },
      write: { data: { stored: false, authenticated: false } },
      nip11: { data: { document: { limitation: { max_limit: 200 } }, dropped: 0 } },
      capabilities: { data: { nip45: false, nip67: false, nip77: false, maxLimit: 200 } },
    });
  });

  test.for(['store', 'publish'] as const)(
    'serves exactly the real events that it holds: load %s',
    { timeout: 60_000 },
    async (load, { start }) => {
      const events = realOrSignedEvents();
      const { client, relay } = await start({ events, load });
      const found = await served(client);
      expect([...found.keys()].sort()).toEqual(await relay.heldIds());
      const originals = new Map(events.map((event) => [event.id, event]));
      expect(
        [...found.values()].filter((event) => originals.get(event.id)?.sig !== event.sig),
      ).toEqual([]);
      expect(relay.loaded).toEqual({
        offered: events.length,
        refused: expect.any(Number),
        served: found.size,
      });
      if (load === 'store')
        expect([...found.keys()].sort()).toEqual(ids(newestVersions(events)).sort());
      console.log(`load ${load}: ${events.length} events, ${found.size} served`);
    },
  );
});

/** Replaceable and addressable events in their newest version alone (NIP-01), all others as they are. */
function newestVersions(events: readonly NostrEvent[]): NostrEvent[] {
  const newest = new Map<string, NostrEvent>();
  for (const event of [...events].sort(newestFirst)) {
    const key = versionKey(event);
    if (!newest.has(key)) newest.set(key, event);
  }
  return [...newest.values()];
}

function versionKey({ id, kind, pubkey, tags }: NostrEvent): string {
  if ([0, 3, 41].includes(kind) || (kind >= 10_000 && kind < 20_000)) return `${kind}:${pubkey}:`;
  if (kind < 30_000 || kind >= 40_000) return id;
  return `${kind}:${pubkey}:${tags.find(([name, value]) => name === 'd' && value)?.[1] ?? ''}`;
}
