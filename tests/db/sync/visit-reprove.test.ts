import { describe, expect } from 'vitest';
import type { Relay } from '../../../src/database/bigbrotr.ts';
import { signedEvent, signedEvents } from '../../fixtures/events.ts';
import type { VisitOptions } from '../../fixtures/visit-context.ts';
import { visitTest } from '../../fixtures/visit-test.ts';
import { relayAddress } from '../../relay/relays.ts';
import { afterwards, closed, type ScriptedRelay } from '../../relay/scripted-relay.ts';

const DAY = 86_400;
const T = Math.floor(Date.now() / 1000);
const EVENTS = signedEvents(200, { from: T - 100_000, to: T - 5000 });

const test = visitTest
  .override('relayDefaults', { events: EVENTS })
  /** Coverage grows stale after 30 days, more or less, and the relay is read up to T unless told. */
  .extend(
    'visit',
    ({ archive }) =>
      (relay: ScriptedRelay, options: VisitOptions = {}) =>
        archive.visit(relay.url, { stopTimestamp: T, reproveSeconds: 30 * DAY, ...options }),
  )
  /** Makes all proofs this number of seconds older. */
  .extend(
    'age',
    ({ archive }) =>
      (seconds: number) =>
        archive.db.query(
          'update coverage set proven_at = proven_at - $1::bigint, proven_on = proven_on - ($1::bigint / 86400)::int',
          [seconds],
        ),
  )
  .extend('dueAfter', ({ archive }) => async (relay: ScriptedRelay, seconds: number) => {
    const filterId = await archive.bigbrotr.filterId({});
    const known = await archive.relay(relay.url);
    const ages = { snapshotSeconds: 3600, intervalSeconds: seconds };
    const lists = [
      await archive.bigbrotr.relaysDue([known], filterId, seconds),
      await archive.bigbrotr.relaysToSynchronize(filterId, ages),
    ];
    return lists.map((list) => list.length);
  });

const untilsOf = ({ requests }: ScriptedRelay) => requests.map(({ filters }) => filters[0]?.until);

