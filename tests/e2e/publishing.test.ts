import { createServer } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { verifyEvent } from 'nostr-tools/pure';
import { beforeAll, describe, expect } from 'vitest';
import type { NostrEvent } from '../../src/nostr/event.ts';
import { signedEvents } from '../fixtures/events.ts';
import { faultsByNip66 } from '../fixtures/nip66-rules.ts';
import { listenOnLoopback } from '../network/loopback.ts';
import { healthPort, untilHealth } from '../processes/health-client.ts';
import { KEYS } from '../processes/stack.ts';
import { stackTest } from '../processes/stack-test.ts';
import { RelayClient } from '../relay/bare-client.ts';
import {
  ensureForeignRelay,
  FOREIGN_RELAY_INSTALL_TIMEOUT_MS,
  startForeignRelay,
} from '../relay/foreign-relay.ts';
import { nip11Document } from '../relay/scripted-relay.ts';

const SUCCESS = { code: 0, signal: null };
const NOW = Math.floor(Date.now() / 1000);
const EVENTS = signedEvents(50, { from: NOW - 50_000, to: NOW - 1000 });

const test = stackTest
  /** Nobody here wrote it: what it gives back is what others would read. */
  .extend('foreign', async ({ relayDefaults: _ }, { onCleanup }) => {
    const foreign = await startForeignRelay({ filterCacheMs: 0 });
    onCleanup(() => foreign.stop());
    return foreign;
  })
  .extend('published', ({ foreign }) => async (): Promise<NostrEvent[]> => {
    const client = await RelayClient.connect(foreign.url);
    const { events } = await client.request({ kinds: [0, 10_002, 10_166, 30_166], limit: 1000 });
    client.socket.close();
    return events;
  });

beforeAll(ensureForeignRelay, FOREIGN_RELAY_INSTALL_TIMEOUT_MS);

test.beforeEach(({ stack }) => {
  stack.env.MONITOR_CHECKS = 'open,read,write,nip11';
});

const tagsOf = (event: NostrEvent | undefined, name: string) =>
  event?.tags.filter(([tag]) => tag === name).map(([, ...values]) => values.join(' ')) ?? [];
const about = (events: readonly NostrEvent[], { url }: { url: string }) =>
  events.find((event) => event.kind === 30_166 && tagsOf(event, 'd').includes(`${url}/`));

describe('what the monitor publishes', () => {
  test('is a NIP-66 event for each relay that is up, with the results of its checks', async ({
    startRelay,
    stack,
    foreign,
    runOnce,
    published,
    database,
  }) => {
    const document = {
      ...nip11Document(),
      name: 'a talkative relay',
      supported_nips: [1, 11, 77],
      tags: ['cats', 'dogs'],
      language_tags: ['en'],
      limitation: { auth_required: true, payment_required: false },
      retention: [{ kinds: [4], time: 0 }],
    };
    const talkative = await startRelay({ nip11: { document }, events: EVENTS });
    const closedTo = await startRelay({ auth: { allow: () => false } });
    const dead = await startRelay();
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

  test('is nothing without MONITOR_PUBLISH_RELAYS', async ({
    stack,
    foreign,
    runOnce,
    published,
  }) => {
    await stack.relays([foreign.url]);
    await runOnce('initializer');
    await runOnce('monitor');
    expect(await published()).toEqual([]);
  });

  test('is counted when it is refused; neither a refusal nor a dead relay delays a check', async ({
    startRelay,
    stack,
    runOnce,
    foreign,
    published,
  }) => {
    const refusing = await startRelay({ write: { refuse: 'rate-limited: not so fast' } });
    const blocked = await startRelay();
    const dead = await startRelay();
    await dead.stop();
    const checked = await Promise.all([startRelay(), startRelay(), startRelay()]);
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

  test('requires a key that the operator has set: without one nothing starts', async ({
    stack,
    foreign,
    published,
  }) => {
    stack.env.MONITOR_PUBLISH_RELAYS = foreign.url;
    for (const name of ['SECRET_KEY', 'PUBLIC_KEY', 'POSTGRES_HOST']) delete stack.env[name];
    const local = stack.start('local', ['--once']);
    expect((await local.ended).code).toBe(1);
    expect(local.said).toMatch(/MONITOR_PUBLISH_RELAYS is set and SECRET_KEY is not/);
    expect(await published()).toEqual([]);
  });
});

test('two monitors publish each check once, and announce the monitor once', async ({
  startRelay,
  stack,
  database,
}) => {
  const target = await startRelay();
  const relays = await Promise.all(Array.from({ length: 8 }, () => startRelay({ events: EVENTS })));
  await stack.relays(relays.map(({ url }) => url));
  const initializer = stack.start('initializer');
  expect(await initializer.ended, initializer.said).toEqual(SUCCESS);
  const env = { MONITOR_PUBLISH_RELAYS: target.url, MONITOR_LOOP_INTERVAL_MINUTES: '1' };
  const announced = () =>
    target.published.map(({ kind }) => kind).filter((kind) => kind !== 30_166 && kind < 20_000);
  const checks = async () => (await database.query('select from snapshots')).length;
  const first = stack.start('monitor', [], env);
  await target.until(() => announced().length === 3, 'the monitor is announced', 30_000);
  await expect.poll(checks, { timeout: 60_000 }).toBe(relays.length);
  const second = stack.start('monitor', [], env);
  await untilHealth(await healthPort(second, 'monitor'), ({ status }) => status === 200);
  await sleep(1000); // checks are dated in whole seconds
  // As if the checks were an hour old: within the loop interval of the latest one no relay is checked again.
  await database.query(
    `update snapshots set generated_at = generated_at - 3600;
     update relay_schedule set due_at = 0, checked_at = checked_at - 3600`,
  );
  await expect.poll(checks, { timeout: 60_000 }).toBe(2 * relays.length);
  for (const program of [first, second]) {
    program.signal('SIGTERM');
    expect(await program.ended, program.said).toEqual(SUCCESS);
  }
  const published = target.published.filter(({ kind }) => kind === 30_166);
  const perCheck = published.map((event) => `${tagsOf(event, 'd')} ${event.created_at}`);
  expect(perCheck).toHaveLength(new Set(perCheck).size);
  expect(new Set(published.flatMap((event) => tagsOf(event, 'd'))).size).toBe(relays.length);
  expect(announced().sort((a, b) => a - b)).toEqual([0, 10_002, 10_166]);
});

test('operators of relays are told by a webhook when they go down and come back', async ({
  startRelay,
  stack,
  runOnce,
  database,
  onTestFinished,
}) => {
  const bodies: string[] = [];
  const hook = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    bodies.push(body);
    response.writeHead(204).end();
  });
  const port = await listenOnLoopback(hook);
  onTestFinished(() => void hook.close());
  const relay = await startRelay({ events: EVENTS });
  await stack.relays([relay.url]);
  await runOnce('initializer');
  const check = async () => {
    await database.query('update relay_schedule set due_at = 0');
    await runOnce('monitor', {
      MONITOR_WEBHOOKS: `${relay.url} http://127.0.0.1:${port}/hook`,
    });
  };
  await check();
  await relay.stop();
  await check();
  await check();
  const again = await startRelay({ events: EVENTS, port: relay.port });
  await check();
  expect(again.url).toBe(relay.url);
  expect(bodies.map((body) => JSON.parse(body))).toEqual([
    { relay: relay.url, state: 'down', since: expect.any(Number), reason: 'refused' },
    { relay: relay.url, state: 'up', since: expect.any(Number), reason: null },
  ]);
});
