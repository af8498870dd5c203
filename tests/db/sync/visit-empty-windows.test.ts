/**
 * Relays that show nothing of a long window to the request of a page, however often it is repeated, and hold events in it:
 * over real sockets and a real database. Another request finds them, and what is not shown is a gap.
 */
import { describe, expect } from 'vitest';
import { apartVisitTest } from '../../fixtures/apart-visit-test.ts';
import { signedEvents } from '../../fixtures/events.ts';
import type { VisitOptions } from '../../fixtures/visit-context.ts';
import type { Quirk, ScriptedRelay } from '../../relay/scripted-relay.ts';

const T = Math.floor(Date.now() / 1000);
const RUN = T - 500_000;
const OLD = signedEvents(150, { from: T - 5_000_000, to: RUN - 1000, seed: 1 });
const NEW = signedEvents(120, { from: RUN + 1000, to: T - 10_000, seed: 2 });
const HIDDEN = signedEvents(150, { from: RUN, to: RUN + 100, seed: 3 });
const HIDDEN_IDS = new Set(HIDDEN.map(({ id }) => id));
const idsOf = (events: readonly { id: string }[]) => events.map(({ id }) => id).sort();

const test = apartVisitTest.extend(
  'visit',
  ({ archive }) =>
    ({ url }: ScriptedRelay, options: VisitOptions = {}) =>
      archive.visit(url, { stopTimestamp: T, lingerMs: 50, batchSize: 500, ...options }),
);

describe.concurrent('a relay that counts `limit` before it leaves out what it does not serve', () => {
  const quirk: Quirk = { cap: 100, serves: ({ id }) => !HIDDEN_IDS.has(id) };

  test.for([
    ['in the middle of its history', [...OLD, ...NEW]],
    ['at the top of its history', OLD],
  ] as const)('%s is read below that, too', async ([, events], { startRelay, visit, archive }) => {
    const relay = await startRelay({ events: [...events, ...HIDDEN], quirk });
    expect(await visit(relay)).toMatchObject({ outcome: 'partial', reason: 'holes' });
    expect(await archive.ids(relay.url)).toEqual(idsOf(events));
    const [hole] = await archive.db.query<{ from: number; reason: string }>(
      'select lower(stretch)::int as from, reason from holes',
    );
    expect(hole).toMatchObject({ reason: 'contradicted' });
    expect(hole?.from).toBeLessThan(RUN + 100);
    expect(relay.requests.length).toBeLessThan(60);
  });
});

test('a relay that shows nothing in pages above a size is read with smaller ones, from then on', async ({
  startRelay,
  visit,
  archive,
}) => {
  const relay = await startRelay({
    events: OLD,
    onRequest: ({ filters }) =>
      filters.some(({ limit = 500 }) => limit > 100) ? { after: 0 } : { cap: 100 },
  });
  expect(await visit(relay)).toMatchObject({ outcome: 'complete' });
  expect(await archive.ids(relay.url)).toEqual(idsOf(OLD));
  relay.forget();
  expect(await visit(relay, { stopTimestamp: T + 60 })).toMatchObject({ outcome: 'complete' });
  expect(Math.max(...relay.requests.map(({ filters: [filter] }) => filter?.limit ?? 0))).toBe(100);
  await archive.db.query('update relay_manners set page_limit_at = page_limit_at - 100000');
  relay.add(signedEvents(150, { from: T - 9000, to: T - 1000, seed: 4 }));
  expect(await visit(relay, { stopTimestamp: T + 120, overlapSeconds: 10_000 })).toMatchObject({
    outcome: 'complete',
    events: 150,
  });
});

test('a relay that shows nothing to filters without kinds is asked by kinds', async ({
  startRelay,
  visit,
  archive,
}) => {
  const serves: Quirk['serves'] = ({ kind }, { filters }) =>
    filters.some(({ kinds, ids }) => ids || kinds?.includes(kind));
  const relay = await startRelay({ events: OLD, quirk: { serves } });
  expect(await visit(relay)).toMatchObject({ outcome: 'partial', reason: 'filter_refused' });
  expect(await archive.ids(relay.url)).toEqual(idsOf(OLD));
  expect(await archive.db.query('select share from relay_coverage')).toEqual([
    { share: '0.000000' },
  ]);
});

test('a relay that holds nothing is asked about that once more, and is complete', async ({
  startRelay,
  visit,
}) => {
  const relay = await startRelay();
  expect(await visit(relay)).toMatchObject({ outcome: 'complete' });
  expect(relay.requests).toHaveLength(4);
});
