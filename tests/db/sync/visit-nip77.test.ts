import { describe, expect } from 'vitest';
import type { NostrEvent } from '../../../src/nostr/event.ts';
import { signedEvent, signedEvents } from '../../fixtures/events.ts';
import { visitTest } from '../../fixtures/visit-test.ts';
import type { Nip77Options, ScriptedRelay } from '../../relay/scripted-relay.ts';

const FROM = 1_700_000_000;
const history = signedEvents(3000, { from: FROM, to: FROM + 300_000, seed: 77 });

const test = visitTest
  // Tests of this file build on what others have archived.
  .override('archive', ({ archiveOfFile }) => archiveOfFile)
  .extend(
    'relayWith',
    ({ startRelay, archive }) =>
      async (events: Iterable<NostrEvent>, options: Nip77Options = {}, cap = 500) => {
        const relay = await startRelay({ events, quirk: { cap }, nip77: options });
        await archive.snapshot(relay.url, { supported_nips: [1, 11, 77] });
        return { relay, nip77: relay.nip77 };
      },
  )
  .extend('evidence', ({ archive }) => async (relay: ScriptedRelay): Promise<string[]> => {
    const rows = await archive.db.query<{ evidence: string }>(
      `select distinct evidence from coverage join relays using (relay_id) where url = $1 order by 1`,
      [relay.url],
    );
    return rows.map((row) => row.evidence);
  })
  /** What is not proven, as coverage_gaps names test. */
  .extend('gapsOf', ({ archive }) => (relay: ScriptedRelay) => {
    return archive.db.query(
      'select since::int, until::int, hole from coverage_gaps where relay_url = $1 order by 1',
      [relay.url],
    );
  });

function idsOf(events: Iterable<NostrEvent>): string[] {
  return [...events].map(({ id }) => id).sort();
}

test('a new relay is read page by page and confirmed by one comparison', async ({
  relayWith,
  archive,
  evidence,
}) => {
  const { relay, nip77 } = await relayWith(history);
  const report = await archive.visit(relay.url);
  expect(report).toMatchObject({ outcome: 'complete', events: 3000, sightings: 3000 });
  expect(await archive.ids(relay.url)).toEqual(idsOf(history));
  expect(nip77.opened).toEqual([{ until: expect.any(Number) }]);
  expect(relay.requests.some(({ filters }) => 'ids' in (filters[0] ?? {}))).toBe(false);
  expect(await evidence(relay)).toEqual(['nip77']);
  expect(nip77.open).toBe(0);
});

test('an interrupted first visit is continued by pages, and one comparison confirms all of it at the end', async ({
  relayWith,
  archive,
  evidence,
}) => {
  const mine = signedEvents(1500, { from: FROM, to: FROM + 300_000, seed: 99 });
  const { relay, nip77 } = await relayWith(mine);
  const stop = new AbortController();
  relay.change({
    onRequest: (_request, n) => {
      if (n === 2) stop.abort();
      return 'answer';
    },
  });
  const first = await archive.visit(relay.url, { signal: stop.signal });
  expect(first.outcome).toBe('unfinished');
  expect(nip77.opened).toHaveLength(0);
  expect(await archive.visit(relay.url)).toMatchObject({ outcome: 'complete' });
  expect(await archive.ids(relay.url)).toEqual(idsOf(mine));
  expect(relay.requests.some(({ filters }) => 'ids' in (filters[0] ?? {}))).toBe(false);
  expect(await evidence(relay)).toEqual(['nip77']);
});

test('a second relay with the same events costs only sightings and the bodies of its first page', async ({
  relayWith,
  archive,
  evidence,
}) => {
  const { relay } = await relayWith(history.slice(0, 2000));
  const report = await archive.visit(relay.url);
  expect(report).toMatchObject({ outcome: 'complete', events: 0, sightings: 2000 });
  expect(relay.requests.filter(({ filters }) => filters[0]?.limit === 500)).toHaveLength(1);
  expect(relay.eventsSent).toBeLessThanOrEqual(501);
  expect(await archive.ids(relay.url)).toEqual(idsOf(history.slice(0, 2000)));
  expect(await evidence(relay)).toEqual(['nip77']);
});

