/** Which relays are followed, and with which filters. */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, vi } from 'vitest';
import { forgedEvents, signedEvent, signedEvents } from '../../fixtures/events.ts';
import {
  followWith,
  fresh,
  isLive,
  live,
  NOW,
  notFollowed,
  now,
  onFollow,
  taken,
  liveTest as test,
} from '../../fixtures/visit-live.ts';
import {
  capsValues,
  closed,
  notice,
  refusesBare,
  type ScriptedRelay,
} from '../../relay/scripted-relay.ts';

describe('a live subscription', () => {
  test('is opened for at most the configured number of relays; the others are visited', async ({
    startRelay,
    visit,
  }) => {
    followWith({ max: 2 });
    const three = await Promise.all([startRelay(), startRelay(), startRelay()]);
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

  test('is not opened with a relay that allows one subscription', async ({
    startRelay,
    archive,
    visit,
  }) => {
    const relay = await startRelay({ maxSubscriptions: { count: 1, say: 'closed' } });
    await archive.snapshot(relay.url, { limitation: { max_subscriptions: 1 } });
    expect(await visit(relay)).toMatchObject({ outcome: 'complete' });
    expect(live.size).toBe(0);
    expect(relay.requests.filter(isLive)).toEqual([]);
    await relay.until(({ connections }) => connections.open === 0);
  });

  test('is not opened when live subscriptions are off', async ({ startRelay, visit }) => {
    const relay = await startRelay();
    await visit(relay, { live: null });
    await relay.until(({ connections }) => connections.open === 0);
    expect(relay.requests.filter(isLive)).toEqual([]);
  });

  test('ends when the relay refuses it by CLOSED or NOTICE', async ({ startRelay, visit }) => {
    const relay = await startRelay({ onRequest: onFollow(closed('error: no live events')) });
    await visit(relay);
    await notFollowed();
    const other = await startRelay({ onRequest: onFollow(notice('too many concurrent REQs')) });
    await visit(other);
    await notFollowed(8000);
    for (const { connections } of [relay, other])
      await vi.waitFor(() => expect(connections.open).toBe(0));
  });

  test('goes on after a later NOTICE about something else', async ({
    startRelay,
    followed,
    archived,
  }) => {
    const relay = await startRelay();
    await followed(relay);
    relay.say('NOTICE', 'rate-limited: too many EVENTs of yours');
    const event = fresh('after the notice');
    await sleep(2500); // longer than a refused page is waited for
    relay.publish(event);
    await archived(relay, [event]);
  });

  test('ends when the relay ignores limit 0 and sends all its events', async ({
    startRelay,
    visit,
  }) => {
    const events = signedEvents(1500, { from: NOW - 1_000_000, to: NOW - 100 });
    const relay = await startRelay({ events, onRequest: onFollow({ ignore: ['limit'] }) });
    expect(await visit(relay)).toMatchObject({ outcome: 'complete', events: 1500 });
    await notFollowed();
    await relay.until(({ connections }) => connections.open === 0);
    expect(relay.fired).toMatchObject({ ignore: 1 });
  });

  test('ends when the relay sends junk without end', async ({ startRelay, followed }) => {
    const relay = await startRelay();
    await followed(relay);
    const bad = forgedEvents(1100, { from: NOW, to: NOW + 1, how: 'content' });
    for (const event of bad) relay.publish(event);
    await notFollowed();
    await relay.until(({ connections }) => connections.open === 0);
  });

  test('ends when the relay is no longer visited', async ({ startRelay, followed }) => {
    followWith({ forgetMs: 1000 });
    const relay = await startRelay();
    await followed(relay);
    await notFollowed();
    await relay.until(({ connections }) => connections.open === 0);
  });
});

describe('a relay that refuses the filter for its shape', () => {
  const kinds = [0, 1, 3, 5, 6, 7, 9735, 10002];

  test('is followed with the parts that it accepts, in one REQ', async ({
    startRelay,
    followed,
    archived,
  }) => {
    const relay = await startRelay({ quirk: capsValues(3, 'error: too many kinds') });
    await followed(relay, { filter: { kinds } });
    const filters = relay.requests.find(isLive)?.filters ?? [];
    expect(filters.flatMap((filter) => filter.kinds).sort((a, b) => Number(a) - Number(b))).toEqual(
      kinds,
    );
    const event = fresh('new');
    relay.publish(event);
    await archived(relay, [event]);
  });

  test('is not followed with more filters than its document allows', async ({
    startRelay,
    archive,
    visit,
  }) => {
    const relay = await startRelay({ quirk: capsValues(3, 'error: too many kinds') });
    await archive.snapshot(relay.url, { limitation: { max_filters: 2 } });
    expect(await visit(relay, { filter: { kinds } })).toMatchObject({ outcome: 'complete' });
    expect(live.size).toBe(0);
    expect(relay.requests.filter(isLive)).toEqual([]);
  });

  test('is followed by kinds if it refuses filters without kinds', async ({
    startRelay,
    visit,
    archived,
  }) => {
    const relay = await startRelay({ quirk: refusesBare("blocked: can't handle empty filters") });
    expect(await visit(relay)).toMatchObject({ outcome: 'partial' });
    await taken(relay);
    const event = fresh('new');
    relay.publish(event);
    await archived(relay, [event]);
  });

  test('is followed by a new kind of the archive from the next visit on', async ({
    startRelay,
    visit,
    archive,
    archived,
  }) => {
    const relay = await startRelay({ quirk: refusesBare("blocked: can't handle empty filters") });
    await visit(relay, { stopTimestamp: NOW });
    await taken(relay);
    const other = await startRelay({
      events: [signedEvent({ kind: 12_345, created_at: NOW - 500 })],
    });
    await archive.visit(other.url);
    await visit(relay, { stopTimestamp: NOW + 10 });
    const isOfKind = ({ filters }: ScriptedRelay['requests'][number]) =>
      filters.some(({ limit, kinds }) => limit === 0 && kinds?.includes(12_345));
    await relay.until(({ requests }) =>
      requests.some((request) => isOfKind(request) && request.end),
    );
    const events = [signedEvent({ kind: 12_345, created_at: now() }), fresh('of a kind before')];
    for (const event of events) relay.publish(event);
    await archived(relay, events);
    expect(live.size).toBe(1);
    expect(relay.connections).toEqual({ open: 1, total: 1, max: 1 });

    await visit(relay, { stopTimestamp: NOW + 20 });
    expect(relay.requests.filter(isLive), 'nothing has changed').toHaveLength(2);
  });
});
