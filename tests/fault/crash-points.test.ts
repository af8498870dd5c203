import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { CRASH_POINTS, type CrashPoint, plannedCrash } from '../../src/crash-point.ts';
import type { NostrEvent } from '../../src/nostr/event.ts';
import { type TestDatabase, testDatabase } from '../support/database.ts';
import { forgedEvents, signedEvents } from '../support/events.ts';
import {
  expectHonest,
  expectWhole,
  type Held,
  seenOn,
  untilAlone,
  untilQuiet,
} from '../support/pipeline-model.ts';
import { endPrograms, type Program } from '../support/programs.ts';
import { serveNip77 } from '../support/relay-nip77.ts';
import { type ScriptedRelay, startScriptedRelay } from '../support/scripted-relay.ts';
import { Stack } from '../support/stack.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';

const NOW = Math.floor(Date.now() / 1000);
const HISTORY = { from: NOW - 500_000, to: NOW - 10_000 };
const BATCH = 200;
const SHARED = signedEvents(400, { ...HISTORY, seed: 1 });
const OF_PAGED = [...SHARED, ...signedEvents(1600, { ...HISTORY, seed: 2 })];
const OF_NIP77 = [...SHARED, ...signedEvents(1100, { ...HISTORY, seed: 3 })];
const FORGED = forgedEvents(20, { ...HISTORY, seed: 4 });
const DIED_OF_IT = { code: null, signal: 'SIGKILL' };
const SUCCESS = { code: 0, signal: null };

/** Points of the monitor and of the finder have a file of their own. */
const OF_OTHERS = ['checked', 'answered'] as const satisfies readonly CrashPoint[];
type Archiving = Exclude<CrashPoint, (typeof OF_OTHERS)[number]>;
const POINTS = CRASH_POINTS.filter((point): point is Archiving =>
  OF_OTHERS.every((other) => other !== point),
);
/** In which of its visits to the point a run dies: in the middle of the history. */
const NTH: Readonly<Record<Archiving, number>> = {
  'after-receive': 2000,
  'after-known': 9,
  'after-verify': 9,
  'in-transaction': 6,
  'before-commit': 7,
  'after-commit': 7,
  'after-page': 6,
  'after-coverage': 4,
  'during-reconcile': 5,
  'live-batch': 1,
};
const WHILE_CATCHING_UP = POINTS.filter((point) => point !== 'live-batch');

let stack: Stack;
let paged: ScriptedRelay;
let reconciled: ScriptedRelay;
let database: TestDatabase;
let model: Held[];
const figures: string[] = [];

beforeAll(async () => {
  stack = await Stack.create();
});
afterAll(async () => {
  await stack.remove();
  console.info(`fetched again, beyond what was not stored:\n${figures.join('\n')}`);
});

beforeEach(async () => {
  paged = await startScriptedRelay({ events: [...OF_PAGED, ...FORGED], quirk: { cap: BATCH } });
  reconciled = await startScriptedRelay({ events: OF_NIP77, quirk: { cap: BATCH } });
  serveNip77(reconciled);
  model = [
    { url: paged.url, events: OF_PAGED },
    { url: reconciled.url, events: OF_NIP77 },
  ];
  database = await testDatabase();
  stack.useDatabase(database.config);
  stack.env.SYNCHRONIZER_BATCH_SIZE = String(BATCH);
  stack.env.SYNCHRONIZER_REQUEST_TIMEOUT = '20'; // a relay that lets in late is not silent
  await stack.relays([], [paged.url, reconciled.url]);
  await database.query(`select insert_relay_metadata($1, 'clearnet', $2, $3, $4)`, [
    reconciled.url,
    NOW,
    { supported_nips: [1, 11, 77], limitation: { max_limit: BATCH } },
    { openable: true, readable: true, writable: false, rtt_open: 1, rtt_read: 1 },
  ]);
  await seeOne(reconciled.url);
});
afterEach(async () => {
  await endPrograms();
  await Promise.all([paged.stop(), reconciled.stop()]);
  await database.drop();
});

/** Of a relay that was seen to hold something the rest is read by NIP-77 from the beginning. */
async function seeOne(url: string): Promise<void> {
  const event = OF_NIP77.at(-1) as NostrEvent;
  await database.query('select insert_event($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)', [
    ...[Buffer.from(event.id, 'hex'), Buffer.from(event.pubkey, 'hex'), event.created_at],
    ...[event.kind, JSON.stringify(event.tags), event.content, Buffer.from(event.sig, 'hex')],
    ...[url, 'clearnet', NOW],
  ]);
}

function start(env: Record<string, string>, ...args: string[]): Program {
  return stack.start('priority-synchronizer', args, env);
}

