import { describe, expect, test } from 'vitest';
import { signedEvent } from '../../fixtures/events.ts';
import { EVENTS, filterBench, KINDS, T } from '../../fixtures/filter-bench.ts';
import { capsValues, type ScriptedRelay } from '../../relay/scripted-relay.ts';

const DAY = 86_400;

const { archive, start, visit, coverage, coveredOf, policy } = await filterBench();

const longest = ({ requests }: ScriptedRelay) =>
  Math.max(...requests.map(({ filters }) => filters[0]?.kinds?.length ?? 0));

const all = `{[0,${T + 1})}`;

describe('a relay that limits the kinds of a filter', () => {
  test.each([
    [10, 'error: too many kinds asked for'],
    [10, 'blocked: too many kinds asked for'],
    [7, 'invalid: max kinds exceeded'],
    [3, 'restricted: too many kinds (max 3)'],
    [1, 'too many kinds in filter: 20'],
  ])('to %d, with the refusal "%s", is read in parts', async (cap, text) => {
    const relay = await start({ quirk: capsValues(cap, text) });
    const report = await visit(relay, { kinds: KINDS });
    expect(report).toMatchObject({ outcome: 'complete', detail: null, events: 60 });
    expect(relay.fired.refuseFilter).toBeLessThanOrEqual(5);
    expect(await archive.ids(relay.url)).toHaveLength(60);
    expect(await coveredOf(relay, { kinds: KINDS })).toBe(all);
    expect(await policy(relay)).toMatchObject({ reason: null, refusals: 0 });
    const [row, ...others] = await coverage(relay);
    expect(others).toEqual([]);
    expect(row).toMatchObject({ share: 1, asked_by: 'parts', asked_share: 1, outcome: 'complete' });

    relay.forget();
    relay.add([signedEvent({ kind: 1, created_at: T + 5 })]);
    const next = await visit(relay, { kinds: KINDS }, { stopTimestamp: T + 10 });
    expect(next).toMatchObject({ outcome: 'complete', events: 1 });
    expect(relay.fired.refuseFilter).toBeUndefined();
    expect(longest(relay)).toBeLessThanOrEqual(cap);
  });

  test('and refuses by NOTICE, as strfry does, is read in parts', async () => {
    const text = 'ERROR: bad req: filter validation failed: too many kinds in filter: 20';
    const relay = await start({ quirk: capsValues(10, text, 'notice') });
    const report = await visit(relay, { kinds: KINDS }, { requestTimeoutMs: 300 });
    expect(report).toMatchObject({ outcome: 'complete', events: 60 });
  });

  test('and pages of 20 events is read in parts, page by page', async () => {
    const many = KINDS.flatMap((kind, place) =>
      Array.from({ length: 12 }, (_, number) =>
        signedEvent({ kind, created_at: T - 40_000 + place * 7 + number * 200 }),
      ),
    );
    const quirk = { ...capsValues(10, 'error: too many kinds'), cap: 20 };
    const relay = await start({ events: many, quirk });
    expect(await visit(relay, { kinds: KINDS })).toMatchObject({ outcome: 'complete' });
    expect(await archive.ids(relay.url)).toHaveLength(240);
    expect(await coveredOf(relay, { kinds: KINDS })).toBe(all);
  });

  test('is asked with the whole filter again after a week, and read with it if it accepts it', async () => {
    const relay = await start({ quirk: capsValues(10, 'error: too many kinds') });
    await visit(relay, { kinds: KINDS });
    relay.forget();
    relay.change({ quirk: {} });
    const now = T + 8 * DAY;
    relay.add([signedEvent({ kind: 3, created_at: T + DAY })]);
    const report = await visit(relay, { kinds: KINDS }, { now: () => now, stopTimestamp: T + DAY });
    expect(report).toMatchObject({ outcome: 'complete', events: 1 });
    expect(longest(relay)).toBe(20);
    const [row] = await coverage(relay);
    expect(row).toMatchObject({ share: 1, asked_by: 'filter', filters_asked: 1 });
    expect(await policy(relay)).toMatchObject({ max_filter_values: null });
  });

  test('keeps what was proven of the whole filter before it refused it', async () => {
    const relay = await start();
    await visit(relay, { kinds: KINDS }, { stopTimestamp: T - 50 });
    relay.forget();
    relay.change({ quirk: capsValues(10, 'error: too many kinds') });
    const report = await visit(relay, { kinds: KINDS });
    expect(report).toMatchObject({ outcome: 'complete' });
    expect(relay.eventsSent).toBe(0);
    expect(await coveredOf(relay, { kinds: KINDS })).toBe(all);
  });

  test('is covered only where all parts are, when the visit is cut between them', async () => {
    const relay = await start({ quirk: capsValues(5, 'error: too many kinds') });
    const stop = new AbortController();
    relay.change({
      onRequest: ({ filters }) => {
        const kinds = filters[0]?.kinds ?? [];
        if (kinds.includes(30311) && kinds.length === 5) stop.abort();
        return 'answer';
      },
    });
    const report = await visit(relay, { kinds: KINDS }, { signal: stop.signal });
    expect(report).toMatchObject({ outcome: 'unfinished', detail: 'stopped' });
    expect(await coveredOf(relay, { kinds: KINDS })).toBe('{}');
    const [row] = await coverage(relay);
    expect(row).toMatchObject({ share: 0, asked_by: 'parts', filters_asked: 4 });
    relay.forget();
    relay.change({ onRequest: () => 'answer' });
    expect(await visit(relay, { kinds: KINDS })).toMatchObject({ outcome: 'complete' });
    expect(await archive.ids(relay.url)).toHaveLength(60);
    expect(await coveredOf(relay, { kinds: KINDS })).toBe(all);
    for (const { filters } of relay.requests)
      expect(filters[0]?.kinds, 'what was read is not read again').not.toContain(0);
  });

  test('has the weakest evidence and the oldest proof of its parts', async () => {
    const relay = await start({ quirk: capsValues(10, 'error: too many kinds') });
    await visit(relay, { kinds: KINDS });
    const [part] = await archive.db.query<{ filter_id: number }>(
      `select part_id as filter_id from filter_parts order by part_id limit 1`,
    );
    await archive.db.query(
      `update coverage set evidence = 'nip77', proven_on = '2026-01-02', proven_at = 1767312000 where filter_id = $1`,
      [part?.filter_id],
    );
    await archive.db.query(
      `select record_parts_coverage(relay_id, filter_id) from filter_parts group by relay_id, filter_id`,
    );
    const id = await archive.bigbrotr.filterId({ kinds: KINDS });
    const rows = await archive.db.query(
      `select evidence, proven_on::text as day, proven_at, covered::text as covered from coverage where filter_id = $1`,
      [id],
    );
    expect(rows).toEqual([
      { evidence: 'paging', day: '2026-01-02', proven_at: '1767312000', covered: all },
    ]);
  });

  test('shows an incomplete part in the row of the whole filter', async () => {
    const dense = Array.from({ length: 60 }, (_, index) =>
      signedEvent({ kind: 30311, created_at: T - 20_000, content: `${index}` }),
    );
    const quirk = { ...capsValues(10, 'error: too many kinds'), cap: 20 };
    const relay = await start({ events: [...EVENTS, ...dense], quirk });
    const report = await visit(relay, { kinds: KINDS });
    expect(report).toMatchObject({ outcome: 'partial' });
    const gaps = await archive.db.query(
      'select since, until, hole from coverage_gaps where relay_url = $1',
      [relay.url],
    );
    expect(gaps).toEqual([{ since: `${T - 20_000}`, until: `${T - 20_000}`, hole: 'dense' }]);
  });
});

