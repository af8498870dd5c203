import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import type { NostrEvent } from '../../src/nostr/event.ts';
import { ByteBudget } from '../../src/relay/byte-budget.ts';
import { UselessShare } from '../../src/relay/useless-share.ts';
import { LiveRelays } from '../../src/visit/live.ts';
import { closeGate, openBigbrotr, silent } from '../support/bigbrotr.ts';
import { forgedEvents, signedEvent, signedEvents } from '../support/events.ts';
import { relayAddress } from '../support/relays.ts';
import {
  capsValues,
  closed,
  notice,
  type OnRequest,
  type Quirk,
  refusesBare,
  type ScriptedRelay,
} from '../support/scripted-relay.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { visitBench } from '../support/visit-bench.ts';
import type { VisitOptions } from '../support/visit-context.ts';

const NOW = Math.floor(Date.now() / 1000);
const OLD = signedEvents(40, { from: NOW - 10_000, to: NOW - 100 });
const now = () => Math.floor(Date.now() / 1000);
/** An event that is made now, as those are that a relay pushes. */
const fresh = (content: string, created_at = now()) => signedEvent({ created_at, content });

const { archive, start } = await visitBench({ events: OLD });
let live: LiveRelays;
beforeEach(() => {
  live = follower();
});
afterEach(() => live.close());

function follower(parts: { max?: number; keepAliveMs?: number; forgetMs?: number } = {}) {
  return new LiveRelays({ max: 10, keepAliveMs: 60_000, forgetMs: 60_000, log: silent, ...parts });
}

const visit = (relay: ScriptedRelay, options: VisitOptions = {}) =>
  archive.visit(relay.url, { live, ...options });

/** A visit, after which the relay is followed; returns when the relay has taken the subscription. */
async function followed(relay: ScriptedRelay, options: VisitOptions = {}): Promise<void> {
  const sizeBefore = live.size;
  expect(await visit(relay, options)).toMatchObject({ outcome: 'complete' });
  expect(live.size).toBe(sizeBefore + 1);
  await taken(relay);
}

const isLive = (request: ScriptedRelay['requests'][number]) => request.filters[0]?.limit === 0;
/** The REQ that follows, once the relay has answered it with EOSE. */
const taken = (relay: ScriptedRelay) =>
  relay.until(({ requests }) => requests.some((request) => isLive(request) && request.end));

/** How REQs that follow are answered; the others as usual. */
const onFollow =
  (quirk: Quirk): OnRequest =>
  (request) =>
    isLive(request) ? quirk : 'answer';

const archived = (relay: ScriptedRelay, events: readonly NostrEvent[], timeout = 5000) =>
  vi.waitFor(
    async () => {
      const found = new Set(await archive.ids(relay.url));
      expect(events.filter(({ id }) => !found.has(id))).toEqual([]);
    },
    { timeout, interval: 20 },
  );

const notFollowed = (timeout = 5000) =>
  vi.waitFor(() => expect(live.size).toBe(0), { timeout, interval: 10 });

const idsOf = (events: readonly NostrEvent[]) => events.map(({ id }) => id).sort();

function told(): { events: number; sightings: number; invalid: Record<string, number> } {
  const sum = { events: 0, sightings: 0, invalid: {} as Record<string, number> };
  for (const { events, sightings, invalid } of archive.told) {
    sum.events += events;
    sum.sightings += sightings;
    for (const [reason, times] of Object.entries(invalid))
      sum.invalid[reason] = (sum.invalid[reason] ?? 0) + times;
  }
  return sum;
}

