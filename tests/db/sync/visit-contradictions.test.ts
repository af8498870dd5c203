/**
 * Relays whose answers contradict what they said before, over real sockets and a real database: what was proven is
 * taken back, or the place is a named gap, and everything that is shown is archived.
 */
import { describe, expect } from 'vitest';
import { apartVisitTest } from '../../fixtures/apart-visit-test.ts';
import { signedEvents } from '../../fixtures/events.ts';
import { seededRandom } from '../../fixtures/random.ts';
import type { VisitOptions } from '../../fixtures/visit-context.ts';
import {
  capsValues,
  closed,
  disconnects,
  notice,
  onServers,
  type Quirk,
  type ScriptedRelay,
  unanswered,
} from '../../relay/scripted-relay.ts';

const T = Math.floor(Date.now() / 1000);
const EVENTS = signedEvents(300, { from: T - 5_000_000, to: T - 10_000 });
const NEWEST = Math.max(...EVENTS.map(({ created_at }) => created_at));
const IDS = EVENTS.map(({ id }) => id).sort();

const test = apartVisitTest
  .extend(
    'start',
    ({ startRelay }) =>
      (quirk: Quirk = {}, events = EVENTS): Promise<ScriptedRelay> => {
        return startRelay({ events, quirk });
      },
  )
  .extend(
    'visit',
    ({ archive }) =>
      ({ url }: ScriptedRelay, options: VisitOptions = {}) =>
        archive.visit(url, { stopTimestamp: T, lingerMs: 200, batchSize: 100, ...options }),
  )
  .extend(
    'holes',
    ({ archive }) =>
      () =>
        archive.db.query<{ second: number; reason: string }>(
          'select lower(stretch)::int as second, reason from holes order by 1',
        ),
  );

/** Makes the relay answer by the number of the request, from 1. @returns how many there were */
function answering(relay: ScriptedRelay, answer: (number: number) => Quirk | 'answer') {
  let requests = 0;
  relay.change({
    onRequest: () => {
      requests += 1;
      return answer(requests);
    },
  });
  return () => requests;
}

test('a relay whose every second answer is empty ends the visit after a bounded number of requests', async ({
  start,
  visit,
  archive,
}) => {
  const relay = await start();
  const requests = answering(relay, (number) => (number % 2 === 0 ? 'answer' : { after: 0 }));
  expect(await visit(relay)).toMatchObject({ detail: expect.stringMatching(/^unsteady/) });
  expect(requests()).toBeLessThan(400);
  expect(await archive.ids(relay.url)).toEqual(IDS);
  expect(await archive.covered(relay.url)).toBe('{}');
});

describe.concurrent('a relay that later answers nothing', () => {
  const nothing: Quirk = { after: 0 };

  test('where it has shown events in this visit is not believed; the next visit reads what lies below', async ({
    start,
    visit,
    archive,
    holes,
  }) => {
    const relay = await start();
    answering(relay, (number) => (number < 3 ? 'answer' : nothing));
    expect(await visit(relay)).toMatchObject({ outcome: 'failed', reason: 'hides_events' });
    expect(await archive.covered(relay.url)).toBe('{}');
    const seconds = EVENTS.map(({ created_at }) => created_at).sort((a, b) => b - a);
    const read = await holes();
    expect(new Set(read.map(({ reason }) => reason))).toEqual(new Set(['contradicted']));
    expect(read[0]?.second).toBeLessThan(seconds[150] as number);

    relay.forget();
    relay.change({ onRequest: () => 'answer' });
    expect(await visit(relay)).toMatchObject({ outcome: 'partial', reason: 'holes' });
    expect(Math.max(...relay.requests.map(({ filters }) => filters[0]?.until ?? 0))).toBeLessThan(
      seconds[150] as number,
    );
    expect(await archive.ids(relay.url)).toEqual(IDS);
    expect(await visit(relay, { reproveSeconds: -100 })).toMatchObject({ outcome: 'complete' });
    expect(await archive.covered(relay.url)).toBe(`{[0,${T + 1})}`);
  });

  test('where only earlier visits have seen events keeps what these have proven', async ({
    start,
    visit,
    archive,
  }) => {
    const relay = await start();
    await visit(relay);
    const before = await archive.covered(relay.url);
    relay.change({ onRequest: () => nothing });
    const report = await visit(relay, { reproveSeconds: -100 });
    expect(report).toMatchObject({ outcome: 'failed', reason: 'hides_events' });
    expect(await archive.covered(relay.url)).toBe(before);
  });
});