describe('a relay that limits the kinds of a filter, and supports NIP-77', () => {
  test('is read in parts by NIP-77 or REQ, and its refusal of the long filter does not end NIP-77', async () => {
    const relay = await start({ quirk: capsValues(10, 'error: too many kinds') });
    relay.change({ nip77: { maxKinds: { count: 10, says: 'blocked: too many kinds' } } });
    await archive.snapshot(relay.url, { supported_nips: [1, 77] });
    expect(await visit(relay, { kinds: KINDS })).toMatchObject({ outcome: 'complete' });
    expect(await archive.ids(relay.url)).toHaveLength(60);
    expect(await coveredOf(relay, { kinds: KINDS })).toBe(all);
    expect(relay.fired['nip77-maxKinds'] ?? 0).toBeLessThanOrEqual(1);
    expect(relay.nip77.opened.every(({ kinds = [] }) => kinds.length <= 10)).toBe(true);
    const [row] = await archive.db.query(
      'select nip77_refused_at from relay_manners join relays using (relay_id) where url = $1',
      [relay.url],
    );
    expect(row).toEqual({ nip77_refused_at: null });
  });

  test('and withholds events of two parts is partial in the views until it serves them', async () => {
    const relay = await start({ quirk: capsValues(10, 'error: too many kinds') });
    const withheld = [0, 3, 30311].map((kind) =>
      signedEvent({ kind, created_at: T - 38_000, content: 'withheld' }),
    );
    const maxKinds = { count: 10, says: 'blocked: too many kinds' };
    relay.change({ nip77: { maxKinds, withheld } });
    await archive.snapshot(relay.url, { supported_nips: [1, 77] });
    const told = {
      outcome: 'partial',
      reason: 'withheld',
      detail: '3 events are listed and withheld',
    };
    expect(await visit(relay, { kinds: KINDS })).toMatchObject(told);
    const parts = await archive.db.query(
      'select outcome, stop_reason, detail from visits where is_part and ended_at is not null order by detail',
    );
    expect(parts).toEqual([
      { outcome: 'partial', stop_reason: 'withheld', detail: '1 events are listed and withheld' },
      { outcome: 'partial', stop_reason: 'withheld', detail: '2 events are listed and withheld' },
    ]);
    const views = `select c.asked_by, c.share::float as share, c.withheld::int as withheld, c.stop_reason,
                          (select sum(hole_events)::int from coverage_gaps g where g.relay_url = c.relay_url and hole = 'withheld') as gaps
                   from relay_coverage c where c.relay_url = $1`;
    expect(await archive.db.query(views, [relay.url])).toEqual([
      { asked_by: 'parts', share: 1, withheld: 3, stop_reason: 'withheld', gaps: 3 },
    ]);
    expect(await visit(relay, { kinds: KINDS }), 'when nothing is to be read').toMatchObject(told);

    // One event that is noted with the whole filter too counts once.
    await archive.db.query(
      `insert into withheld (relay_id, filter_id, id, stretch, reason, first_at, last_at, next_try_at, authenticated)
       select relay_id, $1, id, stretch, reason, first_at, last_at, next_try_at, authenticated from withheld`,
      [await archive.bigbrotr.filterId({ kinds: KINDS })],
    );
    expect(await archive.db.query(views, [relay.url])).toMatchObject([{ withheld: 3, gaps: 3 }]);

    relay.add(withheld.splice(0));
    const report = await visit(
      relay,
      { kinds: KINDS },
      { stopTimestamp: T + 1, now: () => T + 1, overlapSeconds: 10 ** 10 },
    );
    expect(report).toMatchObject({ outcome: 'complete', events: 3 });
    expect(await archive.db.query('select from withheld')).toEqual([]);
    expect(await archive.db.query(views, [relay.url])).toMatchObject([{ withheld: 0, gaps: null }]);
  });
});

