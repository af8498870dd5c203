import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { signedEvents } from '../fixtures/events.ts';
import { type TorStream, watchStreams } from '../network/tor-control.ts';
import {
  startTorNetwork,
  type TorClient,
  type TorNetwork,
  whyNoTor,
} from '../network/tor-network.ts';
import { type TestDatabase, testDatabase } from '../postgres/database.ts';
import { healthPort, untilHealth } from '../processes/health-client.ts';
import { endPrograms } from '../processes/programs.ts';
import { projectFile } from '../processes/project.ts';
import { type Entrypoint, Stack } from '../processes/stack.ts';
import {
  ensureForeignRelay,
  FOREIGN_RELAY_INSTALL_TIMEOUT_MS,
  type ForeignRelay,
  startForeignRelay,
} from '../relay/foreign-relay.ts';
import { type ScriptedRelay, startScriptedRelay, unanswered } from '../relay/scripted-relay.ts';

const NOW = Math.floor(Date.now() / 1000);
const EVENTS = signedEvents(600, { from: NOW - 500_000, to: NOW - 10_000 });
const SUCCESS = { code: 0, signal: null };

const missing = whyNoTor();
if (missing) console.log(`no test of Tor: ${missing}`);

describe.skipIf(missing !== null)('through a Tor network', () => {
  let tor: TorNetwork;
  let scripted: ScriptedRelay;
  let foreign: ForeignRelay;
  /** Two relays of one host, which only their ports tell apart. */
  let urls: readonly [scripted: string, foreign: string];
  const undo: (() => unknown)[] = [];

  beforeAll(async () => {
    await ensureForeignRelay();
    scripted = await startScriptedRelay({ events: EVENTS.slice(0, 400) });
    foreign = await startForeignRelay({ events: EVENTS.slice(300) });
    tor = await startTorNetwork({ targets: { 80: scripted.port, 8080: foreign.port } });
    console.log(`the Tor network took ${JSON.stringify(tor.stages)} seconds`);
    urls = [`ws://${tor.onion}`, `ws://${tor.onion}:8080`];
  }, FOREIGN_RELAY_INSTALL_TIMEOUT_MS);

  afterAll(async () => {
    await Promise.all([tor?.stop(), scripted?.stop(), foreign?.stop()]);
  });

  afterEach(async () => {
    await endPrograms();
    for (const step of undo.splice(0).reverse()) await step();
  });

  /** Services with a database of their own, which reach onion services through this client. */
  async function open(client: TorClient): Promise<{ stack: Stack; database: TestDatabase }> {
    const stack = await Stack.create();
    undo.push(() => stack.remove());
    const database = await testDatabase();
    undo.push(() => database.drop());
    stack.useDatabase(database.config);
    Object.assign(stack.env, {
      TORPROXY_HOST: client.socks.host,
      TORPROXY_PORT: String(client.socks.port),
      MONITOR_REQUEST_TIMEOUT: '20',
      SYNCHRONIZER_REQUEST_TIMEOUT: '20',
      LOG_LEVEL: 'debug',
    });
    return { stack, database };
  }

  async function runOnce(stack: Stack, entrypoint: Entrypoint): Promise<void> {
    const program = stack.start(entrypoint, ['--once']);
    expect(await program.ended, program.said).toEqual(SUCCESS);
  }

  async function seenOn(database: TestDatabase, url: string): Promise<string[]> {
    const rows = await database.query<{ id: string }>(
      `select encode(event_id, 'hex') as id from events_relays where relay_url = $1 order by id`,
      [url],
    );
    return rows.map(({ id }) => id);
  }

  describe('onion relays', () => {
    let stack: Stack;
    let database: TestDatabase;
    let streams: readonly TorStream[];
    let lookups: string;

    beforeAll(async () => {
      ({ stack, database } = await open(tor.client));
      const keep = undo.splice(0); // they are for all tests of this room
      lookups = join(stack.folder, 'lookups');
      const control = await watchStreams(tor.client.controlPort);
      streams = control.streams;
      stack.env.NODE_OPTIONS = `--import ${projectFile('tests/network/lookups.mjs')}`;
      stack.env.BIGBROTR_LOOKUPS = lookups;
      await stack.relays([...urls, `ws://localhost:${scripted.port}`]);
      await runOnce(stack, 'initializer');
      await runOnce(stack, 'monitor');
      await runOnce(stack, 'synchronizer');
      control.close();
      return async () => {
        for (const step of keep.reverse()) await step();
      };
    });

    test('are checked, synchronised and archived: every event, and nothing else', async () => {
      const checks = await database.query(
        `select relay_url, readable, writable, name is not null as described
         from relay_metadata_latest where relay_url like '%.onion%' order by relay_url`,
      );
      const good = { readable: true, writable: true, described: true };
      expect(checks).toEqual(urls.map((url) => ({ relay_url: url, ...good })));
      expect(await seenOn(database, urls[0])).toEqual(scripted.events.map(({ id }) => id).sort());
      expect(await seenOn(database, urls[1])).toEqual(await foreign.heldIds());
      const networks = await database.query(
        `select network, count(*)::integer from relays group by 1 order by 1`,
      );
      expect(networks).toEqual([
        { network: 'clearnet', count: 1 },
        { network: 'tor', count: 2 },
      ]);
      const [outcomes] = await database.query(`select array_agg(outcome) as all from visits`);
      expect(outcomes).toEqual({ all: ['complete', 'complete', 'complete'] });
    });

    test('are never resolved by DNS', () => {
      const names = readFileSync(lookups, 'utf8').split('\n');
      expect(names.filter((name) => name.includes('onion'))).toEqual([]);
      expect(names).toContain('localhost'); // so a look-up would have been heard
    });

    test('have a circuit each, although they are on one host', () => {
      const ours = streams.filter(({ target }) => target.startsWith(`${tor.onion}:`)); // the others are Tor's own
      const users = new Map<string, Set<string>>();
      for (const { circuit, user } of ours)
        users.set(circuit, (users.get(circuit) ?? new Set()).add(user));
      for (const relays of users.values()) expect(relays.size).toBe(1);
      expect(new Set(ours.map(({ user }) => user))).toEqual(new Set(urls));
    });
  });

  test('Tor that is down makes relays unknown, and archiving continues when it works again', async () => {
    const { stack, database } = await open(tor.client);
    await tor.client.process.kill();
    await stack.relays(urls, urls);
    await runOnce(stack, 'initializer');
    await runOnce(stack, 'priority-synchronizer');
    const ends = await database.query(`select outcome, detail from visits`);
    expect(ends).toEqual(Array(2).fill({ outcome: 'unfinished', detail: 'proxy_down' }));
    expect(
      await database.query(`select 1 from relay_manners where refusals > 0 or not_before > 0`),
    ).toEqual([]);

    const monitor = stack.start('monitor');
    const port = await healthPort(monitor, 'monitor');
    await untilHealth(port, ({ status, body }) => status === 200 && body.tor === 'down');
    for (const url of urls) {
      const line = await monitor.logged(
        (entry) => entry.msg === 'relay checked' && entry.relay === url,
        'a check',
      );
      expect(line).toMatchObject({ reason: 'proxy_down', openable: false });
    }
    const synchronizer = stack.start('priority-synchronizer');
    const watched = await healthPort(synchronizer, 'priority-synchronizer');
    await untilHealth(watched, ({ body }) => body.tor === 'down');
    tor.client.process.start();
    await untilHealth(watched, ({ body }) => body.tor === 'up', 60_000);
    await untilHealth(
      watched,
      ({ body }) => Number((body.counts as { events?: number }).events) >= 600,
      90_000,
    );
    expect(await seenOn(database, urls[0])).toEqual(scripted.events.map(({ id }) => id).sort());
  });

  test('Tor that dies during a check makes the relay unknown too', async () => {
    const { stack } = await open(tor.client);
    scripted.change({ quirk: unanswered });
    undo.push(() => scripted.change({ quirk: {} }));
    undo.push(() => tor.client.process.start());
    scripted.forget();
    await stack.relays([urls[0]]);
    await runOnce(stack, 'initializer');
    const monitor = stack.start('monitor');
    await scripted.until(({ requests }) => requests.length > 0, 'a check under way', 60_000);
    await tor.client.process.kill();
    const line = await monitor.logged(({ msg }) => msg === 'relay checked', 'a check');
    expect(line).toMatchObject({ relay: urls[0], openable: false, reason: 'proxy_down' });
  });

  test('Tor without a circuit makes the relay unknown too, and /health says no_circuit', async () => {
    const { stack, database } = await open(tor.cutOff);
    await stack.relays([urls[0]]);
    await runOnce(stack, 'initializer');
    const monitor = stack.start('monitor', [], { MONITOR_REQUEST_TIMEOUT: '2' });
    const port = await healthPort(monitor, 'monitor');
    await untilHealth(port, ({ body }) => body.tor === 'up');
    const line = await monitor.logged(({ msg }) => msg === 'relay checked', 'a check');
    expect(line).toMatchObject({ relay: urls[0], openable: false, reason: 'proxy_down' });
    await untilHealth(port, ({ status, body }) => status === 200 && body.tor === 'no_circuit');
    const states = await database.query('select relay_url, state from relay_uptime');
    expect(states).toEqual([{ relay_url: urls[0], state: 'unknown' }]);
  });
});
