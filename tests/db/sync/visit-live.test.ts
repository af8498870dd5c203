import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, vi } from 'vitest';
import { forgedEvents, signedEvent, signedEvents } from '../../fixtures/events.ts';
import {
  fresh,
  idsOf,
  isLive,
  live,
  NOW,
  notFollowed,
  now,
  OLD,
  onFollow,
  liveTest as test,
} from '../../fixtures/visit-live.ts';
import { closed, type ScriptedRelay } from '../../relay/scripted-relay.ts';

describe('events of a live subscription', () => {
  test('are archived as they arrive, over the connection of the visit', async ({
    startRelay,
    followed,
    archive,
    archived,
    told,
  }) => {
    const relay = await startRelay();
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

  test('are archived at once when late or backdated too', async ({
    startRelay,
    followed,
    archived,
  }) => {
    const relay = await startRelay();
    await followed(relay);
    const late = signedEvents(30, { from: NOW - 9000, to: NOW - 200, seed: 5 });
    for (const event of late) relay.publish(event);
    await archived(relay, late);
  });

  test('are all archived when 500 arrive at a time', async ({
    startRelay,
    followed,
    archived,
    told,
  }) => {
    const relay = await startRelay();
    await followed(relay);
    const burst = signedEvents(500, { from: NOW, to: NOW + 1, seed: 1 });
    for (const event of burst) relay.publish(event);
    await archived(relay, burst, 20_000);
    await vi.waitFor(() => expect(told()).toMatchObject({ events: 540, sightings: 540 }), 5000);
  });

  test('are stored in few batches when they trickle', async ({
    startRelay,
    followed,
    archive,
    archived,
  }) => {
    const relay = await startRelay();
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

  test('are refused and counted when forged, while valid ones are archived', async ({
    startRelay,
    followed,
    archived,
    told,
    archive,
  }) => {
    const relay = await startRelay();
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

  test('are counted when malformed, even without any valid event', async ({
    startRelay,
    followed,
    told,
  }) => {
    const relay = await startRelay();
    await followed(relay);
    relay.publish({ ...fresh('x'), kind: -1 });
    await vi.waitFor(() => expect(told().invalid).toEqual({ kind: 1 }));
    expect(live.size).toBe(1);
  });

  test('are refused when they do not match the filter', async ({
    startRelay,
    followed,
    archived,
    told,
    archive,
  }) => {
    const relay = await startRelay({ events: [], onRequest: onFollow({ ignore: ['kinds'] }) });
    await followed(relay, { filter: { kinds: [7] } });
    const wanted = signedEvent({ created_at: now(), kind: 7 });
    relay.publish(fresh('of kind 1'));
    relay.publish(wanted);
    await archived(relay, [wanted]);
    await vi.waitFor(() => expect(told().invalid).toEqual({ filter_mismatch: 1 }));
    expect(relay.requests.at(-1)?.filters).toEqual([{ kinds: [7], limit: 0 }]);
    expect(await archive.allIds()).toEqual([wanted.id]);
  });

  test('prove nothing: only the page of the next visit does', async ({
    startRelay,
    followed,
    archive,
    archived,
    visit,
  }) => {
    const relay = await startRelay();
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

describe('the next visit to a followed relay', () => {
  test('uses the same connection, and the live subscription goes on', async ({
    startRelay,
    followed,
    visit,
    archived,
  }) => {
    const relay = await startRelay();
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

  test('closes the gap of a lost connection', async ({ startRelay, followed, archive, visit }) => {
    const relay = await startRelay();
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

  test('goes on when the relay closes the live subscription during it, and opens it again', async ({
    startRelay,
    followed,
    visit,
  }) => {
    // The first page of the second visit makes the relay end the subscription that is open.
    const relay: ScriptedRelay = await startRelay({
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

  test('keeps an existing live subscription when it is cut off, and opens no new one', async ({
    startRelay,
    followed,
    visit,
    archived,
  }) => {
    const relay = await startRelay();
    await followed(relay, { stopTimestamp: NOW });
    const cut = { visitMs: -1 };
    const report = await visit(relay, { stopTimestamp: NOW + 10, ...cut });
    expect(report).toMatchObject({ outcome: 'unfinished', detail: 'time is up' });
    const event = fresh('still followed');
    relay.publish(event);
    await archived(relay, [event]);
    const other = await startRelay();
    expect(await visit(other, cut)).toMatchObject({ outcome: 'unfinished' });
    expect(live.size).toBe(1);
    await other.until(({ connections }) => connections.open === 0);
  });

  test('ends the live subscription when it is refused', async ({ startRelay, followed, visit }) => {
    const relay = await startRelay();
    await followed(relay, { stopTimestamp: NOW });
    relay.change({ onRequest: () => closed('rate-limited: slow down') });
    expect(await visit(relay, { stopTimestamp: NOW + 10 })).toMatchObject({ outcome: 'failed' });
    await relay.until(({ connections }) => connections.open === 0);
    await notFollowed();
  });
});
