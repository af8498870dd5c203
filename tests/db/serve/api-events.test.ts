/** /v1/events: a NIP-01 filter as a URL, its pages and formats. */
import { neventEncode, noteEncode, npubEncode } from 'nostr-tools/nip19';
import { describe, expect } from 'vitest';
import type { NostrEvent } from '../../../src/nostr/event.ts';
import { matchesFilter } from '../../../src/nostr/filter.ts';
import { apiTest } from '../../fixtures/api-test.ts';
import { mixedEvents, newestFirst, signedEvent } from '../../fixtures/events.ts';
import { batchOf } from '../../postgres/bigbrotr.ts';

const EVENTS = mixedEvents(300).filter(({ content }) => !content.includes('\0'));
const burst = Array.from({ length: 40 }, (_, index) =>
  signedEvent({ created_at: 1_700_000_000, content: `burst ${index}` }),
);
const ALL = [...EVENTS, ...burst].sort(newestFirst);
const [FIRST] = ALL as [NostrEvent];

const author = FIRST.pubkey;
const other = EVENTS.find(({ pubkey }) => pubkey !== author)?.pubkey ?? '';
const tagged = EVENTS.find(({ tags }) => tags.some(([name]) => name === 'e')) as NostrEvent;
const parent = tagged.tags.find(([name]) => name === 'e')?.[1] ?? '';

const test = apiTest.extend('stored', async ({ bigbrotr, relay, filterId }) => {
  await bigbrotr.store(batchOf({ relay, filterId, events: ALL }));
  return ALL;
});

describe('GET /v1/events', () => {
  test('gives every event once, newest first, whatever the size of the pages', async ({
    stored,
    get,
  }) => {
    const ids: string[] = [];
    for (let cursor = ''; ; ) {
      const { status, json } = await get(`/v1/events?limit=37${cursor}`);
      expect(status).toBe(200);
      expect(json.data.length).toBeLessThanOrEqual(37);
      ids.push(...json.data.map((event: NostrEvent) => event.id));
      if (json.next_cursor === null) break;
      cursor = `&cursor=${json.next_cursor}`;
    }
    expect(ids).toEqual(stored.map(({ id }) => id));
  });

  test('finds what NIP-01 matches, by ids, authors, kinds, tags and time together', async ({
    stored,
    get,
  }) => {
    const cases: [string, Parameters<typeof matchesFilter>[1]][] = [
      [`authors=${author}`, { authors: [author] }],
      [`authors=${npubEncode(author)}`, { authors: [author] }],
      [`authors=${author},${other}`, { authors: [author, other] }],
      [`authors=${author}&authors=${author}`, { authors: [author] }],
      ['kinds=1,7', { kinds: [1, 7] }],
      [`authors=${author}&kinds=1&kinds=3`, { authors: [author], kinds: [1, 3] }],
      [`tag.e=${parent}`, { '#e': [parent] }],
      [`tag.e=${parent}&kinds=1,7`, { '#e': [parent], kinds: [1, 7] }],
      [`ids=${FIRST.id},${noteEncode(tagged.id)}`, { ids: [FIRST.id, tagged.id] }],
      [`ids=${FIRST.id}&kinds=65000`, { ids: [FIRST.id], kinds: [65000] }],
    ];
    for (const [query, filter] of cases) {
      const { json } = await get(`/v1/events?limit=1000&${query}`);
      const wanted = stored.filter((event) => matchesFilter(event, filter));
      expect(json.data, query).toEqual(wanted);
    }
    const [since, until] = [stored[200]?.created_at ?? 0, stored[100]?.created_at ?? 0];
    const { json } = await get(`/v1/events?limit=1000&since=${since}&until=${until}`);
    expect(json.data).toEqual(stored.filter(({ created_at: at }) => at >= since && at <= until));
    expect((await get(`/v1/events?since=${until + 1}&until=${since}`)).json.data).toEqual([]);
  });

  test('ends a page early where events are large, and goes on from there', async ({
    bigbrotr,
    relay,
    filterId,
    get,
  }) => {
    const large = Array.from({ length: 4 }, (_, index) =>
      signedEvent({ created_at: 1_700_000_000 + index, content: 'x'.repeat(2_000_000) }),
    ).sort(newestFirst);
    await bigbrotr.store(batchOf({ relay, filterId, events: large }));
    const first = (await get('/v1/events')).json;
    expect(first.data.map(({ id }: NostrEvent) => id)).toEqual(idsInOrder(large).slice(0, 3));
    expect(first.meta.partial).toMatch(/bytes of events/);
    const rest = (await get(`/v1/events?cursor=${first.next_cursor}`)).json;
    expect(rest.data.map(({ id }: NostrEvent) => id)).toEqual(idsInOrder(large).slice(3));
    expect(rest).toMatchObject({ next_cursor: null, meta: { coverage: { relays: 0 } } });
    expect(rest.meta).not.toHaveProperty('partial');
  });

  test('refuses a cursor of another question, or of nothing', async ({ stored: _stored, get }) => {
    const { json } = await get('/v1/events?kinds=1&limit=1');
    expect((await get(`/v1/events?kinds=1&limit=2&cursor=${json.next_cursor}`)).status).toBe(200);
    for (const url of [
      `/v1/events?kinds=7&cursor=${json.next_cursor}`,
      `/v1/events?kinds=1&cursor=${json.next_cursor}x`,
      '/v1/events?cursor=bm90aGluZw',
    ])
      expect(await get(url), url).toMatchObject({
        status: 400,
        json: { parameter: 'cursor', type: '/docs#invalid-request' },
      });
  });
});

