import { afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { LiveRelays } from '../../src/visit/live.ts';
import { silent } from '../support/bigbrotr.ts';
import { type TestDatabase, testDatabase } from '../support/database.ts';
import { signedEvent, signedEvents } from '../support/events.ts';
import {
  ensureForeignRelay,
  FOREIGN_RELAY_INSTALL_TIMEOUT_MS,
  startForeignRelay,
} from '../support/foreign-relay.ts';
import { endPrograms } from '../support/programs.ts';
import { RelayClient } from '../support/relay-client.ts';
import { type ScriptedRelay, startScriptedRelay } from '../support/scripted-relay.ts';
import { Stack } from '../support/stack.ts';
import { testArchive } from '../support/visit-context.ts';

const NOW = Math.floor(Date.now() / 1000);
const EVENTS = signedEvents(300, { from: NOW - 100_000, to: NOW - 1000 });
const SUCCESS = { code: 0, signal: null };

let stack: Stack;
let database: TestDatabase;
const relays: ScriptedRelay[] = [];

beforeEach(async () => {
  stack = await Stack.create();
  database = await testDatabase();
  stack.useDatabase(database.config);
});
afterEach(async () => {
  await endPrograms();
  for (const relay of relays.splice(0)) await relay.stop();
  await database.drop();
  await stack.remove();
});

async function start(): Promise<ScriptedRelay> {
  const relay = await startScriptedRelay({ events: EVENTS });
  relays.push(relay);
  return relay;
}

const sightings = async ({ url }: ScriptedRelay) =>
  Number((await database.query('select 1 from events_relays where relay_url = $1', [url])).length);

describe('the blocklist', () => {
  test('keeps monitor and synchronizers from a relay, whoever lists it', async () => {
    const [free, blocked] = [await start(), await start()];
    const urls = [free.url, blocked.url];
    await stack.relays([], urls);
    await database.query("select insert_relay(url, 'clearnet') from unnest($1::text[]) url", [
      urls,
    ]);
    const path = await stack.write(
      'blocklist.txt',
      `# they asked for it\n${blocked.url} # and this\n`,
    );
    const env = { RELAY_BLOCKLIST_PATH: path };
    for (const entrypoint of ['monitor', 'priority-synchronizer'] as const) {
      const program = stack.start(entrypoint, ['--once'], env);
      expect(await program.ended, program.said).toEqual(SUCCESS);
    }
    expect(free.fetches).toHaveLength(1);
    expect(await sightings(free)).toBe(300);
    expect(blocked.fetches).toEqual([]);
    expect(blocked.connections.total).toBe(0);
  });

  test('that cannot be used stops the service before it contacts anybody', async () => {
    const relay = await start();
    await stack.relays([], [relay.url]);
    await database.query("select insert_relay($1, 'clearnet')", [relay.url]);
    const broken = await stack.write('blocklist.txt', 'not a relay\n');
    for (const [entrypoint, path, said] of [
      [
        'monitor',
        'absent.txt',
        /absent\.txt cannot be read \(ENOENT\): check RELAY_BLOCKLIST_PATH/,
      ],
      ['priority-synchronizer', broken, /Line 1 of the blocklist .* is no relay/],
    ] as const) {
      const program = stack.start(entrypoint, ['--once'], { RELAY_BLOCKLIST_PATH: path });
      expect(await program.ended, program.said).toEqual({ code: 1, signal: null });
      expect(program.said).toMatch(said);
    }
    expect(relay.connections.total).toBe(0);
    expect(relay.fetches).toEqual([]);
  });
});

describe('a relay that nobody here wrote', () => {
  beforeAll(ensureForeignRelay, FOREIGN_RELAY_INSTALL_TIMEOUT_MS);

  test('is followed: what it receives is archived at once, backdated or not', async () => {
    const archive = await testArchive();
    const relay = await startForeignRelay({ events: EVENTS });
    const live = new LiveRelays({ max: 1, keepAliveMs: 5000, forgetMs: 60_000, log: silent });
    try {
      expect(await archive.visit(relay.url, { live })).toMatchObject({
        outcome: 'complete',
        events: 300,
      });
      expect(live.size).toBe(1);
      const client = await RelayClient.connect(relay.url);
      await client.request({ limit: 0 }); // our subscription, sent before this one, is there by then
      const published = [
        signedEvent({ created_at: NOW, content: 'now' }),
        signedEvent({ created_at: NOW - 50_000, content: 'half a day ago' }),
      ];
      for (const event of published)
        expect(await client.publish(event)).toEqual(['OK', event.id, true, expect.anything()]);
      await vi.waitFor(async () => expect(await archive.ids(relay.url)).toHaveLength(302), 5000);
      await client.close();
    } finally {
      await live.close();
      await relay.stop();
      await archive.close();
    }
  });
});

test('the priority synchronizer follows a relay that is caught up, on one connection, to its end', async () => {
  const relay = await start();
  await stack.relays([], [relay.url]);
  const program = stack.start('priority-synchronizer');
  const isFollowed = () =>
    relay.requests.some(({ filters, end }) => filters[0]?.limit === 0 && end === 'eose');
  await relay.until(isFollowed, 'the live subscription', 30_000);
  expect(await sightings(relay)).toBe(300);
  const fresh = signedEvent({ created_at: NOW, content: 'just now' });
  relay.publish(fresh);
  await vi.waitFor(async () => expect(await sightings(relay)).toBe(301), 5000);
  expect(relay.connections).toEqual({ open: 1, total: 1, max: 1 });
  program.signal('SIGTERM');
  expect(await program.ended, program.said).toEqual(SUCCESS);
  await relay.until(({ connections }) => connections.open === 0, 'the end of the connection');
});
