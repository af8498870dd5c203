import { describe, expect, test } from 'vitest';
import type { NostrEvent } from '../../../src/nostr/event.ts';
import { signedEvents } from '../../fixtures/events.ts';
import { visitBench } from '../../fixtures/visit-bench.ts';
import { closed, type OnRequest, type ScriptedRelay } from '../../relay/scripted-relay.ts';

const FROM = 1_700_000_000;
const SPAN = { from: FROM, to: FROM + 300_000 };
const DAY = 86_400;
const KEY = new Uint8Array(32).fill(7);
const again = { overlapSeconds: 10 ** 10 };

const { archive, start } = await visitBench();
let seed = 500;
const events = (count: number) => signedEvents(count, { ...SPAN, seed: seed++, kinds: [1] });

/** A relay with NIP-77 that lists some events and serves them by no request. */
async function withholding(shown: readonly NostrEvent[], withheld: NostrEvent[]) {
  const relay = await start({ events: shown, quirk: { cap: 500 } });
  await archive.snapshot(relay.url, { supported_nips: [1, 11, 77] });
  relay.change({ nip77: { withheld } });
  return { relay, nip77: relay.nip77 };
}

/** CLOSED for a REQ that names one of these ids. */
const refusing =
  (withheld: readonly NostrEvent[], text: string): OnRequest =>
  ({ filters }) =>
    filters.some(({ ids }) => withheld.some(({ id }) => ids?.includes(id)))
      ? closed(text)
      : 'answer';

interface Row {
  readonly id: string;
  readonly since: number;
  readonly until: number;
  readonly reason: string;
  readonly tries: number;
  readonly wait: number;
}

function rowsOf(relay: ScriptedRelay) {
  return archive.db.query<Row & Record<string, unknown>>(
    `select encode(id, 'hex') as id, lower(stretch)::int as since, upper(stretch)::int - 1 as until, reason, tries,
            (next_try_at - extract(epoch from now()))::int as wait
     from withheld join relays using (relay_id) where url = $1 order by 1`,
    [relay.url],
  );
}

const idsOf = (list: readonly { id: string }[]) => list.map(({ id }) => id).sort();

async function coverageOf(relay: ScriptedRelay) {
  const [row] = await archive.db.query(
    `select share::float as share, gaps::int as gaps, withheld::int as withheld, outcome, detail
     from relay_coverage where relay_url = $1`,
    [relay.url],
  );
  return row;
}

const byIds = (relay: ScriptedRelay) =>
  relay.requests.filter(({ filters }) => filters.some((filter) => 'ids' in filter));

