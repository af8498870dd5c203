/**
 * Relays whose answers contradict what they said before, over real sockets and a real database: what was proven is
 * taken back, or the place is a named gap, and everything that is shown is archived.
 */
import { describe, expect, test } from 'vitest';
import { signedEvents } from '../support/events.ts';
import { serveNip77 } from '../support/relay-nip77.ts';
import { capsValues, type Quirk, type ScriptedRelay } from '../support/scripted-relay.ts';
import { visitBench } from '../support/visit-bench.ts';
import type { VisitOptions } from '../support/visit-context.ts';

const T = Math.floor(Date.now() / 1000);
const EVENTS = signedEvents(300, { from: T - 5_000_000, to: T - 10_000 });
const IDS = EVENTS.map(({ id }) => id).sort();

const bench = await visitBench();
const { archive } = bench;

function start(quirk: Quirk = {}, events = EVENTS): Promise<ScriptedRelay> {
  return bench.start({ events, quirk });
}

const visit = ({ url }: ScriptedRelay, options: VisitOptions = {}) =>
  archive.visit(url, { stopTimestamp: T, lingerMs: 200, batchSize: 100, ...options });

const holes = () =>
  archive.db.query('select lower(stretch)::int as second, reason from holes order by 1');

test('a relay whose every second answer is empty ends the visit after a bounded number of requests', async () => {
  const relay = await start();
  let requests = 0;
  relay.change({
    onRequest: () => {
      requests += 1;
      return requests % 2 === 0 ? 'answer' : { after: 0 };
    },
  });
  expect(await visit(relay)).toMatchObject({ detail: expect.stringMatching(/^unsteady/) });
  expect(requests).toBeLessThan(400);
  expect(await archive.ids(relay.url)).toEqual(IDS);
  expect(await archive.covered(relay.url)).toBe('{}');
});

describe('events after the EOSE of their page', () => {
  test('of a relay that sends EOSE first are archived, and nothing is proven', async () => {
    const relay = await start({ eoseAfter: 0 });
    expect(await visit(relay)).toMatchObject({
      detail: expect.stringMatching(/^events_after_eose/),
    });
    expect(relay.fired.eoseAfter).toBeGreaterThan(1);
    expect(await archive.ids(relay.url)).toEqual(IDS);
    expect(await archive.covered(relay.url)).toBe('{}');
  });

  test('take back what was proven before', async () => {
    const relay = await start();
    let requests = 0;
    relay.change({
      onRequest: () => {
        requests += 1;
        return requests < 3 ? 'answer' : { eoseAfter: 10 };
      },
    });
    expect(await visit(relay)).toMatchObject({
      detail: expect.stringMatching(/^events_after_eose/),
    });
    expect(await archive.ids(relay.url)).toEqual(IDS);
    expect(await archive.covered(relay.url)).toBe('{}');
  });
});

describe('events after the EOSE of the last page', () => {
  test('of a short history are archived, counted as an offence, and nothing is proven', async () => {
    const few = EVENTS.slice(0, 8);
    const relay = await start({ eoseAfter: 3, betweenMs: 30 }, few);
    expect(await visit(relay, { lingerMs: 600 })).toMatchObject({
      ...{ outcome: 'failed', reason: 'events_after_eose' },
    });
    expect(relay.fired.eoseAfter).toBeGreaterThan(0);
    expect(await archive.ids(relay.url)).toEqual(few.map(({ id }) => id).sort());
    expect(await archive.covered(relay.url)).toBe('{}');
    const offences = await archive.db.query('select reason from relay_offences');
    expect(offences).toContainEqual({ reason: 'after_eose' });
  });

  test('of one part of a filter take back what was proven of the parts before', async () => {
    const filter = { kinds: [1, 7] };
    const relay = await start(
      { ...capsValues(1, 'error: too many kinds'), eoseAfter: 0, betweenMs: 10 },
      EVENTS.slice(0, 20),
    );
    const options = { filter, lingerMs: 400, filterId: await archive.bigbrotr.filterId(filter) };
    expect(await visit(relay, options)).toMatchObject({ reason: 'events_after_eose' });
    expect(relay.fired.refuseFilter).toBeGreaterThan(0);
    expect(await archive.covered(relay.url)).toBe('{}');
  });
});