describe('old coverage', () => {
  test('is read again, and events that were added silently are found', async ({
    startRelay,
    visit,
    age,
    archive,
  }) => {
    const relay = await startRelay();
    expect(await visit(relay)).toMatchObject({ outcome: 'complete', events: 200 });
    const late = signedEvents(3, { from: T - 90_000, to: T - 10_000, seed: 8 });
    relay.add(late);
    await age(20 * DAY);
    expect(await visit(relay)).toMatchObject({ outcome: 'complete', pages: 0, events: 0 });
    await age(20 * DAY);
    expect(await visit(relay)).toMatchObject({ outcome: 'complete', events: 3 });
    expect(await archive.ids(relay.url)).toEqual([...EVENTS, ...late].map(({ id }) => id).sort());
    expect(await archive.covered(relay.url)).toBe(`{[0,${T + 1})}`);
    const [proof] = await archive.db.query<{ age: string }>(
      'select oldest_proof_age as age from relay_coverage',
    );
    expect(Number(proof?.age)).toBeLessThan(3600);
    expect(await visit(relay)).toMatchObject({ outcome: 'complete', pages: 0 });
  });

  test('is read after what was never read, and only if it is stale', async ({
    startRelay,
    visit,
    age,
    archive,
  }) => {
    const relay = await startRelay();
    await visit(relay, { startTimestamp: T - 50_000 });
    await age(40 * DAY);
    await visit(relay, { startTimestamp: T - 80_000, stopTimestamp: T - 50_001 });
    relay.forget();
    await visit(relay, { startTimestamp: T - 110_000, stopTimestamp: T + 100 });
    const untils = untilsOf(relay);
    // New on top, then below what was read; then the old part, and the one between not at all.
    expect(untils[0]).toBe(T + 101); // a second wider while it is not known how the relay takes bounds
    const below = untils.findIndex((until) => until === T - 80_001 || until === T - 80_000);
    const old = untils.findIndex((until) => until === T || until === T + 1);
    expect(below).toBeGreaterThan(0);
    expect(old).toBeGreaterThan(below);
    expect(untils).not.toContain(T - 50_001);
    expect(untils).not.toContain(T - 50_000);
    expect(await archive.covered(relay.url)).toBe(`{[${T - 110_000},${T + 101})}`);
  });

  test('stays proven until it is proven anew, whatever the result', async ({
    startRelay,
    visit,
    archive,
    age,
  }) => {
    const relay = await startRelay({
      events: signedEvents(600, { from: T - 100_000, to: T - 5000 }),
    });
    await visit(relay, { batchSize: 100 });
    const before = await archive.covered(relay.url);
    await age(40 * DAY);
    relay.forget();
    relay.change({ onRequest: afterwards(3, closed('error: too busy')) });
    const report = await visit(relay, { batchSize: 100, requestTimeoutMs: 500 });
    expect(report).toMatchObject({ outcome: 'partial' });
    expect(relay.fired.closed).toBeGreaterThan(0);
    expect(await archive.covered(relay.url)).toBe(before);
    const rows = await archive.db.query<{ old: boolean }>(
      'select proven_at < $1 as old from coverage order by proven_on',
      [T - DAY],
    );
    expect(rows).toEqual([{ old: true }, { old: false }]);
    // The rest is what the next visit reads.
    relay.forget();
    relay.change({ onRequest: () => 'answer' });
    expect(await visit(relay, { batchSize: 100 })).toMatchObject({ outcome: 'complete' });
    expect(Math.max(...untilsOf(relay).map(Number))).toBeLessThan(T);
    expect(await archive.covered(relay.url)).toBe(before);
  });

  test('of relays that were read on one day becomes stale on different days', async ({
    archive,
  }) => {
    const filterId = await archive.bigbrotr.filterId({});
    const many = await archive.bigbrotr.relaysOf(
      Array.from({ length: 64 }, (_, index) => relayAddress(`wss://relay${index}.example.com`)),
    );
    const wanted = { filterId, since: 0, until: T };
    const ages = { overlapSeconds: 0, reproveSeconds: 1000 * DAY };
    const begin = (relay: Relay) => archive.bigbrotr.beginVisit(relay, wanted, ages);
    for (const relay of many) {
      await begin(relay);
      await archive.bigbrotr.store({
        ...{ relay, filterId, seenAt: T, events: [], known: [], sighted: [], holes: [] },
        ...{ proven: [{ since: 0, until: T }], evidence: 'paging' as const },
      });
    }
    const due = async () => {
      const gaps = await Promise.all(many.map(begin));
      return gaps.filter(({ stale }) => stale.length > 0).length;
    };
    const shares: number[] = [];
    for (let days = 740; days <= 1260; days += 65) {
      await archive.db.query('update coverage set proven_at = $1', [T - days * DAY]);
      shares.push(await due());
    }
    expect(shares[0]).toBe(0);
    expect(shares.at(-1)).toBe(64);
    // An eighth of them comes due in each eighth of the time.
    for (const [step, share] of shares.entries())
      expect(Math.abs(share - 8 * step)).toBeLessThanOrEqual(6);
  });
});

describe('the newest stretch', () => {
  test('is read again on each visit: late events inside the overlap are found', async ({
    startRelay,
    visit,
    archive,
    age,
  }) => {
    const relay = await startRelay();
    relay.add([
      signedEvent({ created_at: T - 1100, content: 'in time, and newer than what is late' }),
    ]);
    const overlap = { overlapSeconds: 3600 };
    await visit(relay, { ...overlap, stopTimestamp: T - 1000 });
    const inside = signedEvent({ created_at: T - 4000, content: 'an hour late' });
    const outside = signedEvent({ created_at: T - 40_000, content: 'half a day late' });
    relay.add([inside, outside]);
    expect(await visit(relay, overlap)).toMatchObject({ outcome: 'complete', events: 1 });
    expect(await archive.ids(relay.url)).toContain(inside.id);
    expect(await archive.ids(relay.url)).not.toContain(outside.id);
    await age(60 * DAY); // the other one is for the slow schedule
    await visit(relay, overlap);
    expect(await archive.ids(relay.url)).toContain(outside.id);
  });

  test('stays proven while it is read again', async ({ startRelay, visit, archive }) => {
    const relay = await startRelay();
    await visit(relay);
    const before = await archive.covered(relay.url);
    relay.change({ onRequest: () => closed('error: not now') });
    await visit(relay, { overlapSeconds: 50_000, requestTimeoutMs: 500 });
    expect(await archive.covered(relay.url)).toBe(before);
  });
});