describe('events that a relay lists by NIP-77 and does not serve', () => {
  const shown = events(1200);
  const hidden = events(38);

  test('are remembered by id, the rest of the list is proven, and an unchanged relay costs one small comparison again', async () => {
    const { relay, nip77 } = await withholding(shown, hidden);
    const first = await archive.visit(relay.url);
    const detail = '38 events are listed and withheld';
    expect(first).toMatchObject({ outcome: 'partial', events: 1200, detail });
    expect(await archive.ids(relay.url)).toEqual(idsOf(shown));
    const rows = await rowsOf(relay);
    expect(rows.map(({ id }) => id)).toEqual(idsOf(hidden));
    for (const { id, since, until, reason, tries } of rows) {
      const createdAt = hidden.find((event) => event.id === id)?.created_at ?? 0;
      expect({ reason, tries }).toEqual({ reason: 'not_served', tries: 1 });
      expect(createdAt).toBeGreaterThanOrEqual(since);
      expect(createdAt).toBeLessThanOrEqual(until);
      expect(until - since).toBeLessThan(10_000);
    }
    expect(await coverageOf(relay)).toMatchObject({ share: 1, gaps: 0, withheld: 38, detail });
    const evidence =
      'select distinct evidence from coverage join relays using (relay_id) where url = $1';
    expect(await archive.db.query(evidence, [relay.url])).toEqual([{ evidence: 'nip77' }]);
    const gaps = await archive.db.query<{ hole: string; count: number }>(
      `select hole, sum(hole_events)::int as count from coverage_gaps where relay_url = $1 group by hole`,
      [relay.url],
    );
    expect(gaps).toEqual([{ hole: 'withheld', count: 38 }]);

    // The second visit asks for them once more, the third not before a day has gone.
    await archive.visit(relay.url, again);
    for (const { tries, wait } of await rowsOf(relay)) {
      expect(tries).toBe(2);
      expect(wait).toBeGreaterThan(DAY - 600);
      expect(wait).toBeLessThanOrEqual(DAY);
    }
    const before = {
      opened: nip77.opened.length,
      requests: relay.requests.length,
      bytes: relay.bytes.sent,
    };
    const third = await archive.visit(relay.url, { stopTimestamp: SPAN.to, reproveSeconds: -100 });
    expect(third).toMatchObject({ outcome: 'partial', sightings: 0, detail });
    expect(nip77.opened.length - before.opened).toBe(1);
    expect(relay.requests.length).toBe(before.requests);
    expect(relay.bytes.sent - before.bytes).toBeLessThan(1500);
  });

  test('are placed anew as other events are added and removed around them, without being fetched again', async () => {
    const { relay } = await withholding(events(700), events(60));
    await archive.visit(relay.url);
    await archive.visit(relay.url, again);
    const asked = byIds(relay).length;
    for (let round = 0; round < 3; round += 1) {
      relay.add(events(5));
      expect(await archive.visit(relay.url, again)).toMatchObject({ events: 5 });
    }
    expect(byIds(relay).length - asked).toBe(3);
    expect(await rowsOf(relay)).toHaveLength(60);
    expect(await coverageOf(relay)).toMatchObject({ share: 1, withheld: 60 });
  });

  test('are archived and no longer withheld when the relay serves them', async () => {
    const withheld = events(5);
    const { relay } = await withholding(events(100), withheld);
    await archive.visit(relay.url);
    expect(await rowsOf(relay)).toHaveLength(5);
    relay.add(withheld.splice(0));
    const report = await archive.visit(relay.url, again);
    expect(report).toMatchObject({ outcome: 'complete', events: 5 });
    expect(await rowsOf(relay)).toEqual([]);
    expect(await archive.ids(relay.url)).toEqual(idsOf(relay.events));
  });

  test('are no longer withheld when the relay no longer lists them', async () => {
    const withheld = events(5);
    const { relay } = await withholding(events(100), withheld);
    await archive.visit(relay.url);
    const gone = withheld.splice(0, 2);
    expect(await archive.visit(relay.url, again)).toMatchObject({ outcome: 'partial' });
    expect((await rowsOf(relay)).map(({ id }) => id)).toEqual(idsOf(withheld));
    expect(gone).toHaveLength(2);
  });

  test('become sightings when another relay has served them', async () => {
    const withheld = events(5);
    const { relay } = await withholding(events(100), withheld);
    await archive.visit(relay.url);
    const other = await start({ events: withheld });
    await archive.visit(other.url);
    expect(await archive.visit(relay.url, again)).toMatchObject({
      outcome: 'complete',
      events: 0,
      sightings: 5,
    });
    expect(await rowsOf(relay)).toEqual([]);
  });

  test('end NIP-77 for a relay that lists more of them than the limit', async () => {
    const { relay } = await withholding(events(100), events(5));
    const { relayId } = await archive.relay(relay.url);
    await archive.db.query(
      `insert into withheld (relay_id, filter_id, id, stretch, reason, first_at, last_at, next_try_at)
       select $1, $2, sha256(n::text::bytea), '[9000000000,9000000001)', 'not_served', 0, 0, extract(epoch from now())::bigint + 86400
       from generate_series(1, 99997) n`,
      [relayId, await archive.bigbrotr.filterId({})],
    );
    await archive.visit(relay.url);
    const [policy] = await archive.db.query(
      'select reason, nip77_reason from relay_manners where relay_id = $1',
      [relayId],
    );
    expect(policy).toEqual({ reason: null, nip77_reason: 'too_many_withheld' });
    await archive.db.query('delete from withheld where relay_id = $1', [relayId]);
  });
});

