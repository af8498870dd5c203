/** The connection of a live subscription: what ends it, and what it survives. */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, onTestFinished, vi } from 'vitest';
import { ByteBudget } from '../../../src/relay-client/byte-budget.ts';
import { JunkLimit } from '../../../src/relay-client/junk-limit.ts';
import { signedEvent, signedEvents } from '../../fixtures/events.ts';
import {
  followWith,
  fresh,
  idsOf,
  isLive,
  live,
  NOW,
  notFollowed,
  OLD,
  onFollow,
  liveTest as test,
} from '../../fixtures/visit-live.ts';
import { startTcpProxy } from '../../network/tcp-proxy.ts';
import { closeGate, openBigbrotr } from '../../postgres/bigbrotr.ts';
import { relayAddress, throttled } from '../../relay/relays.ts';
import type { ScriptedRelay } from '../../relay/scripted-relay.ts';

describe('a followed connection', () => {
  const connect = () => ({
    timeoutMs: 5000,
    allowPrivate: true,
    torProxy: null,
    junkLimit: new JunkLimit(),
    inFlight: new ByteBudget(24 * 2 ** 20),
  });
  const connectionOf = (relay: ScriptedRelay) => {
    const session = live.take(relayAddress(relay.url).url);
    if (!session) throw new Error('the relay is not followed');
    return session.connection;
  };

  test('is not paused for one invalid event after a visit of megabytes', async ({
    startRelay,
    followed,
    visit,
    told,
  }) => {
    const relay = await startRelay();
    const options = { connect: connect(), overlapSeconds: 20_000 };
    await followed(relay, options);
    const large = Array.from({ length: 100 }, (_, n) =>
      signedEvent({ created_at: NOW - 3000 + n, content: `${n}`.padEnd(50_000, 'x') }),
    );
    for (const event of large) relay.add([event]);
    await visit(relay, options);
    const connection = connectionOf(relay);
    expect(connection.bytesReceived).toBeGreaterThan(5_000_000);
    const held = throttled(connection);
    const live = relay.requests.find(isLive)?.subscription;
    relay.say('EVENT', live, { ...fresh('odd'), content: 'changed' });
    await vi.waitFor(() => expect(told().invalid).toEqual({ id_mismatch: 1 }), 5000);
    expect(held()).toBe(0);
  });

  test('is paused for invalid events in proportion to their number', async ({
    startRelay,
    followed,
  }) => {
    const relay = await startRelay();
    await followed(relay, { connect: connect() });
    const connection = connectionOf(relay);
    const held = throttled(connection);
    const live = relay.requests.find(isLive)?.subscription;
    const event = fresh('x'.repeat(100_000)); // above what a sender is let off with
    relay.say('EVENT', live, { ...event, content: 'changed'.padEnd(100_000) });
    await vi.waitFor(() => expect(held()).toBe(1), 5000);
  });

  test('does not time out while a commit of its live events is slow', async ({
    startRelay,
    followed,
    archive,
    visit,
    archived,
  }) => {
    const relay = await startRelay();
    const options = { requestTimeoutMs: 300 };
    await followed(relay, { ...options, stopTimestamp: NOW });
    const connection = connectionOf(relay);
    const gate = await closeGate(archive.db, 'events');
    relay.publish(fresh('held up'));
    await gate.waiting(1);
    const burst = signedEvents(1500, { from: NOW, to: NOW + 1, seed: 21 });
    for (const event of burst) relay.say('EVENT', relay.requests.find(isLive)?.subscription, event);
    await vi.waitFor(() => expect(connection.isReadingPaused).toBe(true), 10_000);
    let ended = false;
    const visiting = visit(relay, { ...options, stopTimestamp: NOW + 3600 }).finally(() => {
      ended = true;
    });
    const before = relay.requests.length;
    await relay.until(({ requests }) => requests.length > before && requests.at(-1)?.end !== null);
    await sleep(1500);
    expect(ended).toBe(false);
    expect(connection.isReadingPaused).toBe(true);
    await gate.open();
    expect(await visiting).toMatchObject({ outcome: 'complete' });
    expect(live.size).toBe(1);
    await archived(relay, burst, 20_000);
  });
});