describe('other refusals of a filter', () => {
  const authors = EVENTS.map(({ pubkey }) => pubkey).slice(0, 1);
  const others = Array.from({ length: 11 }, (_, index) => `${index}`.padStart(64, '0'));

  test.each([
    ['authors', { authors: [...others, ...authors] }, 60],
    ['ids', { ids: EVENTS.slice(0, 12).map(({ id }) => id) }, 12],
    ['tags', { '#t': ['a', 'b', 'c', 'd', 'e'] }, 2],
  ] as const)('%s that are too many are asked for in parts', async (name, filter, count) => {
    const tagged = ['a', 'e'].map((tag, index) =>
      signedEvent({ kind: 1, created_at: T - 100 - index, tags: [['t', tag]] }),
    );
    const events = name === 'tags' ? [...EVENTS, ...tagged] : EVENTS;
    const relay = await start({ events, quirk: capsValues(2, `error: too many ${name}`) });
    expect(await visit(relay, filter)).toMatchObject({ outcome: 'complete' });
    expect(await archive.ids(relay.url)).toHaveLength(count);
    expect(await coveredOf(relay, filter)).toBe(all);
  });

  test('a value that the relay does not serve stays a gap with its reason, and the others are read', async () => {
    const relay = await start({
      quirk: {
        refuseFilter: {
          when: ({ kinds }) => kinds?.includes(7) ?? false,
          text: 'blocked: kind not allowed: 7',
        },
      },
    });
    const filter = { kinds: [1, 3, 6, 7, 9735] };
    const report = await visit(relay, filter);
    expect(report).toMatchObject({
      outcome: 'partial',
      detail: expect.stringMatching(/^filter_refused: 1 of \d parts: blocked: kind not allowed: 7/),
      events: 12,
    });
    expect(await coveredOf(relay, filter)).toBe('{}');
    expect(await policy(relay)).toMatchObject({ reason: null, max_filter_values: null });
    const parts = await archive.db.query<{ part: string }>(
      `select part from relay_part_coverage where relay_url = $1 and share < 1`,
      [relay.url],
    );
    expect(parts).toEqual([{ part: '{"kinds":[7]}' }]);
    const holes = await archive.db.query('select distinct hole from coverage_gaps');
    expect(holes).toEqual([{ hole: 'filter_refused' }]);

    relay.forget();
    await visit(relay, filter, { stopTimestamp: T + 5 });
    expect(relay.fired.refuseFilter, 'it is not asked for again at once').toBeUndefined();
  });

  test('a refused filter with one value fails the visit, with the pause of a failure', async () => {
    const relay = await start({
      quirk: { refuseFilter: { when: () => true, text: 'blocked: kind not allowed: 7' } },
    });
    expect(await visit(relay, { kinds: [7] })).toMatchObject({
      outcome: 'failed',
      detail: 'filter_refused: blocked: kind not allowed: 7',
      pages: 1,
    });
    expect(await policy(relay)).toMatchObject({ reason: 'failed', refusals: 1 });
  });

  test('a relay that refuses every filter gets a bounded number of requests', async () => {
    const relay = await start({
      quirk: { refuseFilter: { when: () => true, text: 'error: filter too broad' } },
    });
    expect(await visit(relay, {})).toMatchObject({
      outcome: 'failed',
      detail: 'filter_refused: error: filter too broad',
    });
    expect(relay.requests.length).toBeLessThan(15);
    expect(await policy(relay)).toMatchObject({ reason: 'failed' });
  });
});
