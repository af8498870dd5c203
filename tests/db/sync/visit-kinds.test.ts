import { describe, expect, test } from 'vitest';
import type { EventFilter } from '../../../src/nostr/filter.ts';
import { signedEvent } from '../../fixtures/events.ts';
import { EVENTS, filterBench, T } from '../../fixtures/filter-bench.ts';
import { refusesBare, type ScriptedRelay } from '../../relay/scripted-relay.ts';

const DAY = 86_400;

const { archive, start, visit, coverage, coveredOf, policy } = await filterBench();

/** Takes back what is proven of seconds 1000 to 1999, as a visit does that contradicts it. */
const takeBack = ({ url }: ScriptedRelay, filterId: number) =>
  archive.db.query(
    `update coverage set covered = covered - '{[1000,2000)}'::int8multirange
     where relay_id = (select relay_id from relays where url = $1) and filter_id = $2`,
    [url, filterId],
  );

async function isCaughtUp({ url }: ScriptedRelay): Promise<boolean | undefined> {
  const [row] = await archive.db.query<{ caught_up: boolean }>(
    'select caught_up from visits join relays using (relay_id) where url = $1 and not is_part',
    [url],
  );
  return row?.caught_up;
}

const longest = ({ requests }: ScriptedRelay) =>
  Math.max(...requests.map(({ filters }) => filters[0]?.kinds?.length ?? 0));

const all = `{[0,${T + 1})}`;