describe('a half-open connection', () => {
  test('is detected, and the next visit catches up', async ({ startRelay, visit, archived }) => {
    followWith({ keepAliveMs: 500 });
    const relay = await startRelay({ onRequest: onFollow({ end: 'freeze' }) });
    await visit(relay, { stopTimestamp: NOW });
    expect(live.size).toBe(1);
    await relay.until(({ fired }) => fired.freeze === 1);
    const missed = fresh('to the one that is gone', NOW + 1);
    relay.publish(missed);
    await notFollowed();
    relay.change({ onRequest: () => 'answer' });
    await visit(relay, { stopTimestamp: NOW + 5 });
    await archived(relay, [missed]);
    expect(live.size).toBe(1);
  });

  test('is distinguished from a connection that answers pings', async ({
    startRelay,
    followed,
    archived,
  }) => {
    followWith({ keepAliveMs: 300 });
    const relay = await startRelay();
    await followed(relay);
    await sleep(3000);
    const event = fresh('after ten pings');
    relay.publish(event);
    await archived(relay, [event]);
    expect(relay.connections.total).toBe(1);
  });
});

test('a short database outage does not end live subscriptions', async ({
  archive,
  startRelay,
  followed,
  archived,
}) => {
  const { config } = archive.db;
  const wire = await startTcpProxy(config);
  const bigbrotr = await openBigbrotr({ config: { ...config, port: wire.port } });
  const relay = await startRelay();
  await followed(relay, { bigbrotr });
  wire.refuse(Number.POSITIVE_INFINITY);
  wire.cut();
  const during = signedEvents(50, { from: NOW, to: NOW + 1, seed: 12 });
  const triesBefore = wire.total;
  for (const event of during) relay.publish(event);
  await vi.waitFor(() => expect(wire.total).toBeGreaterThan(triesBefore + 1), 5000);
  expect(await archive.ids(relay.url)).toEqual(idsOf(OLD));
  wire.refuse(0);
  await archived(relay, during);
  expect(live.size).toBe(1);
  expect(relay.connections.total).toBe(1);
  await live.close();
  await bigbrotr.close();
  await wire.close();
});

describe('shutdown', () => {
  test('stores received events and closes the connections', async ({
    startRelay,
    followed,
    archive,
    told,
  }) => {
    const relay = await startRelay();
    await followed(relay);
    onTestFinished(async () => {
      await archive.db.query('drop function if exists linger cascade');
    });
    await archive.db.query(`create function linger() returns trigger language plpgsql as
      $$ begin perform pg_sleep(2); return null; end $$`);
    await archive.db.query(
      'create trigger linger before insert on events execute function linger()',
    );
    const burst = signedEvents(300, { from: NOW, to: NOW + 1, seed: 4 });
    for (const event of burst) relay.publish(event);
    await sleep(800); // all have arrived; the first batch of them is still being stored
    const closing = live.close();
    expect(told().events).toBe(40);
    await closing;
    expect(await archive.ids(relay.url)).toEqual(idsOf([...OLD, ...burst]));
    expect(told().events).toBe(340);
    expect(live.size).toBe(0);
    await relay.until(({ connections }) => connections.open === 0);
  });

  test('of the database releases the relay; the next visit closes the gap', async ({
    startRelay,
    followed,
    archive,
    visit,
  }) => {
    const relay = await startRelay();
    await followed(relay, { stopTimestamp: NOW });
    const during = signedEvents(10, { from: NOW + 1, to: NOW + 10, seed: 6 });
    onTestFinished(async () => {
      await archive.db.query('drop function if exists away cascade');
    });
    await archive.db.query(`create function away() returns trigger language plpgsql as
      $$ begin raise exception 'the table is not to be written to' using errcode = '42501'; end $$`);
    await archive.db.query('create trigger away before insert on events execute function away()');
    for (const event of during) relay.publish(event);
    await notFollowed();
    await relay.until(({ connections }) => connections.open === 0);
    expect(await archive.ids(relay.url)).toEqual(idsOf(OLD));
    await archive.db.query('drop function away cascade');
    expect(await visit(relay, { stopTimestamp: NOW + 10 })).toMatchObject({ events: 10 });
    expect(await archive.ids(relay.url)).toEqual(idsOf([...OLD, ...during]));
    expect(live.size).toBe(1);
  });
});