describe('what a followed relay brings', () => {
  test('is archived as it comes, over the connection of the visit', async () => {
    const relay = await start();
    await followed(relay);
    expect(await archive.ids(relay.url)).toEqual(idsOf(OLD));
    const event = fresh('now');
    relay.publish(event);
    await archived(relay, [event]);
    expect(await archive.allIds()).toEqual(idsOf([...OLD, event]));
    await vi.waitFor(
      () => expect(told()).toMatchObject({ events: 41, sightings: 41, invalid: {} }),
      5000,
    );
    expect(relay.connections).toEqual({ open: 1, total: 1, max: 1 });
  });

  test('late and backdated events are archived at once too', async () => {
    const relay = await start();
    await followed(relay);
    const late = signedEvents(30, { from: NOW - 9000, to: NOW - 200, seed: 5 });
    for (const event of late) relay.publish(event);
    await archived(relay, late);
  });

  test('500 at a time all arrive', async () => {
    const relay = await start();
    await followed(relay);
    const burst = signedEvents(500, { from: NOW, to: NOW + 1, seed: 1 });
    for (const event of burst) relay.publish(event);
    await archived(relay, burst, 20_000);
    await vi.waitFor(() => expect(told()).toMatchObject({ events: 540, sightings: 540 }), 5000);
  });

  test('a trickle is stored in few batches', async () => {
    const relay = await start();
    await followed(relay);
    const before = archive.told.length;
    const trickle = signedEvents(100, { from: NOW, to: NOW + 1, seed: 11 });
    for (const event of trickle) {
      relay.publish(event);
      await sleep(5);
    }
    await archived(relay, trickle);
    expect(archive.told.length - before).toBeLessThanOrEqual(20);
  });

  test('forged ones are refused and counted, good ones among them archived', async () => {
    const relay = await start();
    await followed(relay);
    const window = { from: NOW, to: NOW + 1 };
    const good = signedEvents(5, window);
    const bad = [
      ...forgedEvents(7, { ...window, seed: 2 }),
      ...forgedEvents(3, { ...window, seed: 3, how: 'content' }),
    ];
    for (const event of bad) relay.publish(event);
    for (const event of good) relay.publish(event);
    await archived(relay, good);
    await vi.waitFor(() => expect(told().invalid).toEqual({ bad_signature: 7, id_mismatch: 3 }));
    expect(await archive.allIds()).toEqual(idsOf([...OLD, ...good]));
  });

  test('what no event can be is counted even when nothing good comes along', async () => {
    const relay = await start();
    await followed(relay);
    relay.publish({ ...fresh('x'), kind: -1 });
    await vi.waitFor(() => expect(told().invalid).toEqual({ kind: 1 }));
    expect(live.size).toBe(1);
  });

  test('answers the filter, or is refused', async () => {
    const relay = await start({ events: [], onRequest: onFollow({ ignore: ['kinds'] }) });
    await followed(relay, { filter: { kinds: [7] } });
    const wanted = signedEvent({ created_at: now(), kind: 7 });
    relay.publish(fresh('of kind 1'));
    relay.publish(wanted);
    await archived(relay, [wanted]);
    await vi.waitFor(() => expect(told().invalid).toEqual({ filter_mismatch: 1 }));
    expect(relay.requests.at(-1)?.filters).toEqual([{ kinds: [7], limit: 0 }]);
    expect(await archive.allIds()).toEqual([wanted.id]);
  });

  test('proves nothing: only the page of the next visit does', async () => {
    const relay = await start();
    await followed(relay, { stopTimestamp: NOW });
    const before = await archive.covered(relay.url);
    const event = fresh('later', NOW + 5);
    relay.publish(event);
    await archived(relay, [event]);
    expect(await archive.covered(relay.url)).toBe(before);
    expect(before).toBe(`{[0,${NOW + 1})}`);
    await visit(relay, { stopTimestamp: NOW + 10 });
    expect(await archive.covered(relay.url)).toBe(`{[0,${NOW + 11})}`);
  });
});

