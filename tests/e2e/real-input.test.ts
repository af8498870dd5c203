import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { NostrEvent } from '../../src/nostr/event.ts';
import { connectionStringOf } from '../support/archive.ts';
import { type TestDatabase, testDatabase } from '../support/database.ts';
import { isValidEvent, realOrSignedEvents } from '../support/events.ts';
import {
  ensureForeignRelay,
  FOREIGN_RELAY_INSTALL_TIMEOUT_MS,
  type ForeignRelay,
  startForeignRelay,
} from '../support/foreign-relay.ts';
import { endPrograms, type LogLine } from '../support/programs.ts';
import { Stack } from '../support/stack.ts';

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

let stack: Stack;
let database: TestDatabase;
let relay: ForeignRelay;
let half: ForeignRelay;

/**
 * One round of all services as processes of their own, on the server that POSTGRES_HOST names and no other.
 * @returns the visits that were made, by relay.
 */
async function round(): Promise<Map<unknown, LogLine>> {
  const program = stack.start('local', ['--once']);
  const end = await program.ended;
  expect(end, program.said).toEqual({ code: 0, signal: null });
  expect(existsSync(join(stack.folder, 'data', 'postgres'))).toBe(false);
  expect(connectionStringOf(program)).toContain(`:${database.config.port}/`);
  expect(program.said).not.toContain(database.config.password);
  const visits = program.log.filter(({ msg }) => msg === 'relay visited');
  return new Map(visits.map((visit) => [visit.relay, visit]));
}

/** How many rows there are. */
async function count(relation: string): Promise<number> {
  const [row] = await database.query<{ count: string }>(`select count(*) from ${relation}`);
  return Number(row?.count);
}

async function idsSeenOn(url: string): Promise<string[]> {
  const rows = await database.query<{ id: string }>(
    `select encode(event_id, 'hex') as id from events_relays where relay_url = $1 order by 1`,
    [url],
  );
  return rows.map(({ id }) => id);
}

beforeAll(async () => {
  await ensureForeignRelay();
  [stack, database, relay] = await Promise.all([
    Stack.create(),
    testDatabase(),
    startForeignRelay({ events: EVENTS, nip11: DOCUMENT }),
  ]);
  const held = new Set(await relay.heldIds()); // of replaceable events the latest alone
  const events = EVENTS.filter(({ id }) => held.has(id));
  half = await startForeignRelay({ events: events.filter((_, index) => index % 2 === 0) });
  stack.useDatabase(database.config);
  await stack.relays([relay.url], [relay.url]);
}, FOREIGN_RELAY_INSTALL_TIMEOUT_MS);

afterAll(async () => {
  await endPrograms();
  await Promise.all([relay?.stop(), half?.stop(), stack?.remove(), database?.drop()]);
});

describe('the events of the network, on a relay that nobody here wrote', () => {
  it('are archived in one round: what the relay serves, not one more or less', async () => {
    const held = await relay.heldIds();
    expect(held.length).toBeGreaterThan(1500);
    const visits = await round();
    expect(visits.get(relay.url)).toMatchObject({ outcome: 'complete', invalid: {} });
    const rows = await database.query<{ id: string }>('select id from events_hex order by id');
    expect(rows.map(({ id }) => id)).toEqual(held);
    expect(await idsSeenOn(relay.url)).toEqual(held);
    expect(await count('quarantine')).toBe(0);
  });

  it('come back from PostgreSQL as they were signed, and verify', async () => {
    const originals = new Map(EVENTS.map((event) => [event.id, event]));
    const rows = await database.query<NostrEvent & { created_at: string }>(
      'select id, pubkey, created_at, kind, tags, content, sig from events_hex',
    );
    const archived = rows.map((row) => ({ ...row, created_at: Number(row.created_at) }));
    expect(archived.length).toBe((await relay.heldIds()).length);
    for (const event of archived) expect(event).toEqual(originals.get(event.id));
    expect(archived.filter((event) => !isValidEvent(event))).toEqual([]);
  });

  it('leave the relay readable, with its NIP-11 document and its coverage to see', async () => {
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

  it('are not stored again in a second round', async () => {
    const before = await Promise.all(['events', 'sightings', 'snapshots'].map(count));
    const visits = await round();
    expect(visits.get(relay.url)).toMatchObject({
      outcome: 'complete',
      events: 0,
      sightings: 0,
    });
    expect(await Promise.all(['events', 'sightings', 'snapshots'].map(count))).toEqual(before);
  });

  it('become sightings alone where a second relay holds half of them', async () => {
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