test('proving an unchanged relay anew costs no bodies and a few hundred bytes', async ({
  relayWith,
  archive,
}) => {
  const { relay } = await relayWith(history);
  await archive.visit(relay.url);
  const before = { sent: relay.eventsSent, bytes: relay.bytes.sent };
  const report = await archive.visit(relay.url, { overlapSeconds: 10 ** 10 });
  expect(report).toMatchObject({ outcome: 'complete', events: 0, sightings: 0 });
  expect(relay.eventsSent).toBe(before.sent);
  expect(relay.bytes.sent - before.bytes).toBeLessThan(2000);
});

test('a full quarantine is not taken for a truncated list', async ({ relayWith, archive }) => {
  const nul = Array.from({ length: 30 }, (_, index) =>
    signedEvent({ created_at: FROM - 1000 + index, content: `\0 ${index}` }),
  );
  const { relay } = await relayWith(history.slice(0, 100));
  await archive.visit(relay.url);
  relay.add(nul); // found by the next comparison
  const { relayId } = await archive.relay(relay.url);
  await archive.db.query(
    `insert into quarantine (id, relay_id, created_at, reason, raw, seen_at)
     select sha256(n::text::bytea), $1, 0, 'nul', '', 0 from generate_series(1, 10000) n`,
    [relayId],
  );
  const report = await archive.visit(relay.url, { overlapSeconds: 10 ** 10 });
  expect(report.invalid.quarantine_full).toBeGreaterThanOrEqual(30);
  expect(report).toMatchObject({ outcome: 'partial' });
  const [policy] = await archive.db.query(
    'select nip77_not_before from relay_manners where relay_id = $1',
    [relayId],
  );
  expect(policy).toEqual({ nip77_not_before: null });
  const [hole] = await archive.db.query<{ reason: string }>(
    'select reason from holes where relay_id = $1',
    [relayId],
  );
  expect(hole?.reason).toBe('quarantine_full');
  const proven = await archive.db.query(
    `select from coverage where relay_id = $1 and covered && int8range($2, $3, '[]')`,
    [relayId, FROM - 1000, FROM - 971],
  );
  expect(proven).toEqual([]);
});

test('new, late and scattered events, one percent of all, are fetched by id, and nothing else', async ({
  relayWith,
  archive,
}) => {
  const { relay } = await relayWith(history);
  await archive.visit(relay.url);
  const late = signedEvents(30, { from: FROM, to: FROM + 300_000, seed: 78 });
  relay.add(late);
  const sent = relay.eventsSent;
  const report = await archive.visit(relay.url, { overlapSeconds: 10 ** 10 });
  expect(report).toMatchObject({ outcome: 'complete', events: 30, sightings: 30 });
  expect(relay.eventsSent - sent).toBe(30);
  expect(await archive.ids(relay.url)).toEqual(idsOf([...history, ...late]));
});

describe('2,200 events in one second, with a cap of 500,', () => {
  const burst = signedEvents(2200, { from: FROM, to: FROM, seed: 79 });
  const others = signedEvents(10, { from: FROM - 90_000, to: FROM - 80_000, seed: 85 });

  test('become complete', async ({ relayWith, archive }) => {
    const { relay } = await relayWith([...others, ...burst]);
    const report = await archive.visit(relay.url);
    expect(report).toMatchObject({ outcome: 'complete', sightings: 2210 });
    expect(await archive.ids(relay.url)).toEqual(idsOf([...others, ...burst]));
  });

  test('become complete when they are all that is new', async ({
    relayWith,
    archive,
    evidence,
  }) => {
    const { relay } = await relayWith(others);
    await archive.visit(relay.url, { stopTimestamp: FROM - 1 });
    relay.add(burst);
    const report = await archive.visit(relay.url);
    expect(report).toMatchObject({ outcome: 'complete', sightings: 2200 });
    expect(await evidence(relay)).toEqual(['nip77']);
  });

  test('are archived and stay a hole when the relay holds nothing else', async ({
    relayWith,
    archive,
    gapsOf,
  }) => {
    const { relay } = await relayWith(burst);
    const report = await archive.visit(relay.url);
    expect(report).toMatchObject({ outcome: 'partial', sightings: 2200 });
    expect(await gapsOf(relay)).toEqual([{ since: FROM, until: FROM, hole: 'dense' }]);
  });
});