describe('the next visit', () => {
  test('uses the same connection, and following goes on', async () => {
    const relay = await start();
    await followed(relay, { stopTimestamp: NOW });
    for (let round = 1; round <= 3; round++) {
      const stopTimestamp = NOW + 10 * round;
      expect(await visit(relay, { stopTimestamp })).toMatchObject({ outcome: 'complete' });
      expect(live.size).toBe(1);
      const event = fresh(`round ${round}`, stopTimestamp + 1);
      relay.publish(event);
      await archived(relay, [event]);
    }
    expect(relay.requests.filter(isLive)).toHaveLength(1);
    expect(relay.connections).toEqual({ open: 1, total: 1, max: 1 });
  });

  test('closes the gap of a lost connection', async () => {
    const relay = await start();
    await followed(relay, { stopTimestamp: NOW });
    relay.dropAll();
    await notFollowed();
    const missed = signedEvents(20, { from: NOW + 1, to: NOW + 10, seed: 9 });
    for (const event of missed) relay.publish(event);
    expect(await archive.ids(relay.url)).toEqual(idsOf(OLD));
    expect(await visit(relay, { stopTimestamp: NOW + 10 })).toMatchObject({
      outcome: 'complete',
      events: 20,
    });
    expect(await archive.ids(relay.url)).toEqual(idsOf([...OLD, ...missed]));
    expect(live.size).toBe(1);
    expect(relay.connections).toEqual({ open: 1, total: 2, max: 1 });
  });

  test('goes on when the relay closes the live subscription in the midst of it, and follows again', async () => {
    // The first page of the second visit makes the relay end the subscription that is open.
    const relay: ScriptedRelay = await start({
      onRequest: (_request, n) => {
        const open = relay.requests.find(isLive);
        if (open && n === open.n + 1)
          relay.say('CLOSED', open.subscription, 'error: one at a time');
        return 'answer';
      },
    });
    await followed(relay, { stopTimestamp: NOW });
    const lives = () => relay.requests.filter(isLive).length;
    expect(lives()).toBe(1);
    expect(await visit(relay, { stopTimestamp: NOW + 10 })).toMatchObject({ outcome: 'complete' });
    expect(live.size).toBe(1);
    await relay.until(() => lives() === 2);
    expect(relay.connections).toEqual({ open: 1, total: 1, max: 1 });
  });

  test('that does not get to the end keeps a relay that is followed already, and starts with no other', async () => {
    const relay = await start();
    await followed(relay, { stopTimestamp: NOW });
    const cut = { visitMs: -1 };
    const report = await visit(relay, { stopTimestamp: NOW + 10, ...cut });
    expect(report).toMatchObject({ outcome: 'unfinished', detail: 'time is up' });
    const event = fresh('still followed');
    relay.publish(event);
    await archived(relay, [event]);
    const other = await start();
    expect(await visit(other, cut)).toMatchObject({ outcome: 'unfinished' });
    expect(live.size).toBe(1);
    await other.until(({ connections }) => connections.open === 0);
  });

  test('that was refused leaves the relay alone', async () => {
    const relay = await start();
    await followed(relay, { stopTimestamp: NOW });
    relay.change({ onRequest: () => closed('rate-limited: slow down') });
    expect(await visit(relay, { stopTimestamp: NOW + 10 })).toMatchObject({ outcome: 'failed' });
    await relay.until(({ connections }) => connections.open === 0);
    await notFollowed();
  });
});