describe('GET /v1/events/{id}', () => {
  test('takes hex, note and nevent, and says 404 for an event that is not archived', async ({
    stored,
    get,
  }) => {
    const [event] = stored as [NostrEvent];
    const names = [event.id, event.id.toUpperCase(), noteEncode(event.id)];
    for (const id of [...names, neventEncode({ id: event.id, relays: ['wss://x.example.com'] })])
      expect((await get(`/v1/events/${id}`)).json.data, id).toEqual(event);
    expect(await get(`/v1/events/${'0'.repeat(64)}`)).toMatchObject({
      status: 404,
      headers: { 'content-type': 'application/problem+json' },
      json: { status: 404, parameter: 'id' },
    });
    expect(await get(`/v1/events/${npubEncode(event.pubkey)}`)).toMatchObject({
      status: 400,
      json: { parameter: 'id' },
    });
  });

  test('/relays has each relay and when the event was first seen there', async ({
    bigbrotr,
    relay,
    other,
    filterId,
    get,
  }) => {
    const seen = { filterId, events: [FIRST], seenAt: 1_700_000_100 };
    await bigbrotr.store(batchOf({ relay, ...seen }));
    await bigbrotr.store(batchOf({ ...seen, relay: other, seenAt: 1_700_000_200 }));
    const { json } = await get(`/v1/events/${FIRST.id}/relays`);
    const rows = [
      { url: relay.url, seen_at: 1_700_000_100 },
      { url: other.url, seen_at: 1_700_000_200 },
    ];
    expect(json.data).toEqual(rows.sort((a, b) => (a.url < b.url ? -1 : 1)));
    const first = (await get(`/v1/events/${FIRST.id}/relays?limit=1`)).json;
    const next = await get(`/v1/events/${FIRST.id}/relays?limit=1&cursor=${first.next_cursor}`);
    expect([...first.data, ...next.json.data]).toEqual(json.data);
    expect(next.json.next_cursor).toBeNull();
    expect((await get(`/v1/events/${'0'.repeat(64)}/relays`)).status).toBe(404);
  });

  test('/references has what refers to it, archived itself or not', async ({ stored, get }) => {
    const { json } = await get(`/v1/events/${parent}/references?limit=1000`);
    expect(json.data).toEqual(stored.filter((event) => matchesFilter(event, { '#e': [parent] })));
    expect(json.data.length).toBeGreaterThan(0);
  });

  test('/references finds tags q and a too, and those of an address only for its event', async ({
    bigbrotr,
    relay,
    filterId,
    get,
  }) => {
    const article = signedEvent({ created_at: 5000, kind: 30_023, tags: [['d', 'a:b']] });
    const address = `30023:${article.pubkey}:a:b`;
    const refers = (created_at: number, ...tag: string[]) =>
      signedEvent({ created_at, tags: [tag] });
    const byId = [refers(5001, 'e', article.id), refers(5002, 'q', article.id)];
    const byAddress = [refers(5003, 'a', address), refers(5004, 'q', address)];
    const others = [refers(5005, 'a', `${address}c`), refers(5006, 'x', article.id)];
    const found = async () => (await get(`/v1/events/${article.id}/references`)).json.data;
    const store = (events: NostrEvent[]) => bigbrotr.store(batchOf({ relay, filterId, events }));
    await store([...byId, ...byAddress, ...others].sort(newestFirst));
    expect(await found()).toEqual([...byId].sort(newestFirst));
    await store([article]);
    expect(await found()).toEqual([...byId, ...byAddress].sort(newestFirst));
  });
});

const idsInOrder = (events: readonly NostrEvent[]) => events.map(({ id }) => id);