describe('a list that is cut in the middle of its oldest second', () => {
  test.for([
    ['a second with others above it', 30, 40, 50],
    ['a second as long as its lists', 0, 90, 50],
  ] as const)(
    'is found out: %s',
    async ([_name, above, inSecond, cap], { relayWith, archive, gapsOf }) => {
      const burst = signedEvents(inSecond, { from: FROM, to: FROM, seed: 86 });
      const newer = signedEvents(above, { from: FROM + 10, to: FROM + 900, seed: 87 });
      const [first, ...others] = [...newer, ...burst];
      const { relay } = await relayWith(first ? [first] : [], { cap }, cap);
      await archive.visit(relay.url); // a relay of which something is known is read by NIP-77 first
      relay.add(others);
      for (let visit = 0; visit < 3; visit += 1)
        await archive.visit(relay.url, { overlapSeconds: 10 ** 10 });
      expect(relay.fired['nip77-cap']).toBeGreaterThan(0);
      const missing = relay.events.length - (await archive.ids(relay.url)).length;
      expect(missing === 0 || (await gapsOf(relay)).length > 0).toBe(true);
    },
  );

  test('is detected though the archive holds all of it, after the visit that fetched it was killed', async ({
    relayWith,
    archive,
    evidence,
  }) => {
    const newestFirst = [...history].sort((a, b) => b.created_at - a.created_at);
    const { relay } = await relayWith(newestFirst.slice(0, 500), { cap: 500 });
    await archive.visit(relay.url);
    await archive.db.query(
      'delete from coverage using relays where coverage.relay_id = relays.relay_id and url = $1',
      [relay.url],
    );
    relay.add(newestFirst.slice(500));
    expect(await archive.visit(relay.url)).toMatchObject({ outcome: 'complete' });
    expect(await archive.ids(relay.url)).toEqual(idsOf(history));
    expect(await evidence(relay)).toEqual(['paging']);
  });
});

test('windows are halved while the relay answers blocked:', async ({
  relayWith,
  archive,
  evidence,
}) => {
  const { relay } = await relayWith(history, { maxIds: 400 });
  const report = await archive.visit(relay.url);
  expect(relay.fired['nip77-blocked']).toBeGreaterThan(5);
  expect(report).toMatchObject({ outcome: 'complete', sightings: 3000 });
  expect(await evidence(relay)).toEqual(['nip77']);
});

test('a second that the relay blocks is read by paging, and stays a hole', async ({
  relayWith,
  archive,
  gapsOf,
}) => {
  const burst = signedEvents(800, { from: FROM, to: FROM, seed: 80 });
  const rest = signedEvents(100, { from: FROM + 10, to: FROM + 10_000, seed: 81 });
  const { relay } = await relayWith([...burst, ...rest], { maxIds: 600 });
  const report = await archive.visit(relay.url);
  expect(report.outcome).toBe('partial');
  expect(await gapsOf(relay)).toEqual([{ since: FROM, until: FROM, hole: 'dense' }]);
});

test.for([
  ['NEG-ERR half-way', { round: 2, what: { error: 'closed: took too long' } }],
  ['two answers to one message', { round: 2, what: 'twice' }],
  ['garbage', { round: 1, what: { payload: 'zz' } }],
] as const)(
  '%s proves nothing: the relay is paged instead',
  async ([_name, trouble], { relayWith, archive, evidence }) => {
    const { relay } = await relayWith(history, { trouble, frameSizeLimit: 4096 });
    const report = await archive.visit(relay.url);
    expect(Object.keys(relay.fired)).toContainEqual(expect.stringMatching(/^nip77-/));
    expect(report).toMatchObject({ outcome: 'complete', sightings: 3000 });
    expect(await evidence(relay)).toEqual(['paging']);
    expect(await archive.ids(relay.url)).toEqual(idsOf(history));
  },
);

test.for([
  ['silence', 'silence'],
  ['a NOTICE', { notice: 'ERROR: bad msg: unknown command NEG-OPEN' }],
] as const)(
  'a relay that claims NIP-77 and answers with %s is remembered and paged',
  async ([_name, what], { relayWith, archive }) => {
    const { relay, nip77 } = await relayWith(history, { trouble: { round: 1, what } });
    const visit = () => archive.visit(relay.url, { requestTimeoutMs: 800, overlapSeconds: 100 });
    expect(await visit()).toMatchObject({ outcome: 'complete', sightings: 3000 });
    const asked = nip77.opened.length;
    expect(asked).toBe(1);
    await visit();
    expect(nip77.opened).toHaveLength(asked);
  },
);

