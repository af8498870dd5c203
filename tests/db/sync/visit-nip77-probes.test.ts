import { describe, expect } from 'vitest';
import type { NostrEvent } from '../../../src/nostr/event.ts';
import { apartVisitTest } from '../../fixtures/apart-visit-test.ts';
import { signedEvents } from '../../fixtures/events.ts';
import type { VisitOptions } from '../../fixtures/visit-context.ts';
import {
  closed,
  disconnects,
  type Nip77Options,
  type OnRequest,
  type Quirk,
  type ScriptedRelay,
  unanswered,
} from '../../relay/scripted-relay.ts';

const FROM = 1_700_000_000;
const history = signedEvents(3000, { from: FROM, to: FROM + 300_000, seed: 77 });
const newestFirst = [...history].sort((a, b) => b.created_at - a.created_at);

const test = apartVisitTest
  .extend(
    'startHistory',
    ({ startRelay }) =>
      async (events: Iterable<NostrEvent>): Promise<ScriptedRelay> => {
        return startRelay({ events, quirk: { cap: 500 } });
      },
  )
  /** Teaches a relay NIP-77 and says so in its document. */
  .extend('teach', ({ archive }) => async (relay: ScriptedRelay, options: Nip77Options) => {
    await archive.snapshot(relay.url, { supported_nips: [1, 11, 77] });
    relay.change({ nip77: options });
    return relay.nip77;
  })
  /** Held events in covered time that are not archived. */
  .extend('missingOf', ({ archive }) => async (relay: ScriptedRelay): Promise<string[]> => {
    const rows = await archive.db.query<{ id: string }>(
      `with proven as (
         select coalesce(range_agg(covered), '{}') as covered
         from coverage join relays using (relay_id) where url = $1
     )
     select t.id from unnest($2::text[], $3::bigint[]) as t (id, created_at), proven
     where t.created_at <@ covered
       and decode(t.id, 'hex') not in (select event_id from events_relays where relay_url = $1)`,
      [relay.url, relay.events.map(({ id }) => id), relay.events.map((event) => event.created_at)],
    );
    return rows.map(({ id }) => id);
  })
  .extend('nip77Of', ({ archive }) => async (relay: ScriptedRelay) => {
    const [row] = await archive.db.query(
      `select nip77_reason, reason from relay_manners join relays using (relay_id) where url = $1`,
      [relay.url],
    );
    return row;
  })
  .extend('evidence', ({ archive }) => async (relay: ScriptedRelay): Promise<string[]> => {
    const rows = await archive.db.query<{ evidence: string }>(
      `select distinct evidence from coverage join relays using (relay_id) where url = $1 order by 1`,
      [relay.url],
    );
    return rows.map((row) => row.evidence);
  })
  .extend('known', ({ startHistory, archive }) => async () => {
    const relay = await startHistory(older);
    await archive.visit(relay.url, { stopTimestamp: FROM });
    relay.add(newer);
    return relay;
  });
/** The quirk for a REQ that asks for one event of a window: the probe of a list. */
const atProbe =
  (quirk: Quirk): OnRequest =>
  ({ filters }) =>
    filters.every((filter) => !('ids' in filter) && filter.limit === 1) ? quirk : 'answer';

const NO_ANSWERS: [string, Quirk][] = [
  ['CLOSED rate-limited', closed('rate-limited: slow down')],
  ['CLOSED error', closed('error: internal')],
  ['CLOSED restricted', closed('restricted: members only')],
  ['CLOSED auth-required', closed('auth-required: who are you?')],
  ['silence', unanswered],
  ['a disconnect', disconnects(0)],
];

const older = signedEvents(50, { from: FROM - 5000, to: FROM - 1, seed: 91 });

const newer = signedEvents(7, { from: FROM + 10, to: FROM + 3500, seed: 92 });

describe.concurrent('a truncated NIP-77 list whose probe gets no answer proves nothing', () => {
  test.for(NO_ANSWERS)(
    '%s',
    async ([_name, quirk], { startHistory, archive, teach, missingOf, evidence, nip77Of }) => {
      const relay = await startHistory(newestFirst.slice(0, 300));
      await archive.visit(relay.url);
      await archive.db.query(
        'delete from coverage using relays where coverage.relay_id = relays.relay_id and url = $1',
        [relay.url],
      );
      relay.add(newestFirst.slice(300));
      relay.change({ onRequest: atProbe(quirk) });
      await teach(relay, { cap: 700 });
      const report = await archive.visit(relay.url, { requestTimeoutMs: 800 });
      expect(relay.fired['nip77-cap']).toBeGreaterThan(0);
      expect(relay.requests.some(({ filters }) => filters[0]?.limit === 1)).toBe(true);
      expect(await missingOf(relay)).toEqual([]);
      // Only the probe was refused: the relay is read by paging, and is not paused.
      expect(report).toMatchObject({ outcome: 'complete', sightings: 2700 });
      expect(await evidence(relay)).toEqual(['paging']);
      expect(await nip77Of(relay)).toMatchObject({ reason: null });
    },
  );
});

