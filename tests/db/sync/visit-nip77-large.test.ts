import { describe, expect } from 'vitest';
import { signedEvents } from '../../fixtures/events.ts';
import type { VisitOptions } from '../../fixtures/visit-context.ts';
import { visitTest } from '../../fixtures/visit-test.ts';
import type { Nip77Options, ScriptedRelay } from '../../relay/scripted-relay.ts';

// Relays that hold more than is compared at a time: what was proven before is compared by fingerprints of its parts.

const DAY = 86_400;
const T = Math.floor(Date.now() / 1000);
const EVENTS = signedEvents(3000, { from: T - 200_000, to: T - 5000, seed: 16 });
/** Fewer than the events by far. */
const MAX_LOCAL_IDS = 100;

const test = visitTest
  .extend('provenRelay', ({ startRelay, archive }) => async (nip77: Nip77Options = {}) => {
    const relay = await startRelay({ events: EVENTS, quirk: { cap: 500 }, nip77 });
    await archive.snapshot(relay.url, { supported_nips: [1, 11, 77] });
    await archive.visit(relay.url, { stopTimestamp: T });
    await archive.db.query(
      `update coverage set proven_at = proven_at - 60 * 86400, proven_on = proven_on - 60`,
    );
    relay.forget();
    return relay;
  })
  .extend(
    'proveAgain',
    ({ archive }) =>
      async (relay: ScriptedRelay, options: VisitOptions = {}) => {
        return archive.visit(relay.url, {
          ...{ stopTimestamp: T, reproveSeconds: 30 * DAY, overlapSeconds: 0 },
          ...{ maxLocalIds: MAX_LOCAL_IDS, ...options },
        });
      },
  );

const stale = `select count(*)::int as count from coverage where proven_at < unix_now() - 86400`;

describe('a relay with more events than are compared at a time', () => {
  test('is proven unchanged by one message, though its ids are never held at once', async ({
    provenRelay,
    proveAgain,
    archive,
  }) => {
    const relay = await provenRelay();
    expect(await proveAgain(relay)).toMatchObject({ outcome: 'complete', events: 0, sightings: 0 });
    expect(relay.nip77.opened).toHaveLength(1);
    expect(relay.nip77.characters).toBeLessThan(10_000);
    expect(await archive.db.query(stale)).toEqual([{ count: 0 }]);
  });

  test('is compared again only where it has other events', async ({
    provenRelay,
    proveAgain,
    archive,
  }) => {
    const relay = await provenRelay();
    const late = signedEvents(3, { from: T - 90_000, to: T - 89_000, seed: 8 });
    relay.add(late);
    expect(await proveAgain(relay)).toMatchObject({ outcome: 'complete', events: 3 });
    expect(await archive.ids(relay.url)).toEqual([...EVENTS, ...late].map(({ id }) => id).sort());
    // The whole of it, then a few parts of a 64th each.
    expect(relay.nip77.opened.length).toBeLessThan(12);
    expect(await archive.db.query(stale)).toEqual([{ count: 0 }]);
  });

  test('that compares fewer at a time is asked for smaller windows, and proven all the same', async ({
    provenRelay,
    proveAgain,
    archive,
  }) => {
    const relay = await provenRelay({ maxIds: 1000 });
    expect(await proveAgain(relay)).toMatchObject({ outcome: 'complete', events: 0 });
    expect(relay.nip77.opened.length).toBeGreaterThan(1);
    expect(await archive.db.query(stale)).toEqual([{ count: 0 }]);
  });
});