describe.concurrent('events after the EOSE of their page', () => {
  test('of a relay that sends EOSE first are archived, and nothing is proven', async ({
    start,
    visit,
    archive,
  }) => {
    const relay = await start({ eoseAfter: 0 });
    expect(await visit(relay)).toMatchObject({
      detail: expect.stringMatching(/^events_after_eose/),
    });
    expect(relay.fired.eoseAfter).toBeGreaterThan(1);
    expect(await archive.ids(relay.url)).toEqual(IDS);
    expect(await archive.covered(relay.url)).toBe('{}');
  });

  test('take back what was proven before', async ({ start, visit, archive }) => {
    const relay = await start();
    answering(relay, (number) => (number < 3 ? 'answer' : { eoseAfter: 10 }));
    expect(await visit(relay)).toMatchObject({
      detail: expect.stringMatching(/^events_after_eose/),
    });
    expect(await archive.ids(relay.url)).toEqual(IDS);
    expect(await archive.covered(relay.url)).toBe('{}');
  });
});

describe.concurrent('events after the EOSE of the last page', () => {
  test('of a short history are archived, counted as an offence, and nothing is proven', async ({
    start,
    visit,
    archive,
  }) => {
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

  test('of one part of a filter take back what was proven of the parts before', async ({
    start,
    archive,
    visit,
  }) => {
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

describe.concurrent('answers that change', () => {
  /** The places that are asked for again are drawn with this seed. */
  const drawn = () => {
    const { next } = seededRandom(7);
    return { random: next };
  };

  test('prove nothing, though the relay speaks NIP-77', async ({ start, archive, visit }) => {
    const held = signedEvents(600, { from: T - 5_000_000, to: T - 10_000 });
    const relay = await start({ serves: 0.5 }, held);
    relay.change({ nip77: {} });
    await archive.snapshot(relay.url, { supported_nips: [1, 77] });
    const report = await visit(relay, drawn());
    expect(relay.fired.serves).toBeGreaterThan(1);
    expect(report).toMatchObject({ outcome: 'failed', reason: 'unsteady' });
    expect(await archive.covered(relay.url)).toBe('{}');
  });

  test('are found in a history of twenty events, which is asked for again as a whole', async ({
    start,
    visit,
    archive,
  }) => {
    const relay = await start({ serves: 0.5 }, EVENTS.slice(0, 20));
    const report = await visit(relay, drawn());
    expect(relay.fired.serves).toBeGreaterThan(1);
    expect(report).toMatchObject({ outcome: 'failed', reason: 'unsteady' });
    expect(await archive.covered(relay.url)).toBe('{}');
  });

  test.for([
    ['CLOSED', closed('error: could not answer')],
    ['a rate limit', closed('rate-limited: slow down')],
    ['a NOTICE', notice('ERROR: could not answer')],
    ['silence', unanswered],
    ['a lost connection', disconnects(0)],
    ['a part and no EOSE', { after: 5, end: 'silence' }],
  ] as const)(
    'prove nothing where the request that would show it gets %s',
    async ([, quirk], { start, archive, visit }) => {
      const held = signedEvents(600, { from: T - 5_000_000, to: T - 10_000 });
      const relay = await start({ serves: 0.5 }, held);
      let samples = 0;
      relay.change({
        onRequest: ({ filters }) => {
          if ((filters[0]?.since ?? 0) < 2) return 'answer'; // only what is asked for again has a `since`
          samples += 1;
          return { ...quirk, serves: 1 };
        },
      });
      const report = await visit(relay, { ...drawn(), requestTimeoutMs: 300 });
      expect(samples).toBeGreaterThan(1);
      expect(report.outcome).toBe('failed');
      expect(await archive.covered(relay.url)).toBe('{}');
    },
  );

  test('are told from a steady relay whose answers to two of three samples are lost', async ({
    start,
    archive,
    visit,
  }) => {
    const held = signedEvents(6000, { from: T - 5_000_000, to: T - 10_000 });
    const relay = await start({}, held);
    let samples = 0;
    relay.change({
      onRequest: ({ filters }) => {
        if ((filters[0]?.since ?? 0) < 2) return 'answer';
        samples += 1;
        return samples < 5 ? disconnects(0) : 'answer';
      },
    });
    expect(await visit(relay, { ...drawn(), batchSize: 500 })).toMatchObject({
      ...{ outcome: 'complete', reason: null },
    });
    expect(samples).toBe(5);
    expect(await archive.covered(relay.url)).not.toBe('{}');
  });

  test('cost a steady relay of few events one request at its first visit, and none at the next ones', async ({
    start,
    visit,
  }) => {
    const few = EVENTS.slice(0, 12);
    const relay = await start({}, few);
    const again = () => relay.requests.filter(({ filters }) => filters[0]?.until === NEWEST);
    const now = () => NEWEST + 300;
    const options = { ...drawn(), now, stopTimestamp: NEWEST + 300 };
    expect(await visit(relay, options)).toMatchObject({ outcome: 'complete', events: 12 });
    expect(again()).toHaveLength(1);
    const fresh = signedEvents(3, { from: NEWEST + 400, to: NEWEST + 500, seed: 9 });
    relay.add(fresh);
    relay.forget();
    const later = { ...options, now: () => NEWEST + 3600, stopTimestamp: NEWEST + 3600 };
    expect(await visit(relay, later)).toMatchObject({ outcome: 'complete', events: 3 });
    expect(relay.requests).toHaveLength(1);
  });

  test('of one or two events that arrived meanwhile contradict nothing', async ({
    start,
    visit,
  }) => {
    const [late, ...held] = EVENTS.slice(0, 21);
    const relay = await start({}, held);
    relay.change({
      onRequest: ({ filters }) => {
        if (late && filters[0]?.until === T - 300) relay.add([late]);
        return 'answer';
      },
    });
    const report = await visit(relay, { ...drawn(), now: () => T });
    expect(report).toMatchObject({ outcome: 'complete', events: 21 });
  });

  test('from one connection to the next are archived when coverage is proven anew', async ({
    start,
    visit,
    archive,
  }) => {
    const relay = await start(onServers(2));
    const options = { overlapSeconds: 10 ** 10, ...drawn() };
    expect(await visit(relay, options)).toMatchObject({ outcome: 'complete' });
    const first = await archive.ids(relay.url);
    expect(first.length).toBeGreaterThan(100);
    expect(first.length).toBeLessThan(200);
    await visit(relay, options);
    expect(relay.fired.serves).toBeGreaterThan(2);
    expect(await archive.ids(relay.url)).toEqual(IDS);
  });

  test('over more than one visit are named, and the next visit goes on below', async ({
    start,
    visit,
    holes,
  }) => {
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
    const pages = relay.requests.flatMap(({ filters }) =>
      filters.filter(({ authors }) => !authors),
    );
    const untils = pages.map(({ until }) => until ?? T);
    expect(Math.max(...untils)).toBeLessThanOrEqual(Number(hole?.second) + 1);
  });

  test('from one asking to the next prove nothing', async ({ start, visit, archive }) => {
    const relay = await start(
      { serves: 0.5 },
      signedEvents(600, { from: T - 5_000_000, to: T - 10_000 }),
    );
    const { detail } = await visit(relay);
    expect(relay.fired.serves).toBeGreaterThan(1);
    const covered = await archive.covered(relay.url);
    expect([covered, detail]).toEqual(['{}', expect.stringMatching(/^unsteady/)]);
  });

  test('cost a steady relay one request and thirty events', async ({ start, visit }) => {
    const relay = await start();
    expect(await visit(relay)).toMatchObject({ outcome: 'complete', events: 300 });
    expect(relay.requests.length).toBeLessThanOrEqual(8);
    expect(relay.eventsSent).toBeLessThanOrEqual(300 + 35);
  });
});

describe.concurrent('bounds that are taken as exclusive', () => {
  test.for([[['until'] as const], [['since'] as const], [['since', 'until'] as const]] as const)(
    '%s: every event is archived, also in the first and the last wanted second',
    async ([exclusive], { start, visit, archive }) => {
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

describe.concurrent('a place that ends every answer', () => {
  test.for(['disconnect', 'closed', 'silence'] as const)(
    'by %s: its second is a hole, and all around it is archived in one visit',
    async (how, { start, visit, archive, holes }) => {
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