describe('a followed connection', () => {
  const connect = () => ({
    timeoutMs: 5000,
    allowPrivate: true,
    torProxy: null,
    useless: new UselessShare(),
    inFlight: new ByteBudget(24 * 2 ** 20),
  });
  const connectionOf = (relay: ScriptedRelay) => {
    const session = live.take(relayAddress(relay.url).url);
    if (!session) throw new Error('the relay is not followed');
    return session.connection;
  };

  test('is not held for one broken event after a visit of megabytes', async () => {
    const relay = await start();
    const options = { connect: connect(), overlapSeconds: 20_000 };
    await followed(relay, options);
    const large = Array.from({ length: 100 }, (_, n) =>
      signedEvent({ created_at: NOW - 3000 + n, content: `${n}`.padEnd(50_000, 'x') }),
    );
    for (const event of large) relay.add([event]);
    await visit(relay, options);
    const connection = connectionOf(relay);
    expect(connection.bytesReceived).toBeGreaterThan(5_000_000);
    let held = 0;
    connection.onHeld(() => {
      held += connection.isHeld ? 1 : 0;
    });
    const live = relay.requests.find(isLive)?.subscription;
    relay.say('EVENT', live, { ...fresh('odd'), content: 'changed' });
    await vi.waitFor(() => expect(told().invalid).toEqual({ id_mismatch: 1 }), 5000);
    expect(held).toBe(0);
  });

  test('is held for broken events by as much as they are', async () => {
    const relay = await start();
    await followed(relay, { connect: connect() });
    const connection = connectionOf(relay);
    let held = 0;
    connection.onHeld(() => {
      held += connection.isHeld ? 1 : 0;
    });
    const live = relay.requests.find(isLive)?.subscription;
    const event = fresh('x'.repeat(100_000)); // above what a sender is let off with
    relay.say('EVENT', live, { ...event, content: 'changed'.padEnd(100_000) });
    await vi.waitFor(() => expect(held).toBe(1), 5000);
  });

  test('is not timed out while a commit of its live events takes its time', async () => {
    const relay = await start();
    const options = { requestTimeoutMs: 300 };
    await followed(relay, { ...options, stopTimestamp: NOW });
    const connection = connectionOf(relay);
    const gate = await closeGate(archive.db, 'events');
    relay.publish(fresh('held up'));
    await gate.waiting(1);
    const burst = signedEvents(1500, { from: NOW, to: NOW + 1, seed: 21 });
    for (const event of burst) relay.say('EVENT', relay.requests.find(isLive)?.subscription, event);
    await vi.waitFor(() => expect(connection.isPausedByUs).toBe(true), 10_000);
    let ended = false;
    const visiting = visit(relay, { ...options, stopTimestamp: NOW + 3600 }).finally(() => {
      ended = true;
    });
    const before = relay.requests.length;
    await relay.until(({ requests }) => requests.length > before && requests.at(-1)?.end !== null);
    await sleep(1500);
    expect(ended).toBe(false);
    expect(connection.isPausedByUs).toBe(true);
    await gate.open();
    expect(await visiting).toMatchObject({ outcome: 'complete' });
    expect(live.size).toBe(1);
    await archived(relay, burst, 20_000);
  });
});

describe('who is followed', () => {
  test('no more relays than are allowed; the others are visited', async () => {
    live = follower({ max: 2 });
    const three = await Promise.all([start(), start(), start()]);
    for (const relay of three)
      expect(await visit(relay)).toMatchObject({ outcome: 'complete', sightings: 40 });
    expect(live.size).toBe(2);
    const [first, , third] = three as [ScriptedRelay, ScriptedRelay, ScriptedRelay];
    await third.until(({ connections }) => connections.open === 0);
    first.dropAll(); // makes room
    await vi.waitFor(() => expect(live.size).toBe(1));
    await visit(third, { stopTimestamp: NOW + 3600 });
    expect(live.size).toBe(2);
  });

  test('not a relay that allows one subscription', async () => {
    const relay = await start({ maxSubscriptions: { count: 1, say: 'closed' } });
    await archive.snapshot(relay.url, { limitation: { max_subscriptions: 1 } });
    expect(await visit(relay)).toMatchObject({ outcome: 'complete' });
    expect(live.size).toBe(0);
    expect(relay.requests.filter(isLive)).toEqual([]);
    await relay.until(({ connections }) => connections.open === 0);
  });

  test('nobody, where nothing is to be followed', async () => {
    const relay = await start();
    await visit(relay, { live: null });
    await relay.until(({ connections }) => connections.open === 0);
    expect(relay.requests.filter(isLive)).toEqual([]);
  });

  test('not a relay that refuses the subscription, by CLOSED or NOTICE', async () => {
    const relay = await start({ onRequest: onFollow(closed('error: no live events')) });
    await visit(relay);
    await notFollowed();
    const other = await start({ onRequest: onFollow(notice('too many concurrent REQs')) });
    await visit(other);
    await notFollowed(8000);
    for (const { connections } of [relay, other])
      await vi.waitFor(() => expect(connections.open).toBe(0));
  });

  test('still one that sends a NOTICE later: it means something else', async () => {
    const relay = await start();
    await followed(relay);
    relay.say('NOTICE', 'rate-limited: too many EVENTs of yours');
    const event = fresh('after the notice');
    await sleep(2500); // longer than a refused page is waited for
    relay.publish(event);
    await archived(relay, [event]);
  });

  test('not one that takes limit 0 for none and sends all it has', async () => {
    const events = signedEvents(1500, { from: NOW - 1_000_000, to: NOW - 100 });
    const relay = await start({ events, onRequest: onFollow({ ignore: ['limit'] }) });
    expect(await visit(relay)).toMatchObject({ outcome: 'complete', events: 1500 });
    await notFollowed();
    await relay.until(({ connections }) => connections.open === 0);
    expect(relay.fired).toMatchObject({ ignore: 1 });
  });

  test('not one that sends events of no use without end', async () => {
    const relay = await start();
    await followed(relay);
    const bad = forgedEvents(1100, { from: NOW, to: NOW + 1, how: 'content' });
    for (const event of bad) relay.publish(event);
    await notFollowed();
    await relay.until(({ connections }) => connections.open === 0);
  });

  test('not one that is no longer visited', async () => {
    live = follower({ forgetMs: 1000 });
    const relay = await start();
    await followed(relay);
    await notFollowed();
    await relay.until(({ connections }) => connections.open === 0);
  });
});