test('withheld events are asked for again after delays that double from a day to 30', async () => {
  const relay = await archive.relay('wss://withholds.example.com');
  const key = { relay, filterId: await archive.bigbrotr.filterId({}) };
  const one = { id: 'ab'.repeat(32), since: 5, until: 9, reason: 'not_served' } as const;
  const days: number[] = [];
  for (let tries = 0; tries < 8; tries += 1) {
    await archive.bigbrotr.withheld.note(key, [one], false);
    const [row] = await archive.db.query<{ days: number }>(
      'select ((next_try_at - last_at) / 86400)::int as days from withheld where relay_id = $1',
      [relay.relayId],
    );
    days.push(row?.days ?? -1);
  }
  expect(days).toEqual([0, 1, 2, 4, 8, 16, 30, 30]);
  expect(await archive.bigbrotr.withheld.due(key, false, 10)).toEqual([]);
  expect(await archive.bigbrotr.withheld.due(key, true, 10)).toMatchObject([{ id: one.id }]);
});

describe('ids that a relay refuses with CLOSED', () => {
  test.each([
    ['auth-required: not for you', 'auth_required'],
    ['restricted: not for you', 'restricted'],
    ['blocked: kind not allowed', 'refused'],
  ])('do not hide the others, and do not pause the relay: %s', async (text, reason) => {
    const first = events(400);
    const { relay } = await withholding(first, []);
    await archive.visit(relay.url);
    const hidden = events(2);
    relay.change({ nip77: { withheld: hidden } });
    relay.change({ onRequest: refusing(hidden, text) });
    const late = events(200);
    relay.add(late);
    const asked = byIds(relay).length;
    const report = await archive.visit(relay.url, again);
    expect(report).toMatchObject({ outcome: 'partial', events: 200 });
    expect(report.detail).toBe('2 events are listed and withheld');
    expect(byIds(relay).length - asked).toBeLessThan(50);
    expect(await rowsOf(relay)).toMatchObject([{ reason }, { reason }]);
    expect(await coverageOf(relay)).toMatchObject({ share: 1, withheld: 2 });
    const [policy] = await archive.db.query(
      'select not_before::int, reason from relay_manners join relays using (relay_id) where url = $1',
      [relay.url],
    );
    expect(policy).toEqual({ not_before: 0, reason: null });
  });

  test('are asked for again after an authentication', async () => {
    const hidden = events(3);
    const { relay } = await withholding(events(100), hidden);
    relay.change({ onRequest: refusing(hidden, 'auth-required: who are you?') });
    await archive.visit(relay.url);
    await archive.visit(relay.url, again);
    expect((await rowsOf(relay)).every(({ wait }) => wait > DAY / 2)).toBe(true);
    relay.add(hidden);
    relay.change({ onRequest: () => 'answer', auth: { reads: true, challenge: 'on-connect' } });
    const report = await archive.visit(relay.url, { ...again, secretKey: KEY });
    expect(report).toMatchObject({ outcome: 'complete' });
    expect(await archive.ids(relay.url)).toEqual(idsOf(relay.events));
    expect(await rowsOf(relay)).toEqual([]);
  });

  test('are not withheld after a timeout', async () => {
    const { relay } = await withholding(events(100), []);
    await archive.visit(relay.url);
    relay.change({ nip77: { withheld: events(4) } });
    relay.change({
      onRequest: ({ filters }) =>
        filters.some((filter) => 'ids' in filter) ? { after: 0, end: 'silence' } : 'answer',
    });
    await archive.visit(relay.url, { ...again, requestTimeoutMs: 500 });
    expect(await rowsOf(relay)).toEqual([]);
  });
});

test('a relay that serves nothing by id has no withheld events when its pages bring what it lists', async () => {
  const { relay } = await withholding(events(100), []);
  await archive.visit(relay.url);
  const late = events(30);
  relay.add(late);
  relay.change({
    onRequest: ({ filters }) =>
      filters.some((filter) => 'ids' in filter) ? { after: 0, end: 'eose' } : 'answer',
  });
  const report = await archive.visit(relay.url, again);
  expect(report).toMatchObject({ outcome: 'complete', events: 30 });
  expect(await archive.ids(relay.url)).toEqual(idsOf(relay.events));
  expect(await rowsOf(relay)).toEqual([]);
});

test('a capped answer to a request by ids does not count as withholding', async () => {
  const { relay } = await withholding(events(300), []);
  await archive.visit(relay.url);
  relay.add(events(290));
  relay.change({ quirk: { cap: 40 } });
  const report = await archive.visit(relay.url, again);
  expect(report).toMatchObject({ outcome: 'complete', events: 290 });
  expect(await rowsOf(relay)).toEqual([]);
});