const workerDeaths = (program: Program) =>
  program.log.filter(({ msg }) => msg === 'a worker died, starting another');

/** Events of the relay's that are not stored, those that never will be among them. */
async function unstored(relay: ScriptedRelay): Promise<number> {
  return relay.events.length - (await seenOn(database, relay.url)).size;
}

interface Left {
  readonly ofPaged: number;
  readonly ofNip77: number;
}

/** What a crash has left to do. Some of it was done. */
async function leftInTheMiddle(): Promise<Left> {
  const left = { ofPaged: await unstored(paged), ofNip77: await unstored(reconciled) };
  expect(left.ofPaged + left.ofNip77).toBeGreaterThan(BATCH);
  expect(left.ofPaged + left.ofNip77).toBeLessThan(OF_PAGED.length + OF_NIP77.length);
  return left;
}

/** Since they forgot, the relays have sent what was left, and next to nothing beside it. */
function expectLittleAgain(what: string, left: Left): void {
  const beyond = paged.eventsSent - left.ofPaged;
  const beyondOfNip77 = reconciled.eventsSent - left.ofNip77;
  figures.push(`${what}: ${beyond} of ${paged.requests.length} pages; NIP-77 ${beyondOfNip77}`);
  // At most one batch, and the second in which each page begins.
  expect(beyond).toBeLessThanOrEqual(BATCH + paged.requests.length);
  expect(beyondOfNip77).toBeLessThanOrEqual(1); // it asks whether there is more below what was listed
}

describe('the service dies by SIGKILL', () => {
  it.each(WHILE_CATCHING_UP)('%s', async (point) => {
    const crashed = start({ BIGBROTR_CRASH_AT: `${point}:${NTH[point]}` }, '--once');
    expect(await crashed.ended, crashed.said).toEqual(DIED_OF_IT);
    await goesOnAfter(point);
  });

  it('while PostgreSQL has done a COMMIT and its answer is on the way', async () => {
    const proxy = await startTcpProxy(database.config);
    try {
      proxy.holdCommit(9);
      const { host, port } = proxy;
      const env = { POSTGRES_HOST: host, POSTGRES_PORT: String(port) };
      const crashed = start(env, '--once');
      await vi.waitFor(() => expect(proxy.held).toBe(1), { timeout: 30_000, interval: 5 });
      expect(crashed.isRunning).toBe(true);
      crashed.signal('SIGKILL');
      expect(await crashed.ended, crashed.said).toEqual(DIED_OF_IT);
    } finally {
      await proxy.close();
    }
    await goesOnAfter('before the answer to COMMIT');
  });

  /** Looks at what the crash has left, starts the service again and compares with the model. */
  async function goesOnAfter(what: string): Promise<void> {
    await untilAlone(database);
    await expectHonest(database, model);
    const left = await leftInTheMiddle();

    for (const relay of [paged, reconciled]) relay.forget();
    const again = start({}, '--once');
    expect(await again.ended, again.said).toEqual(SUCCESS);
    await expectWhole(database, model);
    expectLittleAgain(`service ${what}`, left);
  }

  it('live-batch', async () => {
    const program = start({ BIGBROTR_CRASH_AT: 'live-batch' });
    await untilFollowed(program);
    publishLive();
    expect(await program.ended, program.said).toEqual(DIED_OF_IT);
    await untilAlone(database);
    expect(await unstored(paged)).toBeGreaterThan(FORGED.length);
    const again = start({}, '--once');
    expect(await again.ended, again.said).toEqual(SUCCESS);
    await expectWhole(database, model);
  });
});

describe('a worker thread dies', () => {
  const onlyTheFirst = { BIGBROTR_CRASH_SCOPE: 'worker', BIGBROTR_CRASH_THREADS: '1' };

  it.each(WHILE_CATCHING_UP)('%s', async (point) => {
    const env = { ...onlyTheFirst, BIGBROTR_CRASH_AT: `${point}:${NTH[point]}` };
    const program = start(env, '--once');
    // Whoever comes a second time waits at the door until it is seen what the death has left.
    let openDoor = () => {};
    const seen = new Promise<void>((open) => {
      openDoor = open;
    });
    for (const relay of [paged, reconciled]) {
      await relay.until(() => relay.connections.total === 1, 'a first connection', 20_000);
      relay.change({ upgrade: { until: seen } });
    }
    await program.until(() => workerDeaths(program).length === 1, 'a death');
    await untilQuiet(database);
    const left = await leftInTheMiddle();
    for (const relay of [paged, reconciled]) {
      expect(relay.connections.total).toBe(1);
      relay.forget();
    }
    openDoor();
    expect(await program.ended, program.said).toEqual(SUCCESS);
    expect(workerDeaths(program)).toMatchObject([{ reason: 'exit code 86' }]);
    await expectWhole(database, model);
    expectLittleAgain(`worker ${point}`, left);
  });

  it('live-batch', async () => {
    const program = start({ ...onlyTheFirst, BIGBROTR_CRASH_AT: 'live-batch' });
    await untilFollowed(program);
    publishLive();
    await program.until(() => workerDeaths(program).length === 1, 'a death');
    // Nobody waits for the next interval: the relay is followed again, and its visit finds what was lost.
    await untilFollowed(program, 2);
    for (const event of LATER) paged.publish(event);
    await vi.waitFor(async () => expect(await unstored(paged)).toBe(FORGED.length), 20_000);
    program.signal('SIGTERM');
    expect(await program.ended, program.said).toEqual(SUCCESS);
    model = [{ url: paged.url, events: [...OF_PAGED, ...LIVE, ...LATER] }, ...model.slice(1)];
    for (const { url, events } of model)
      expect((await seenOn(database, url)).size).toBe(events.length);
    await expectHonest(database, model);
  });
});