describe.concurrent('a NIP-77 index that lists nothing', () => {
  const later: VisitOptions = { stopTimestamp: FROM + 3600 };

  test('does not prove a new stretch above a known event', async ({
    known,
    teach,
    archive,
    missingOf,
    nip77Of,
    evidence,
  }) => {
    const relay = await known();
    const nip77 = await teach(relay, { items: [] });
    expect(await archive.visit(relay.url, later)).toMatchObject({ sightings: 7 });
    expect(nip77.opened).toHaveLength(1);
    expect(await missingOf(relay)).toEqual([]);
    expect(await nip77Of(relay)).toEqual({ nip77_reason: 'cut', reason: null });
    expect(await evidence(relay)).toEqual(['paging']);
  });

  test('does not prove a new stretch when the event below it is gone from the relay', async ({
    known,
    teach,
    archive,
    missingOf,
    nip77Of,
  }) => {
    const relay = await known();
    relay.remove(older.map(({ id }) => id));
    await teach(relay, { items: [] });
    expect(await archive.visit(relay.url, later)).toMatchObject({ sightings: 7 });
    expect(await missingOf(relay)).toEqual([]);
    expect(await nip77Of(relay)).toEqual({ nip77_reason: 'cut', reason: null });
  });

  test('does not prove a new stretch of a filter without anchors', async ({
    startHistory,
    teach,
    archive,
    nip77Of,
  }) => {
    const relay = await startHistory(newer);
    const nip77 = await teach(relay, { items: [] });
    const filter = { kinds: [...new Set(newer.map(({ kind }) => kind))] };
    const visit = { ...later, startTimestamp: FROM, filter };
    expect(await archive.visit(relay.url, visit)).toMatchObject({ sightings: 7 });
    expect(nip77.opened).toHaveLength(1);
    expect(await nip77Of(relay)).toEqual({ nip77_reason: 'cut', reason: null });
  });

  test.for(NO_ANSWERS)(
    'proves nothing where the question about it gets no answer: %s',
    async ([_name, quirk], { known, teach, archive, missingOf, evidence }) => {
      const relay = await known();
      await teach(relay, { items: [] });
      const isProbe: OnRequest = ({ filters }) =>
        filters.every((filter) => 'ids' in filter || filter.limit === 1) ? quirk : 'answer';
      relay.change({ onRequest: isProbe });
      await archive.visit(relay.url, { ...later, requestTimeoutMs: 800 });
      expect(await missingOf(relay)).toEqual([]);
      expect(await evidence(relay)).toEqual(['paging']);
      expect((await archive.ids(relay.url)).length).toBe(57);
    },
  );

  test('ends NIP-77 for the relay when it is behind the pages of the same visit', async ({
    startHistory,
    teach,
    archive,
    nip77Of,
    evidence,
  }) => {
    const relay = await startHistory(history.slice(0, 400));
    await teach(relay, { index: { above: FROM + 100_000 } });
    expect(await archive.visit(relay.url)).toMatchObject({ outcome: 'complete', sightings: 400 });
    expect(await nip77Of(relay)).toEqual({ nip77_reason: 'cut', reason: null });
    expect(await evidence(relay)).toEqual(['paging']);
  });
});

test('a new stretch of a relay that has nothing new costs one NEG-OPEN and no REQ', async ({
  startHistory,
  teach,
  archive,
  evidence,
}) => {
  const relay = await startHistory(history.slice(0, 100));
  const nip77 = await teach(relay, {});
  const end = FROM + 400_000;
  await archive.visit(relay.url, { stopTimestamp: end });
  const before = { requests: relay.requests.length, opened: nip77.opened.length };
  const report = await archive.visit(relay.url, { stopTimestamp: end + 3600 });
  expect(report).toMatchObject({ outcome: 'complete', sightings: 0 });
  expect(nip77.opened.length - before.opened).toBe(1);
  expect(relay.requests.length).toBe(before.requests);
  expect(await evidence(relay)).toEqual(['nip77']);
});
