import { describe, expect, it } from 'vitest';
import type { NostrEvent } from '../../src/nostr/event.ts';
import { signedEvents } from '../support/events.ts';
import { type Nip77Options, serveNip77 } from '../support/relay-nip77.ts';
import {
  closed,
  disconnects,
  type OnRequest,
  type Quirk,
  type ScriptedRelay,
  unanswered,
} from '../support/scripted-relay.ts';
import { visitBench } from '../support/visit-bench.ts';
import type { VisitOptions } from '../support/visit-context.ts';

const FROM = 1_700_000_000;
const history = signedEvents(3000, { from: FROM, to: FROM + 300_000, seed: 77 });
const newestFirst = [...history].sort((a, b) => b.created_at - a.created_at);

const { archive, start } = await visitBench();
async function startRelay(events: Iterable<NostrEvent>): Promise<ScriptedRelay> {
  const relay = await start({ events, quirk: { cap: 500 } });
  return relay;
}

/** Teaches a relay NIP-77 and says so in its document. */
async function teach(relay: ScriptedRelay, options: Nip77Options) {
  await archive.snapshot(relay.url, { supported_nips: [1, 11, 77] });
  return serveNip77(relay, options);
}

/** Held events in covered time that are not archived. */
async function missingOf(relay: ScriptedRelay): Promise<string[]> {
  const rows = await archive.db.query<{ id: string }>(
    `with proven as (
         select coalesce(range_agg(covered), '{}') as covered
         from coverage join relays using (relay_id) where url = $1
     )
     select t.id from unnest($2::text[], $3::bigint[]) as t (id, created_at), proven
     where t.created_at <@ covered
       and not exists (select from events_relays where relay_url = $1 and event_id = decode(t.id, 'hex'))`,
    [relay.url, relay.events.map(({ id }) => id), relay.events.map((event) => event.created_at)],
  );
  return rows.map(({ id }) => id);
}

async function nip77Of(relay: ScriptedRelay) {
  const [row] = await archive.db.query(
    `select nip77_reason, reason from relay_manners join relays using (relay_id) where url = $1`,
    [relay.url],
  );
  return row;
}

async function evidence(relay: ScriptedRelay): Promise<string[]> {
  const rows = await archive.db.query<{ evidence: string }>(
    `select distinct evidence from coverage join relays using (relay_id) where url = $1 order by 1`,
    [relay.url],
  );
  return rows.map((row) => row.evidence);
}

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

describe('a truncated NIP-77 list whose probe gets no answer proves nothing', () => {
  it.each(NO_ANSWERS)('%s', async (_name, quirk) => {
    const relay = await startRelay(newestFirst.slice(0, 300));
    await archive.visit(relay.url);
    await archive.db.query(
      'delete from coverage using relays where coverage.relay_id = relays.relay_id and url = $1',
      [relay.url],
    );
    relay.add(newestFirst.slice(300));
    relay.change({ onRequest: atProbe(quirk) });
    const nip77 = await teach(relay, { cap: 700 });
    const report = await archive.visit(relay.url, { requestTimeoutMs: 800 });
    expect(nip77.fired.cap).toBeGreaterThan(0);
    expect(relay.requests.some(({ filters }) => filters[0]?.limit === 1)).toBe(true);
    expect(await missingOf(relay)).toEqual([]);
    // Only the probe was refused: the relay is read by paging, and is not paused.
    expect(report).toMatchObject({ outcome: 'complete', sightings: 2700 });
    expect(await evidence(relay)).toEqual(['paging']);
    expect(await nip77Of(relay)).toMatchObject({ reason: null });
  });
});

describe('a NIP-77 index that lists nothing', () => {
  const older = signedEvents(50, { from: FROM - 5000, to: FROM - 1, seed: 91 });
  const newer = signedEvents(7, { from: FROM + 10, to: FROM + 3500, seed: 92 });
  const known = async () => {
    const relay = await startRelay(older);
    await archive.visit(relay.url, { stopTimestamp: FROM });
    relay.add(newer);
    return relay;
  };
  const later: VisitOptions = { stopTimestamp: FROM + 3600 };

  it('does not prove a new stretch above a known event', async () => {
    const relay = await known();
    const nip77 = await teach(relay, { items: [] });
    expect(await archive.visit(relay.url, later)).toMatchObject({ sightings: 7 });
    expect(nip77.opened).toHaveLength(1);
    expect(await missingOf(relay)).toEqual([]);
    expect(await nip77Of(relay)).toEqual({ nip77_reason: 'cut', reason: null });
    expect(await evidence(relay)).toEqual(['paging']);
  });

  it('does not prove a new stretch where the event below it is gone from the relay', async () => {
    const relay = await known();
    relay.remove(older.map(({ id }) => id));
    await teach(relay, { items: [] });
    expect(await archive.visit(relay.url, later)).toMatchObject({ sightings: 7 });
    expect(await missingOf(relay)).toEqual([]);
    expect(await nip77Of(relay)).toEqual({ nip77_reason: 'cut', reason: null });
  });

  it('does not prove a new stretch of a filter without anchors', async () => {
    const relay = await startRelay(newer);
    const nip77 = await teach(relay, { items: [] });
    const filter = { kinds: [...new Set(newer.map(({ kind }) => kind))] };
    const visit = { ...later, startTimestamp: FROM, filter };
    expect(await archive.visit(relay.url, visit)).toMatchObject({ sightings: 7 });
    expect(nip77.opened).toHaveLength(1);
    expect(await nip77Of(relay)).toEqual({ nip77_reason: 'cut', reason: null });
  });

  it.each(NO_ANSWERS)(
    'proves nothing where the question about it gets no answer: %s',
    async (_name, quirk) => {
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

  it('and one that is behind what the same visit was shown by pages ends NIP-77 for the relay', async () => {
    const relay = await startRelay(history.slice(0, 400));
    await teach(relay, { index: { above: FROM + 100_000 } });
    expect(await archive.visit(relay.url)).toMatchObject({ outcome: 'complete', sightings: 400 });
    expect(await nip77Of(relay)).toEqual({ nip77_reason: 'cut', reason: null });
    expect(await evidence(relay)).toEqual(['paging']);
  });
});

it('a new stretch of a relay that has nothing new costs one NEG-OPEN and no REQ', async () => {
  const relay = await startRelay(history.slice(0, 100));
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
