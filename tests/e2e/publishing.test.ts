import { verifyEvent } from 'nostr-tools/pure';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { NostrEvent } from '../../src/nostr/event.ts';
import { type TestDatabase, testDatabase } from '../support/database.ts';
import { signedEvents } from '../support/events.ts';
import {
  ensureForeignRelay,
  FOREIGN_RELAY_INSTALL_TIMEOUT_MS,
  type ForeignRelay,
  startForeignRelay,
} from '../support/foreign-relay.ts';
import { healthPort, untilHealth } from '../support/health-client.ts';
import { faultsByNip66 } from '../support/nip66-rules.ts';
import { endPrograms } from '../support/programs.ts';
import { RelayClient } from '../support/relay-client.ts';
import {
  nip11Document,
  type ScriptedRelay,
  startScriptedRelay,
} from '../support/scripted-relay.ts';
import { KEYS, Stack } from '../support/stack.ts';

const SUCCESS = { code: 0, signal: null };
const NOW = Math.floor(Date.now() / 1000);
const EVENTS = signedEvents(50, { from: NOW - 50_000, to: NOW - 1000 });

let stack: Stack;
let database: TestDatabase;
/** Nobody here wrote it: what it gives back is what others would read. */
let foreign: ForeignRelay;
const undo: (() => Promise<unknown>)[] = [];

beforeAll(ensureForeignRelay, FOREIGN_RELAY_INSTALL_TIMEOUT_MS);

beforeEach(async () => {
  stack = await Stack.create();
  database = await testDatabase();
  stack.useDatabase(database.config);
  stack.env.MONITOR_CHECKS = 'open,read,write,nip11';
  foreign = await startForeignRelay({ filterCacheMs: 0 });
  undo.push(
    () => stack.remove(),
    () => database.drop(),
    () => foreign.stop(),
  );
});

afterEach(async () => {
  await endPrograms();
  for (const step of undo.splice(0).reverse()) await step();
});

async function relay(
  options: Parameters<typeof startScriptedRelay>[0] = {},
): Promise<ScriptedRelay> {
  const started = await startScriptedRelay(options);
  undo.push(() => started.stop());
  return started;
}

async function runOnce(entrypoint: 'initializer' | 'monitor', env: Record<string, string> = {}) {
  const program = stack.start(entrypoint, ['--once'], env);
  expect(await program.ended, program.said).toEqual(SUCCESS);
}

async function published(): Promise<NostrEvent[]> {
  const client = await RelayClient.connect(foreign.url);
  const { events } = await client.request({ kinds: [0, 10_002, 10_166, 30_166], limit: 1000 });
  client.socket.close();
  return events;
}

const tagsOf = (event: NostrEvent | undefined, name: string) =>
  event?.tags.filter(([tag]) => tag === name).map(([, ...values]) => values.join(' ')) ?? [];
const about = (events: readonly NostrEvent[], { url }: { url: string }) =>
  events.find((event) => event.kind === 30_166 && tagsOf(event, 'd').includes(`${url}/`));