test('a relay that disconnects during a reconciliation is paged over another connection, and the next time without NIP-77', async ({
  relayWith,
  archive,
  evidence,
}) => {
  const { relay } = await relayWith(history, {
    trouble: { round: 2, what: 'disconnect' },
    frameSizeLimit: 4096,
  });
  const visit = () => archive.visit(relay.url, { overlapSeconds: 10 ** 10 });
  expect(await visit()).toMatchObject({ outcome: 'complete', sightings: 3000 });
  expect(relay.fired['nip77-disconnect']).toBe(1);
  expect(relay.connections.total).toBe(2);
  expect(await evidence(relay)).toEqual(['paging']);
  expect(await visit()).toMatchObject({ outcome: 'complete' });
  expect(relay.fired['nip77-disconnect']).toBe(1);
});

test('a relay that silently truncates its lists is detected, remembered and paged', async ({
  relayWith,
  archive,
  evidence,
}) => {
  const { relay, nip77 } = await relayWith(history, { cap: 700 });
  const report = await archive.visit(relay.url);
  expect(relay.fired['nip77-cap']).toBe(1);
  expect(report).toMatchObject({ outcome: 'complete', sightings: 3000 });
  expect(await archive.ids(relay.url)).toEqual(idsOf(history));
  expect(await evidence(relay)).toEqual(['paging']);
  await archive.visit(relay.url, { overlapSeconds: 1000 });
  expect(nip77.opened).toHaveLength(1);
});

test('a relay that starts to truncate its lists is detected too', async ({
  relayWith,
  archive,
}) => {
  const { relay } = await relayWith(history);
  await archive.visit(relay.url);
  const older = signedEvents(40, { from: FROM - 5000, to: FROM - 1, seed: 84 });
  relay.add(older);
  relay.change({ nip77: { cap: 100 } });
  const report = await archive.visit(relay.url, { overlapSeconds: 10 ** 10 });
  expect(relay.fired['nip77-cap']).toBe(1);
  expect(report).toMatchObject({ outcome: 'complete', events: 40 });
  expect(await archive.ids(relay.url)).toEqual(idsOf([...history, ...older]));
});

test('quarantined events are not fetched again', async ({ relayWith, archive }) => {
  const nul = signedEvents(30, { from: FROM, to: FROM + 30, seed: 85 }).map((event) =>
    signedEvent({ created_at: event.created_at, content: `\0${event.id}` }),
  );
  const { relay } = await relayWith(nul);
  expect(await archive.visit(relay.url)).toMatchObject({ outcome: 'complete', quarantined: 30 });
  const sent = relay.eventsSent;
  await archive.visit(relay.url, { overlapSeconds: 10 ** 10 });
  expect(relay.eventsSent).toBe(sent);
});

test('an id that the relay lists and does not serve is withheld, not archived', async ({
  relayWith,
  archive,
}) => {
  const phantom = { createdAt: FROM + 5, id: 'ab'.repeat(32) };
  const shown = history.slice(0, 50);
  const { relay } = await relayWith(shown, {
    items: [...shown.map(({ created_at, id }) => ({ createdAt: created_at, id })), phantom],
  });
  const report = await archive.visit(relay.url);
  expect(report).toMatchObject({ outcome: 'partial', sightings: 50 });
  const rows = await archive.db.query(
    `select encode(id, 'hex') as id, reason from withheld join relays using (relay_id) where url = $1`,
    [relay.url],
  );
  expect(rows).toEqual([{ id: phantom.id, reason: 'not_served' }]);
});

test('a reconciliation compares only events of its own filter, not those archived by another', async ({
  relayWith,
  archive,
}) => {
  const { relay } = await relayWith(
    signedEvents(600, { from: FROM, to: FROM + 6000, seed: 83, kinds: [1, 7] }),
  );
  const ones = relay.events.filter(({ kind }) => kind === 1);
  const first = await archive.visit(relay.url, { filter: { kinds: [1] } });
  expect(first).toMatchObject({ outcome: 'complete', sightings: ones.length });
  const wider = await archive.visit(relay.url, { filter: { kinds: [1, 7] } });
  expect(wider).toMatchObject({ outcome: 'complete', sightings: 600 - ones.length });
  const again = await archive.visit(relay.url, {
    filter: { kinds: [1] },
    overlapSeconds: 10 ** 10,
  });
  expect(again).toMatchObject({ outcome: 'complete', events: 0, sightings: 0 });
});