describe('answers that change', () => {
  test('are a complete reading only where NIP-77 has brought all of it', async () => {
    const held = signedEvents(600, { from: T - 5_000_000, to: T - 10_000 });
    const relay = await start({ serves: 0.5 }, held);
    serveNip77(relay, {});
    await archive.snapshot(relay.url, { supported_nips: [1, 77] });
    const report = await visit(relay);
    expect(relay.fired.serves).toBeGreaterThan(1);
    const archived = new Set(await archive.ids(relay.url));
    const missing = held.filter(({ id }) => !archived.has(id));
    if (report.outcome === 'complete') expect(missing).toEqual([]);
    else expect(report.reason).toMatch(/^(unsteady|withheld)$/);
    if (report.reason === 'unsteady') expect(await archive.covered(relay.url)).toBe('{}');
  });

  test('over more than one visit are named, and the next visit goes on below', async () => {
    const relay = await start(
      { serves: 0.5, betweenMs: 3 },
      signedEvents(3000, { from: T - 50_000_000, to: T - 10_000 }),
    );
    const slow = { visitMs: 1500, batchSize: 50 };
    expect(await visit(relay, slow)).toMatchObject({ outcome: 'failed', reason: 'unsteady' });
    const [hole] = await holes();
    expect(hole).toMatchObject({ reason: 'contradicted' });
    relay.forget();
    await visit(relay, slow);
    const untils = relay.requests.flatMap(({ filters }) => filters.map(({ until }) => until ?? T));
    expect(Math.max(...untils)).toBeLessThanOrEqual(Number(hole?.second) + 1);
  });

  test('from one asking to the next prove nothing', async () => {
    const relay = await start(
      { serves: 0.5 },
      signedEvents(600, { from: T - 5_000_000, to: T - 10_000 }),
    );
    const { detail } = await visit(relay);
    expect(relay.fired.serves).toBeGreaterThan(1);
    const covered = await archive.covered(relay.url);
    expect([covered, detail]).toEqual(['{}', expect.stringMatching(/^unsteady/)]);
  });

  test('cost a steady relay one request and thirty events', async () => {
    const relay = await start();
    expect(await visit(relay)).toMatchObject({ outcome: 'complete', events: 300 });
    expect(relay.requests.length).toBeLessThanOrEqual(8);
    expect(relay.eventsSent).toBeLessThanOrEqual(300 + 35);
  });
});

describe('bounds that are taken as exclusive', () => {
  test.each([[['until'] as const], [['since'] as const], [['since', 'until'] as const]])(
    '%s: every event is archived, also in the first and the last wanted second',
    async (exclusive) => {
      const first = EVENTS.at(-1)?.created_at ?? 0;
      const last = EVENTS[0]?.created_at ?? 0;
      const bounds = [Math.min(first, last), Math.max(first, last)] as const;
      const relay = await start({ exclusive, cap: 50 });
      const options = { startTimestamp: bounds[0], stopTimestamp: bounds[1] };
      expect(await visit(relay, options)).toMatchObject({ outcome: 'complete' });
      expect(relay.fired.exclusive).toBeGreaterThan(3);
      expect(await archive.ids(relay.url)).toEqual(IDS);
    },
  );
});

describe('a place that ends every answer', () => {
  test.each(['disconnect', 'closed', 'silence'] as const)(
    'by %s: its second is a hole, and all around it is archived in one visit',
    async (how) => {
      const poisoned = [EVENTS[150], EVENTS[40]].map((event) => event?.created_at ?? 0);
      const relay = await start({ poison: { createdAt: poisoned, how } });
      await visit(relay, { requestTimeoutMs: 300 });
      expect(relay.fired.poison).toBeGreaterThan(2);
      const good = EVENTS.filter(({ created_at }) => !poisoned.includes(created_at));
      expect(await archive.ids(relay.url)).toEqual(good.map(({ id }) => id).sort());
      expect(await holes()).toEqual(
        poisoned.sort((a, b) => a - b).map((second) => ({ second, reason: 'unreadable' })),
      );
      const rows = await archive.db.query('select page_limit from relay_manners');
      expect(rows).toEqual([{ page_limit: null }]);
    },
  );
});