describe('what the monitor publishes', () => {
  it('is what it found of each relay that is alive, as NIP-66 has it', async () => {
    const document = {
      ...nip11Document(),
      name: 'a talkative relay',
      supported_nips: [1, 11, 77],
      tags: ['cats', 'dogs'],
      language_tags: ['en'],
      limitation: { auth_required: true, payment_required: false },
      retention: [{ kinds: [4], time: 0 }],
    };
    const talkative = await relay({ nip11: { document }, events: EVENTS });
    const closedTo = await relay({ auth: { allow: () => false } });
    const dead = await relay();
    await dead.stop();
    await stack.relays([talkative.url, closedTo.url, dead.url, foreign.url]);
    await runOnce('initializer');
    await runOnce('monitor', {
      MONITOR_PUBLISH_RELAYS: foreign.url,
      MONITOR_PUBLISH_GEOHASH: 'u33d',
      MONITOR_REQUEST_TIMEOUT: '5',
      MONITOR_CHECKS: 'open,read,write,nip11,http,capabilities',
    });

    const events = await published();
    expect(events.map(({ kind }) => kind).sort((a, b) => a - b)).toEqual([
      0, 10_002, 10_166, 30_166, 30_166, 30_166,
    ]);
    expect(events.flatMap(faultsByNip66)).toEqual([]);
    for (const event of events) {
      expect(verifyEvent(event)).toBe(true);
      expect(event.pubkey).toBe(KEYS.PUBLIC_KEY);
      expect(Math.abs(event.created_at - NOW)).toBeLessThan(600);
    }

    const found = about(events, talkative);
    const [row] = await database.query<Record<string, unknown>>(
      `select generated_at::integer, rtt_open, rtt_read, rtt_write from relay_metadata_latest where relay_url = $1`,
      [talkative.url],
    );
    expect(found?.created_at).toBe(row?.generated_at);
    expect(tagsOf(found, 'rtt-open')).toEqual([`${row?.rtt_open}`]);
    expect(tagsOf(found, 'rtt-read')).toEqual([`${row?.rtt_read}`]);
    expect(tagsOf(found, 'rtt-write')).toEqual([`${row?.rtt_write}`]);
    expect(tagsOf(found, 'n')).toEqual(['clearnet']);
    expect(tagsOf(found, 'R')).toEqual(['!auth', '!payment', '!pow', '!writes']); // it claims auth, and asks for none
    expect(tagsOf(found, 't')).toEqual(['cats', 'dogs']);
    expect(tagsOf(found, 'k')).toEqual(['!4']);
    expect(tagsOf(found, 'l')).toEqual(['en ISO-639-1']);
    expect(tagsOf(found, 'N')).toEqual(expect.arrayContaining(['1', '11']));
    expect(tagsOf(found, 'N')).not.toContain('77'); // it claims that, and does not do it
    expect(JSON.parse(found?.content ?? '')).toEqual(document);

    const refused = about(events, closedTo);
    expect(tagsOf(refused, 'rtt-open')).toHaveLength(1);
    expect(tagsOf(refused, 'rtt-read')).toEqual([]);
    expect(about(events, foreign)).toBeDefined();
    expect(about(events, dead)).toBe(undefined);

    const announcement = events.find(({ kind }) => kind === 10_166);
    expect(tagsOf(announcement, 'frequency')).toEqual(['28800']);
    expect(tagsOf(announcement, 'timeout')).toEqual([
      '5000',
      'open 5000',
      'read 5000',
      'write 5000',
      'nip11 5000',
    ]);
    expect(tagsOf(announcement, 'c')).toEqual([
      'open',
      'read',
      'write',
      'nip11',
      'http',
      'capabilities',
    ]);
    expect(tagsOf(announcement, 'g')).toEqual(['u33d']);
    const relayList = events.find(({ kind }) => kind === 10_002);
    expect(tagsOf(relayList, 'r')).toEqual([`${foreign.url}/ write`]);
  });

  it('is nothing unless it is asked to', async () => {
    await stack.relays([foreign.url]);
    await runOnce('initializer');
    await runOnce('monitor');
    expect(await published()).toEqual([]);
  });

  it('is counted where it is refused, and neither that nor a dead relay holds up a check', async () => {
    const refusing = await relay({ write: { refuse: 'rate-limited: not so fast' } });
    const blocked = await relay();
    const dead = await relay();
    await dead.stop();
    const checked = await Promise.all([relay(), relay(), relay()]);
    await stack.relays(checked.map(({ url }) => url));
    await stack.write('blocklist.txt', `${blocked.url}\n`);
    await runOnce('initializer');
    const monitor = stack.start('monitor', [], {
      MONITOR_PUBLISH_RELAYS: [refusing, dead, blocked, foreign].map(({ url }) => url).join(','),
      RELAY_BLOCKLIST_PATH: 'blocklist.txt',
    });
    const port = await healthPort(monitor, 'monitor');
    const { body } = await untilHealth(port, ({ body: { counts, lastRound } }) => {
      const { published: done = 0, publish_rate_limited: limited = 0 } = counts as Record<
        string,
        number
      >;
      return done >= 6 && limited >= 1 && lastRound !== null;
    });
    expect(body.counts).toMatchObject({
      relays_checked: 3,
      published: 6,
      publish_refused: expect.any(Number),
      publish_blocklisted: expect.any(Number),
    });
    expect(body.details).toMatchObject({
      publishing: expect.stringContaining(`${refusing.url}: `),
    });
    const metrics = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
    expect(metrics).toMatch(
      /bigbrotr_events_published_total\{outcome="accepted",service="monitor"\} 6/,
    );
    expect(metrics).toMatch(
      /bigbrotr_events_published_total\{outcome="rate_limited",service="monitor"\} [1-9]/,
    );
    expect(blocked.connections.total).toBe(0);
    expect(await published()).toHaveLength(6);
    monitor.signal('SIGTERM');
    expect(await monitor.ended).toEqual(SUCCESS);
  });

  it('is signed with a key that the operator has set, or nothing starts', async () => {
    stack.env.MONITOR_PUBLISH_RELAYS = foreign.url;
    for (const name of ['SECRET_KEY', 'PUBLIC_KEY', 'POSTGRES_HOST']) delete stack.env[name];
    const local = stack.start('local', ['--once']);
    expect((await local.ended).code).toBe(1);
    expect(local.said).toMatch(/MONITOR_PUBLISH_RELAYS is set and SECRET_KEY is not/);
    expect(await published()).toEqual([]);
  });
});
