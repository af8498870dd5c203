import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { EventFilter } from '../../src/nostr/filter.ts';
import { signedEvent } from '../support/events.ts';
import {
  refusesBare,
  type ScriptedRelay,
  type ScriptedRelayOptions,
  startScriptedRelay,
} from '../support/scripted-relay.ts';
import { type TestArchive, testArchive, type VisitOptions } from '../support/visit-context.ts';

const T = Math.floor(Date.now() / 1000) - 10;
const DAY = 86_400;
const KINDS = [
  ...[0, 1, 3, 5, 6, 7, 16, 20, 21, 22],
  ...[1111, 1984, 9734, 9735, 10000, 10002, 10050, 30023, 30024, 30311],
];
const EVENTS = KINDS.flatMap((kind, place) =>
  [1, 2, 3].map((number) =>
    signedEvent({ kind, created_at: T - 40_000 + place * 500 + number, content: `${number}` }),
  ),
);

let archive: TestArchive;
const relays: ScriptedRelay[] = [];
beforeAll(async () => {
  archive = await testArchive();
});
afterEach(async () => {
  for (const relay of relays.splice(0)) await relay.stop();
  await archive.clear();
});
afterAll(() => archive.close());

async function start(options: ScriptedRelayOptions = {}): Promise<ScriptedRelay> {
  const relay = await startScriptedRelay({ events: EVENTS, ...options });
  relays.push(relay);
  return relay;
}

const visit = (relay: ScriptedRelay, filter: EventFilter, options: VisitOptions = {}) =>
  archive.visit(relay.url, { filter, now: () => T, stopTimestamp: T, ...options });

async function coverage({ url }: ScriptedRelay) {
  return archive.db.query<Record<string, unknown>>(
    `select filter, share::float as share, asked_by, filters_asked::integer as filters_asked, outcome, detail,
            asked_share::float as asked_share
     from relay_coverage where relay_url = $1`,
    [url],
  );
}

async function coveredOf({ url }: ScriptedRelay, filter: EventFilter): Promise<string> {
  const id = await archive.bigbrotr.filterId(filter);
  const [row] = await archive.db.query<{ covered: string }>(
    `select coalesce(range_agg(covered), '{}')::text as covered
     from coverage join relays using (relay_id) where url = $1 and filter_id = $2`,
    [url, id],
  );
  return `${row?.covered}`;
}

async function manners({ url }: ScriptedRelay) {
  const [row] = await archive.db.query<Record<string, unknown>>(
    `select reason, refusals, max_filter_values from relay_manners join relays using (relay_id) where url = $1`,
    [url],
  );
  return row;
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

  test('is asked by kinds, ten in a filter, and what that rests on is told', async () => {
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
    expect(await manners(relay)).toMatchObject({ reason: null, refusals: 0 });
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

  test('and takes three kinds in a filter is asked so', async () => {
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

  test('is read with {} when it takes that again, which is tried after a week', async () => {
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

  test('names tags only: they are asked for together with kinds', async () => {
    const tagged = signedEvent({ kind: 1, created_at: T - 50, tags: [['t', 'nostr']] });
    const relay = await start({
      events: [...EVENTS, tagged],
      quirk: refusesBare('error: filters must specify at least one kind'),
    });
    const filter = { '#t': ['nostr'] };
    expect(await visit(relay, filter)).toMatchObject({ outcome: 'partial', events: 1 });
    expect(await coveredOf(relay, filter)).toBe('{}');
  });
});

describe('a refusal that does not say what it refuses', () => {
  const UNCLEAR = 'blocked: not that way';

  test('of the filter without kinds: the relay is asked by kinds, and not paused', async () => {
    const relay = await start({ quirk: refusesBare(UNCLEAR) });
    expect(await visit(relay, {})).toMatchObject({
      outcome: 'partial',
      detail: expect.stringMatching(/^filter_refused: asked by/),
    });
    expect(relay.fired.refuseFilter).toBeGreaterThan(0);
    expect(await archive.ids(relay.url)).toEqual(EVENTS.map(({ id }) => id).sort());
  });

  test('of every filter is a refusal of the client', async () => {
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