describe('a relay that refuses filters without kinds', () => {
  test.each([
    'blocked: a filter has to name kinds or authors',
    'error: a filter has to name kinds or authors',
    "blocked: can't handle empty filters",
    'restricted: filters must specify at least one kind',
  ])('with "%s" is read with a filter that names some', async (text) => {
    const relay = await start({ quirk: refusesBare(text) });
    expect(await visit(relay, { kinds: [1, 7] })).toMatchObject({ outcome: 'complete', events: 6 });
    expect(relay.fired.refuseFilter).toBeUndefined();
  });

  test('is asked by kinds, ten in a filter, and the views show it', async () => {
    const odd = signedEvent({ kind: 12_345, created_at: T - 77 });
    const other = await start({ events: [odd] });
    await visit(other, {}); // so the archive comes to hold a kind that the list lacks
    const relay = await start({
      events: [...EVENTS, odd],
      quirk: refusesBare("blocked: can't handle empty filters"),
    });
    const report = await visit(relay, {});
    expect(report).toMatchObject({
      outcome: 'partial',
      detail: expect.stringMatching(/^filter_refused: asked by \d+ kinds with \d+ filters$/),
      events: 60,
    });
    expect(relay.fired.refuseFilter).toBe(1);
    expect(await archive.ids(relay.url)).toHaveLength(61);
    expect(longest(relay)).toBe(10);
    expect(await policy(relay)).toMatchObject({ reason: null, refusals: 0 });
    const [row, ...rest] = await coverage(relay);
    expect(rest).toEqual([]);
    expect(row).toMatchObject({ filter: '{}', share: 0, asked_by: 'kinds', asked_share: 1 });
    expect(await coveredOf(relay, {})).toBe('{}');
    const holes = await archive.db.query(
      'select distinct hole from coverage_gaps where relay_url = $1',
      [relay.url],
    );
    expect(holes).toEqual([{ hole: 'filter_refused' }]);

    relay.forget();
    const rare = signedEvent({ kind: 23, created_at: T - 99 });
    await visit(other, {}); // nothing new
    other.add([rare]);
    relay.add([rare]);
    await visit(other, {}, { stopTimestamp: T + 1, overlapSeconds: 1000 });
    await visit(relay, {});
    expect(relay.fired.refuseFilter).toBeUndefined();
    expect(await archive.ids(relay.url)).toHaveLength(62);
    const asked = relay.requests.map(({ filters }) => JSON.stringify(filters[0]?.kinds));
    expect([...new Set(asked)], 'only the new kind is read').toEqual(['[23]']);
  });

  test('and accepts three kinds in a filter is asked with three', async () => {
    const relay = await start({
      quirk: {
        refuseFilter: {
          when: ({ kinds }) => (kinds?.length ?? 0) === 0 || (kinds?.length ?? 0) > 3,
          text: 'blocked: too many kinds or none: a filter has to name 1 to 3 kinds',
        },
      },
    });
    expect(await visit(relay, {})).toMatchObject({ outcome: 'partial', events: 60 });
    expect(relay.fired.refuseFilter).toBeLessThan(6);
    expect(await archive.ids(relay.url)).toHaveLength(60);
  });

  test('is asked with {} again after a week, and read with it if it accepts it', async () => {
    const relay = await start({ quirk: refusesBare('error: empty filter') });
    await visit(relay, {});
    relay.forget();
    relay.change({ quirk: {} });
    await visit(relay, {}, { now: () => T + 6 * DAY });
    expect(relay.requests.filter(({ filters }) => !filters[0]?.kinds)).toEqual([]);
    const report = await visit(relay, {}, { now: () => T + 8 * DAY });
    expect(report).toMatchObject({ outcome: 'complete', detail: null });
    const [row] = await coverage(relay);
    expect(row).toMatchObject({ share: 1, asked_by: 'filter', asked_share: 1 });
    expect(await coveredOf(relay, {})).toBe(all);
  });

  test('gets filters with tags and kinds when only tags are wanted', async () => {
    const tagged = signedEvent({ kind: 1, created_at: T - 50, tags: [['t', 'nostr']] });
    const relay = await start({
      events: [...EVENTS, tagged],
      quirk: refusesBare('error: filters must specify at least one kind'),
    });
    const filter = { '#t': ['nostr'] };
    expect(await visit(relay, filter)).toMatchObject({ outcome: 'partial', events: 1 });
    expect(await coveredOf(relay, filter)).toBe('{}');
  });

  test('keeps retracted coverage and holes of its parts when kinds are added or it refuses again', async () => {
    const relay = await start();
    await visit(relay, {}, { stopTimestamp: T - 50 }); // so that there is something proven of {} itself
    relay.change({ quirk: refusesBare('error: empty filter') });
    await visit(relay, {});
    const known = await archive.relay(relay.url);
    const whole = await archive.bigbrotr.filterId({});
    const parts = await archive.bigbrotr.filterParts.of(known);
    const [part] = parts;
    if (!part) throw new Error('the relay is not asked with parts');
    expect(await coveredOf(relay, part.filter)).toBe(all);
    await takeBack(relay, part.filterId);
    const left = `{[0,1000),[2000,${T + 1})}`;
    expect(await coveredOf(relay, part.filter)).toBe(left);

    const filters = [...parts.map(({ filter }) => filter), { kinds: [12_345] }];
    for (const refusedAt of [T, T + 7 * DAY]) {
      await archive.bigbrotr.filterParts.divide(known, whole, filters, 'kinds', refusedAt);
      expect(await coveredOf(relay, part.filter)).toBe(left);
      const added = await coveredOf(relay, { kinds: [12_345] });
      expect(added, 'a new part has what is proven of the whole').toBe(`{[0,${T - 49})}`);
    }
  });

  test('is caught up when all kinds that it is asked by are read, except those that it refuses', async () => {
    const isForbidden = ({ kinds }: EventFilter) => (kinds ?? []).includes(7);
    const text = 'blocked: a filter has to name kinds, and not kind 7';
    const relay = await start({
      quirk: { refuseFilter: { when: (filter) => !filter.kinds || isForbidden(filter), text } },
    });
    const stop = new AbortController();
    relay.change({
      onRequest: ({ filters }) => {
        if (filters[0]?.kinds?.includes(30311)) stop.abort();
        return 'answer';
      },
    });
    expect(await visit(relay, {}, { signal: stop.signal })).toMatchObject({ reason: 'stopped' });
    expect(await isCaughtUp(relay)).toBe(false);
    relay.change({ onRequest: () => 'answer' });
    expect(await visit(relay, {})).toMatchObject({ outcome: 'partial', reason: 'filter_refused' });
    expect(await archive.ids(relay.url)).toHaveLength(57);
    expect(await isCaughtUp(relay)).toBe(true);
  });

  test('is caught up with a hole of a part, and not with a gap of another in the same place', async () => {
    const relay = await start({ quirk: refusesBare('error: empty filter') });
    await visit(relay, {});
    expect(await isCaughtUp(relay)).toBe(true);
    const known = await archive.relay(relay.url);
    const [holed, lacking] = await archive.bigbrotr.filterParts.of(known);
    if (!holed || !lacking) throw new Error('the relay is not asked with several parts');
    const whole = await archive.bigbrotr.filterId({});
    const asked = async () => {
      const [row] = await archive.db.query<{ is: boolean }>(
        'select is_caught_up(relay_id, filter_id, wanted) as is from visits where relay_id = $1 and filter_id = $2',
        [known.relayId, whole],
      );
      return row?.is;
    };
    await takeBack(relay, holed.filterId);
    expect(await asked()).toBe(false);
    await archive.db.query(
      `insert into holes (relay_id, filter_id, stretch, reason, events, noted_at)
       values ($1, $2, '[1000,2000)', 'dense', 500, $3)`,
      [known.relayId, holed.filterId, T],
    );
    expect(await asked()).toBe(true);
    await takeBack(relay, lacking.filterId);
    expect(await asked()).toBe(false);
  });
});

describe('a refusal that does not say what it refuses', () => {
  const UNCLEAR = 'blocked: not that way';

  test('of the filter without kinds leads to requests by kinds, not to a pause', async () => {
    const relay = await start({ quirk: refusesBare(UNCLEAR) });
    expect(await visit(relay, {})).toMatchObject({
      outcome: 'partial',
      detail: expect.stringMatching(/^filter_refused: asked by/),
    });
    expect(relay.fired.refuseFilter).toBeGreaterThan(0);
    expect(await archive.ids(relay.url)).toEqual(EVENTS.map(({ id }) => id).sort());
  });

  test('of every filter counts as a refusal of the client', async () => {
    const relay = await start({
      quirk: { refuseFilter: { when: () => true, text: UNCLEAR, say: 'closed' } },
    });
    expect(await visit(relay, {})).toMatchObject({
      outcome: 'failed',
      detail: expect.stringMatching(/^blocked/),
    });
    expect(relay.fired.refuseFilter).toBeLessThan(6);
    expect(relay.requests.length).toBeLessThan(6);
  });
});