const LIVE = signedEvents(30, { from: NOW - 60, to: NOW - 10, seed: 5 });
const LATER = signedEvents(5, { from: NOW - 5, to: NOW - 1, seed: 6 });

/** Both relays were read and a subscription is open to the paged one; so many times over. */
async function untilFollowed(program: Program, times = 1): Promise<void> {
  await program.until(
    () => program.log.filter(({ msg }) => msg === 'relay visited').length >= 2 * times,
    `${times} visits to each relay`,
  );
  const live = () => paged.requests.filter(({ filters }) => filters[0]?.limit === 0);
  await paged.until(() => live().length >= times, 'an open subscription', 20_000);
}

function publishLive(): void {
  for (const event of LIVE) paged.publish(event);
  model = [{ url: paged.url, events: [...OF_PAGED, ...LIVE] }, ...model.slice(1)];
}

describe('a relay that ends each worker that visits it', () => {
  it('is set aside with its reason, for longer each time, while the others go on', async () => {
    const crash = {
      BIGBROTR_CRASH_AT: 'after-receive',
      BIGBROTR_CRASH_SCOPE: 'worker',
      BIGBROTR_CRASH_RELAY: paged.url,
    };
    const manners = async () =>
      (
        await database.query<{ pause: number; refusals: number; detail: string; outcome: string }>(
          `select m.not_before - v.ended_at as pause, m.refusals, v.outcome, v.detail
           from relays join relay_manners m using (relay_id) join visits v using (relay_id) where url = $1`,
          [paged.url],
        )
      )[0];
    const first = start(crash, '--once');
    expect(await first.ended, first.said).toEqual(SUCCESS);
    expect(workerDeaths(first)).toHaveLength(3);
    expect(first.log.filter(({ msg }) => msg.startsWith('relay set aside'))).toMatchObject([
      { relay: paged.url, reason: 'worker_died', detail: 'the worker died: exit code 86' },
    ]);
    await expectWhole(database, model.slice(1));
    expect(await seenOn(database, paged.url)).toEqual(new Set());
    const afterFirst = await manners();
    expect(afterFirst).toMatchObject({
      refusals: 1,
      outcome: 'failed',
      detail: 'the worker died: exit code 86',
    });
    expect(Number(afterFirst?.pause)).toBeGreaterThan(4 * 60);

    const connections = paged.connections.total;
    const second = start(crash, '--once');
    expect(await second.ended, second.said).toEqual(SUCCESS);
    expect(workerDeaths(second)).toEqual([]);
    expect(paged.connections.total).toBe(connections);

    await database.query('update relay_manners set not_before = 0');
    const third = start(crash, '--once');
    expect(await third.ended, third.said).toEqual(SUCCESS);
    expect(await manners()).toMatchObject({ refusals: 2, outcome: 'failed' });
    expect(Number((await manners())?.pause)).toBeGreaterThan(9 * 60);

    await database.query('update relay_manners set not_before = 0');
    const healed = start({}, '--once');
    expect(await healed.ended, healed.said).toEqual(SUCCESS);
    await expectWhole(database, model);
    expect(await manners()).toMatchObject({ refusals: 0, outcome: 'complete' });
  });
});

describe('BIGBROTR_CRASH_AT', () => {
  it('that names no point is refused, so that no test waits for it in vain', () => {
    expect(plannedCrash({}, 1)).toBeNull();
    expect(plannedCrash({ BIGBROTR_CRASH_AT: 'after-page:3' }, 1)).toMatchObject({ left: 3 });
    for (const wrong of ['nowhere', 'after-page:0', 'after-page:x'])
      expect(() => plannedCrash({ BIGBROTR_CRASH_AT: wrong }, 1)).toThrow('names no crash point');
  });
});
