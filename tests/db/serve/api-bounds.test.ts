/** What bounds an answer: time in the database, and the pace of its client. */
import { type AddressInfo, connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { FastifyInstance } from 'fastify';
import { describe, expect } from 'vitest';
import type { Query } from '../../../src/database/connection.ts';
import { eventPage } from '../../../src/database/event-pages.ts';
import { ask, apiTest as test } from '../../fixtures/api-test.ts';
import { signedEvents } from '../../fixtures/events.ts';
import { Session } from '../../fixtures/journal-test.ts';
import { batchOf } from '../../postgres/bigbrotr.ts';

describe('a statement that takes too long', () => {
  test('is answered with 503, what to narrow, and when to ask again', async ({
    apiWith,
    database,
    errors,
  }) => {
    const api = await apiWith({ timeoutMs: 200 });
    const holder = await Session.open(database);
    await holder.query('begin');
    await holder.query('lock table events in access exclusive mode');
    const answer = await ask(api, '/v1/events?kinds=1');
    await holder.query('rollback');
    await holder.close();
    expect(answer).toMatchObject({
      status: 503,
      headers: { 'retry-after': '60' },
      json: {
        type: '/docs#took-too-long',
        detail: expect.stringContaining('name authors or fewer kinds, or a shorter time'),
      },
    });
    expect((await ask(api, '/v1/events?kinds=1')).status).toBe(200);
    expect(errors).toEqual([]);
  });

  test('leaves a page of what was found until then, which the next page goes on from', async ({
    bigbrotr,
    relay,
    filterId,
    reader,
  }) => {
    const events = signedEvents(500, { from: 1000, to: 2000 });
    await bigbrotr.store(batchOf({ relay, filterId, events }));
    const size = { events: 450, bytes: 1e9, ms: 2000 };
    const page = await reader.read((query, shards) => {
      let fetches = 0;
      const slowly = ((text: string, values?: readonly unknown[]) => {
        const isFetch = shards === 1 ? text.startsWith('fetch') : text.includes('bytes_so_far');
        if (!isFetch) return query(text, values);
        fetches += 1;
        return fetches === 2 ? query('select pg_sleep(60)') : query(text, values);
      }) as Query;
      return eventPage(slowly, {}, 'time', null, size, shards);
    });
    expect(page.cut).toBe('time');
    expect(page.events).toEqual(events.slice(0, 200));
    const rest = await reader.read((query, shards) =>
      eventPage(query, {}, 'time', page.next, size, shards),
    );
    expect(rest).toMatchObject({ events: events.slice(200), next: null, cut: null });
  });
});

describe('a client that does not read', () => {
  test('holds nobody up, is sent no more than fits in between, and loses its place when it goes', async ({
    apiWith,
    bigbrotr,
    relay,
    filterId,
  }) => {
    const large = signedEvents(200, { from: 1000, to: 2000, contentBytes: 100_000 });
    await bigbrotr.store(batchOf({ relay, filterId, events: large }));
    const api = await apiWith({ maxStreams: 1 });
    await api.listen({ port: 0, host: '127.0.0.1' });
    const client = await stalled(api, '/v1/events?format=ndjson');
    for (let times = 0; times < 5; times += 1)
      expect((await ask(api, '/v1/coverage')).status).toBe(200);
    expect((await ask(api, '/v1/events?format=ndjson')).json).toMatchObject({
      type: '/docs#too-many-streams',
      status: 503,
    });
    client.destroy();
    for (let tries = 0; ; tries += 1) {
      const { status } = await ask(api, '/v1/events?format=ndjson&limit=1');
      if (status === 200) break;
      expect(tries).toBeLessThan(500);
      await sleep(20);
    }
  });
});

/** A client that sends a request and then reads nothing. */
async function stalled(api: FastifyInstance, path: string): Promise<Socket> {
  const { port } = api.server.address() as AddressInfo;
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => {});
  await new Promise((resolve) => socket.once('connect', resolve));
  socket.write(`GET ${path} HTTP/1.1\r\nhost: x\r\n\r\n`);
  await new Promise((resolve) => socket.once('readable', resolve));
  return socket;
}
