/** /v1/changes: each stored event once, in the order of commits. */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect } from 'vitest';
import type { NostrEvent } from '../../../src/nostr/event.ts';
import { apiTest, ask } from '../../fixtures/api-test.ts';
import { idsOf, signedEvents } from '../../fixtures/events.ts';
import { Session } from '../../fixtures/journal-test.ts';
import { batchOf } from '../../postgres/bigbrotr.ts';

const EVENTS = signedEvents(60, { from: 1000, to: 2000 });

interface Row {
  readonly cursor: string;
  readonly relay: string | null;
  readonly event: NostrEvent;
}

const test = apiTest
  .extend(
    'store',
    ({ bigbrotr, relay, filterId }) =>
      (events: readonly NostrEvent[]) =>
        bigbrotr.store(batchOf({ relay, filterId, events })),
  )
  /** Reads pages until this many events have come: transactions of other tests may hold rows back. */
  .extend('follow', ({ get }) => async (wanted: number, query = '', from?: string) => {
    const rows: Row[] = [];
    let cursor = from;
    while (rows.length < wanted) {
      const at = cursor === undefined ? '' : `&cursor=${cursor}`;
      const { status, json } = await get(`/v1/changes?wait=5${query}${at}`);
      expect(status, JSON.stringify(json)).toBe(200);
      rows.push(...json.data);
      cursor = json.next_cursor;
    }
    return { rows, cursor: cursor ?? '' };
  });

const idsOfRows = (rows: readonly Row[]) => rows.map(({ event }) => event.id);

describe('GET /v1/changes', () => {
  test('gives each stored event once, whatever the size of the pages', async ({
    store,
    follow,
    relay,
  }) => {
    for (let at = 0; at < EVENTS.length; at += 20) await store(EVENTS.slice(at, at + 20));
    const { rows, cursor } = await follow(60, '&limit=7');
    expect(idsOfRows(rows).sort()).toEqual(idsOf(EVENTS));
    expect(rows.every((row) => row.relay === relay.url)).toBe(true);
    const more = signedEvents(3, { from: 3000, to: 4000, seed: 5 });
    await store(more);
    expect(idsOfRows((await follow(3, '', cursor)).rows).sort()).toEqual(idsOf(more));
  });

  test('goes on in the middle of a batch, by the cursor of each event', async ({
    store,
    follow,
  }) => {
    await store(EVENTS.slice(0, 20));
    const { rows } = await follow(20);
    for (const place of [0, 9, 18])
      expect(idsOfRows((await follow(19 - place, '', rows[place]?.cursor)).rows)).toEqual(
        idsOfRows(rows.slice(place + 1)),
      );
  });

  test('misses nothing that commits late', async ({ store, follow, database, get }) => {
    const late = await Session.open(database);
    await late.query('begin');
    await late.query(
      `insert into journal (event_keys, days) select '{}', '{0}' from pg_current_xact_id()`,
    );
    await store(EVENTS.slice(0, 5));
    const { json } = await get('/v1/changes');
    expect(json.data).toEqual([]);
    await late.query('commit');
    await late.close();
    const { rows } = await follow(5, '', json.next_cursor);
    expect(idsOfRows(rows).sort()).toEqual(idsOf(EVENTS.slice(0, 5)));
  });

  test('leaves out what was deleted since, and begins at now where that is asked for', async ({
    store,
    database,
    follow,
    get,
  }) => {
    await store(EVENTS.slice(0, 4));
    await database.query('select delete_events(array(select event_key from events limit 3))');
    const { rows, cursor } = await follow(1);
    expect(rows).toHaveLength(1);
    const now = (await get('/v1/changes?cursor=now')).json;
    expect(now.data).toEqual([]);
    await store(EVENTS.slice(10, 12));
    expect(idsOfRows((await follow(2, '', now.next_cursor)).rows)).toEqual(
      idsOfRows((await follow(2, '', cursor)).rows),
    );
  });

  test('says 410 for a cursor whose row is no longer kept, and 400 for no cursor', async ({
    store,
    follow,
    database,
    get,
  }) => {
    await store(EVENTS.slice(0, 4));
    const { cursor } = await follow(4);
    await database.query('delete from journal');
    expect(await get(`/v1/changes?cursor=${cursor}`)).toMatchObject({
      status: 410,
      json: { type: '/docs#cursor-expired', parameter: 'cursor' },
    });
    for (const wrong of ['x', '1', '1-2-3-4', `${'9'.repeat(20)}-1`])
      expect((await get(`/v1/changes?cursor=${wrong}`)).status, wrong).toBe(400);
  });

  test('a row that is kept is followed by every row after it', async ({ bigbrotr, database }) => {
    await database.query(`update journal_readers set xid = '9999999999'`);
    for (const days of [9, 1, 9])
      await database.query(
        `insert into journal (written_at, days) values (unix_now() - $1::bigint * 86400, '{1}')`,
        [days],
      );
    expect(await bigbrotr.journal.trim(7)).toMatchObject({ trimmed: 1 });
    await database.query(`update journal_readers set xid = '0'`);
  });
});

describe('server-sent events', () => {
  test('stream what is stored, go on by Last-Event-ID, and free their place', async ({
    apiWith,
    store,
  }) => {
    const api = await apiWith({ maxStreams: 1 });
    const base = await api.listen({ port: 0, host: '127.0.0.1' });
    await store(EVENTS.slice(0, 10));
    const first = await openStream(`${base}/v1/changes`);
    const seen = await first.next(10);
    expect(seen.map(({ event }) => event.id).sort()).toEqual(idsOf(EVENTS.slice(0, 10)));
    expect((await ask(api, '/v1/changes?format=sse')).json).toMatchObject({
      type: '/docs#too-many-streams',
    });
    await store(EVENTS.slice(10, 13));
    expect((await first.next(3)).map(({ event }) => event.id).sort()).toEqual(
      idsOf(EVENTS.slice(10, 13)),
    );
    first.close();
    const second = await reopened(() =>
      openStream(`${base}/v1/changes`, { 'last-event-id': seen[3]?.cursor ?? '' }),
    );
    expect((await second.next(9)).map(({ cursor }) => cursor)).toContain(seen[4]?.cursor);
    second.close();
  });
});

async function openStream(url: string, headers: Record<string, string> = {}) {
  const closing = new AbortController();
  const response = await fetch(url, {
    headers: { accept: 'text/event-stream', ...headers },
    signal: closing.signal,
  });
  if (response.status !== 200) throw new Error(`status ${response.status}`);
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  const waiting: Row[] = [];
  let text = '';
  return {
    close: () => closing.abort(),
    async next(count: number): Promise<Row[]> {
      while (waiting.length < count) {
        const { value = '' } = (await reader?.read()) ?? {};
        text += value;
        const blocks = text.split('\n\n');
        text = blocks.pop() ?? '';
        for (const block of blocks) {
          const data = /^data: (.*)$/m.exec(block)?.[1];
          if (data) waiting.push(JSON.parse(data) as Row);
        }
      }
      return waiting.splice(0, count);
    },
  };
}

/** The place of a stream that was left is free a moment later. */
async function reopened<T>(open: () => Promise<T>): Promise<T> {
  for (let tries = 0; ; tries += 1) {
    try {
      return await open();
    } catch (error) {
      if (tries > 100) throw error;
      await sleep(20);
    }
  }
}