describe('a connection that is only half there', () => {
  test('is noticed, and the next visit catches up', async () => {
    live = follower({ keepAliveMs: 500 });
    const relay = await start({ onRequest: onFollow({ end: 'freeze' }) });
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

  test('is not taken for one that answers pings', async () => {
    live = follower({ keepAliveMs: 300 });
    const relay = await start();
    await followed(relay);
    await sleep(3000);
    const event = fresh('after ten pings');
    relay.publish(event);
    await archived(relay, [event]);
    expect(relay.connections.total).toBe(1);
  });
});

test('a database that is away for a moment is waited for: following goes on', async () => {
  const { config } = archive.db;
  const wire = await startTcpProxy(config);
  const bigbrotr = await openBigbrotr({ config: { ...config, port: wire.port } });
  const relay = await start();
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

describe('the end', () => {
  test('stores what has arrived and closes the connections', async () => {
    const relay = await start();
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

  test('of the database lets the relay go; nothing is lost after the next visit', async () => {
    const relay = await start();
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

describe('a relay that refuses the filter for its shape', () => {
  const kinds = [0, 1, 3, 5, 6, 7, 9735, 10002];

  test('is followed with the parts that it takes, in one REQ', async () => {
    const relay = await start({ quirk: capsValues(3, 'error: too many kinds') });
    await followed(relay, { filter: { kinds } });
    const filters = relay.requests.find(isLive)?.filters ?? [];
    expect(filters.flatMap((filter) => filter.kinds).sort((a, b) => Number(a) - Number(b))).toEqual(
      kinds,
    );
    const event = fresh('new');
    relay.publish(event);
    await archived(relay, [event]);
  });

  test('is not followed with more filters than its document allows', async () => {
    const relay = await start({ quirk: capsValues(3, 'error: too many kinds') });
    await archive.snapshot(relay.url, { limitation: { max_filters: 2 } });
    expect(await visit(relay, { filter: { kinds } })).toMatchObject({ outcome: 'complete' });
    expect(live.size).toBe(0);
    expect(relay.requests.filter(isLive)).toEqual([]);
  });

  test('is followed by kinds where it refuses filters without any', async () => {
    const relay = await start({ quirk: refusesBare("blocked: can't handle empty filters") });
    expect(await visit(relay)).toMatchObject({ outcome: 'partial' });
    await taken(relay);
    const event = fresh('new');
    relay.publish(event);
    await archived(relay, [event]);
  });
});