describe('a visit with nothing to do', () => {
  test.for<[string, VisitOptions]>([
    ['because everything is proven', {}],
    ['because it would begin in the future', { startTimestamp: T + 5000 }],
    ['because it would resume where it ends', { startTimestamp: 'resume' }],
  ])(
    '%s is complete, needs no connection, and is not due again at once',
    async ([_why, options], { startRelay, archive, visit, dueAfter }) => {
      const relay = await startRelay();
      await archive.snapshot(relay.url);
      await visit(relay);
      await relay.until(({ connections }) => connections.open === 0);
      relay.forget();
      expect(await dueAfter(relay, 0)).toEqual([1, 1]);
      expect(await visit(relay, options)).toMatchObject({
        outcome: 'complete',
        pages: 0,
        bytes: 0,
      });
      expect(relay.connections.total).toBe(0);
      expect(await dueAfter(relay, 900)).toEqual([0, 0]);
      await archive.db.query('update visits set started_at = started_at - 901');
      expect(await dueAfter(relay, 900)).toEqual([1, 1]);
    },
  );

  test('is recorded also when it was the first', async ({
    startRelay,
    archive,
    visit,
    dueAfter,
  }) => {
    const relay = await startRelay();
    await archive.snapshot(relay.url);
    expect(await visit(relay, { startTimestamp: T + 5000 })).toMatchObject({ outcome: 'complete' });
    expect(await dueAfter(relay, 900)).toEqual([0, 0]);
    const [row] = await archive.db.query('select share, gaps, outcome from relay_coverage');
    expect(row).toEqual({ share: null, gaps: '0', outcome: 'complete' });
  });
});

describe('a visit that resumes', () => {
  const resume = { startTimestamp: 'resume' } as const;

  test('reads everything at first, however often it is cut off', async ({
    startRelay,
    visit,
    archive,
  }) => {
    const relay = await startRelay();
    const outcomes: string[] = [];
    for (let visits = 0; visits < 8 && outcomes.at(-1) !== 'complete'; visits++) {
      relay.forget();
      relay.change({ onRequest: afterwards(5, closed('rate-limited: slow down')) });
      outcomes.push((await visit(relay, { ...resume, batchSize: 20 })).outcome);
      await archive.db.query('update relay_manners set pace_ms = 0');
    }
    expect(outcomes.slice(0, 2)).toEqual(['partial', 'partial']);
    expect(outcomes.at(-1)).toBe('complete');
    expect(await archive.ids(relay.url)).toHaveLength(200);
    expect(await archive.covered(relay.url)).toBe(`{[0,${T + 1})}`);
  });

  test('then reads what is new, and the overlap', async ({ startRelay, visit, archive }) => {
    const relay = await startRelay();
    await visit(relay, { ...resume, stopTimestamp: T - 1000 });
    relay.forget();
    relay.add([
      signedEvent({ created_at: T - 500, content: 'new' }),
      signedEvent({ created_at: T - 1200, content: 'late' }),
      signedEvent({ created_at: T - 40_000, content: 'too late' }),
    ]);
    const report = await visit(relay, { ...resume, overlapSeconds: 600 });
    expect(report).toMatchObject({ outcome: 'complete', events: 2 });
    const [row] = await archive.db.query('select wanted::text from visits');
    expect(row).toEqual({ wanted: `[${T - 1599},${T + 1})` });
  });
});
