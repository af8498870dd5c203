import { rename } from 'node:fs/promises';
import { beforeAll, describe, expect, vi } from 'vitest';
import { LiveRelays } from '../../src/sync/live.ts';
import { signedEvent, signedEvents } from '../fixtures/events.ts';
import { testArchive } from '../fixtures/visit-context.ts';
import { silent } from '../postgres/bigbrotr.ts';
import { stackTest } from '../processes/stack-test.ts';
import { RelayClient } from '../relay/bare-client.ts';
import {
  ensureForeignRelay,
  FOREIGN_RELAY_INSTALL_TIMEOUT_MS,
  startForeignRelay,
} from '../relay/foreign-relay.ts';
import type { ScriptedRelay } from '../relay/scripted-relay.ts';

const NOW = Math.floor(Date.now() / 1000);
const EVENTS = signedEvents(300, { from: NOW - 100_000, to: NOW - 1000 });
const SUCCESS = { code: 0, signal: null };

const test = stackTest
  .override('relayDefaults', { events: EVENTS })
  .extend(
    'sightings',
    ({ database }) =>
      async ({ url }: ScriptedRelay) =>
        (await database.query('select from events_relays where relay_url = $1', [url])).length,
  )
  /** Two relays on the priority list and in the archive; the second is for the blocklist. */
  .extend('listed', async ({ startRelay, stack, database }) => {
    const [free, blocked] = [await startRelay(), await startRelay()];
    const urls = [free.url, blocked.url];
    await stack.relays([], urls);
    await database.query("select insert_relay(url, 'clearnet') from unnest($1::text[]) url", [
      urls,
    ]);
    return { free, blocked };
  });

describe('the blocklist', () => {
  test('keeps the monitor and the synchronizers from connecting to a relay, whichever list has it', async ({
    listed: { free, blocked },
    stack,
    sightings,
  }) => {
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

  test('closes the live connection of a relay that is added, and keeps the services from connecting again', async ({
    listed: { free, blocked },
    stack,
  }) => {
    const path = await stack.write('blocklist.txt', '# nobody yet\n');
    const program = stack.start('priority-synchronizer', [], { RELAY_BLOCKLIST_PATH: path });
    for (const relay of [free, blocked])
      await relay.until(
        () => relay.requests.some(({ filters, end }) => filters[0]?.limit === 0 && end === 'eose'),
        'the live subscription',
        30_000,
      );
    // As an editor does it: a new file in the place of the old one.
    await rename(await stack.write('new.txt', `${blocked.url}\n`), path);
    await blocked.until(({ connections }) => connections.open === 0, 'the end', 60_000);
    const { total } = blocked.connections;
    await vi.waitFor(
      () =>
        expect(program.log.filter(({ msg }) => msg === 'blocklist read')).toMatchObject([
          { path, entries: 0 },
          { path, entries: 1 },
        ]),
      15_000,
    );
    program.signal('SIGTERM');
    expect(await program.ended, program.said).toEqual(SUCCESS);
    expect(blocked.connections.total).toBe(total);
    expect(free.connections).toMatchObject({ total: 1, max: 1 });
  });

  test('stops the service before its first connection if it cannot be read', async ({
    startRelay,
    stack,
    database,
  }) => {
    const relay = await startRelay();
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

describe('a relay of another implementation', () => {
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

test('the priority synchronizer follows a relay that is caught up, on one connection, to its end', async ({
  startRelay,
  stack,
  sightings,
}) => {
  const relay = await startRelay();
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
