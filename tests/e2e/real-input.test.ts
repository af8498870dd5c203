import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test as plainTest } from 'vitest';
import type { NostrEvent } from '../../src/nostr/event.ts';
import { isValidEvent, realOrSignedEvents } from '../fixtures/events.ts';
import { connectionStringOf } from '../postgres/archive.ts';
import { testDatabase, testServer } from '../postgres/database.ts';
import { endPrograms, type LogLine } from '../processes/programs.ts';
import { Stack } from '../processes/stack.ts';
import {
  ensureForeignRelay,
  FOREIGN_RELAY_INSTALL_TIMEOUT_MS,
  startForeignRelay,
} from '../relay/foreign-relay.ts';

const EVENTS = realOrSignedEvents();
const DOCUMENT = {
  name: 'real input',
  description: 'events as the network has them',
  software: 'https://github.com/CodyTseng/nostr-relay',
  version: '0.0.40',
  supported_nips: [1, 11],
  limitation: { max_limit: 1000 },
  not_in_nip11: { yet: ['kept', 1] },
};

/** One archive and two relays for all tests, which continue one another. */
const test = plainTest
  .extend('server', { scope: 'file' }, () => testServer())
  .extend('database', { scope: 'file' }, async ({ server }, { onCleanup }) => {
    const database = await testDatabase(server);
    onCleanup(() => database.drop());
    return database;
  })
  .extend('relay', { scope: 'file' }, async ({ server: _server }, { onCleanup }) => {
    const relay = await startForeignRelay({ events: EVENTS, nip11: DOCUMENT });
    onCleanup(() => relay.stop());
    return relay;
  })
  /** Holds every second event of the other one. */
  .extend('half', { scope: 'file' }, async ({ relay }, { onCleanup }) => {
    const held = new Set(await relay.heldIds()); // of replaceable events only the newest
    const events = EVENTS.filter(({ id }) => held.has(id));
    const half = await startForeignRelay({ events: events.filter((_, index) => index % 2 === 0) });
    onCleanup(() => half.stop());
    return half;
  })
  .extend('stack', { scope: 'file' }, async ({ database, relay }, { onCleanup }) => {
    const stack = await Stack.create();
    onCleanup(async () => {
      await endPrograms();
      await stack.remove();
    });
    stack.useDatabase(database.config);
    await stack.relays([relay.url], [relay.url]);
    return stack;
  })
  /**
   * One round of all services as processes, on the server that POSTGRES_HOST names and no other. Returns the visits by
   * relay.
   */
  .extend('round', ({ stack, database }) => async (): Promise<Map<unknown, LogLine>> => {
    const program = stack.start('local', ['--once']);
    const end = await program.ended;
    expect(end, program.said).toEqual({ code: 0, signal: null });
    expect(existsSync(join(stack.folder, 'data', 'postgres'))).toBe(false);
    expect(connectionStringOf(program)).toContain(`:${database.config.port}/`);
    expect(program.said).not.toContain(database.config.password);
    const visits = program.log.filter(({ msg }) => msg === 'relay visited');
    return new Map(visits.map((visit) => [visit.relay, visit]));
  })
  /** How many rows there are. */
  .extend('count', ({ database }) => async (relation: string): Promise<number> => {
    const [row] = await database.query<{ count: string }>(`select count(*) from ${relation}`);
    return Number(row?.count);
  })
  .extend('idsSeenOn', ({ database }) => async (url: string): Promise<string[]> => {
    const rows = await database.query<{ id: string }>(
      `select encode(event_id, 'hex') as id from events_relays where relay_url = $1 order by 1`,
      [url],
    );
    return rows.map(({ id }) => id);
  });

beforeAll(ensureForeignRelay, FOREIGN_RELAY_INSTALL_TIMEOUT_MS);

describe('real events on a relay with an implementation of its own', () => {
  test('are archived in one round: exactly those that the relay serves', async ({
    database,
    relay,
    round,
    count,
    idsSeenOn,
  }) => {
    const held = await relay.heldIds();
    expect(held.length).toBeGreaterThan(1500);
    const visits = await round();
    expect(visits.get(relay.url)).toMatchObject({ outcome: 'complete', invalid: {} });
    const rows = await database.query<{ id: string }>('select id from events_hex order by id');
    expect(rows.map(({ id }) => id)).toEqual(held);
    expect(await idsSeenOn(relay.url)).toEqual(held);
    expect(await count('quarantine')).toBe(0);
  });

  test('come back from PostgreSQL as they were signed, and verify', async ({ database, relay }) => {
    const originals = new Map(EVENTS.map((event) => [event.id, event]));
    const rows = await database.query<NostrEvent & { created_at: string }>(
      'select id, pubkey, created_at, kind, tags, content, sig from events_hex',
    );
    const archived = rows.map((row) => ({ ...row, created_at: Number(row.created_at) }));
    expect(archived.length).toBe((await relay.heldIds()).length);
    for (const event of archived) expect(event).toEqual(originals.get(event.id));
    expect(archived.filter((event) => !isValidEvent(event))).toEqual([]);
  });

  test('are of a relay that is readable, with its NIP-11 document and its coverage', async ({
    database,
    relay,
  }) => {
    const readable = await database.query('select * from readable_relays');
    expect(readable).toEqual([
      expect.objectContaining({
        relay_url: relay.url,
        network: 'clearnet',
        rtt_open: expect.any(Number),
        rtt_read: expect.any(Number),
        writable: true,
      }),
    ]);
    const { not_in_nip11, ...known } = DOCUMENT;
    const latest = await database.query(
      'select * from relay_metadata_latest where relay_url = $1',
      [relay.url],
    );
    expect(latest).toEqual([
      expect.objectContaining({ ...known, extra_fields: { not_in_nip11 }, readable: true }),
    ]);
    const coverage = await database.query(
      'select share, gaps, holes, outcome from relay_coverage where relay_url = $1',
      [relay.url],
    );
    expect(coverage).toEqual([{ share: '1.000000', gaps: '0', holes: '0', outcome: 'complete' }]);
  });

  test('are not stored again in a second round', async ({ relay, round, count }) => {
    const before = await Promise.all(['events', 'sightings', 'snapshots'].map(count));
    const visits = await round();
    expect(visits.get(relay.url)).toMatchObject({
      outcome: 'complete',
      events: 0,
      sightings: 0,
    });
    expect(await Promise.all(['events', 'sightings', 'snapshots'].map(count))).toEqual(before);
  });

  test('become only sightings when a second relay holds half of them', async ({
    stack,
    relay,
    half,
    round,
    count,
    idsSeenOn,
  }) => {
    const events = await count('events');
    const sightings = await count('sightings');
    await stack.relays([relay.url, half.url], [half.url]);
    const visits = await round();
    const held = await half.heldIds();
    expect(held.length).toBeGreaterThan(750);
    expect(visits.get(half.url)).toMatchObject({
      service: 'priority-synchronizer',
      outcome: 'complete',
      events: 0,
      sightings: held.length,
    });
    expect(await idsSeenOn(half.url)).toEqual(held);
    expect(await count('events')).toBe(events);
    expect(await count('sightings')).toBe(sightings + held.length);
  });
});
