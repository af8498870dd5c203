import { describe, expect } from 'vitest';
import type { NostrEvent } from '../../../src/nostr/event.ts';
import { idsOf, signedEvent, signedEvents } from '../../fixtures/events.ts';
import { visitTest } from '../../fixtures/visit-test.ts';
import type { ScriptedRelay } from '../../relay/scripted-relay.ts';

/** Events that a relay shows once and not again: it only passes them on, or they expire, are deleted or replaced. */

const T = Math.floor(Date.now() / 1000);
const EVENTS = signedEvents(20, { from: T - 100_000, to: T - 10_000 });
const OLDEST = EVENTS.at(-1)?.created_at ?? 0;
const OLDER = OLDEST - 10;
const NEWER = T - 20;
const UNIX_TIME = (ago: number) => String(T - ago);

const test = visitTest
  .extend(
    'start',
    ({ startRelay }) =>
      (events: readonly NostrEvent[]) =>
        startRelay({ events }),
  )
  .extend(
    'holes',
    ({ archive }) =>
      () =>
        archive.db.query('select reason from holes'),
  );

const isCoveredBack = /^\{\[0,\d+\)\}$/;

/** Removes events before the relay answers its n-th request, and adds what removed them. */
function removes(
  relay: ScriptedRelay,
  n: number,
  gone: readonly NostrEvent[],
  added: readonly NostrEvent[] = [],
): void {
  relay.change({
    onRequest: (_request, at) => {
      if (at !== n) return 'answer';
      relay.remove(gone.map(({ id }) => id));
      relay.add(added);
      return 'answer';
    },
  });
}

const ephemeral = (created_at: number) =>
  signedEvent({ created_at, kind: 20_000 + (created_at % 10_000) });
const expired = (created_at: number) =>
  signedEvent({ created_at, tags: [['expiration', UNIX_TIME(5)]] });
const expiring = (created_at: number) =>
  signedEvent({ created_at, tags: [['expiration', UNIX_TIME(-60)]] });

describe.each([
  ['an ephemeral event', ephemeral],
  ['an expired event', expired],
  ['an event that expires within the minute', expiring],
])('%s that is shown by one page only', (_name, make) => {
  test.for([
    ['older than all others', OLDER],
    ['among the others', OLDEST + 5],
    ['newer than all others', NEWER],
  ] as const)(
    'is archived, and accuses the relay of nothing: %s',
    async ([, createdAt], { start, archive, holes }) => {
      const passing = make(createdAt);
      const relay = await start([...EVENTS, passing]);
      removes(relay, 2, [passing]);
      expect(await archive.visit(relay.url)).toMatchObject({ outcome: 'complete', reason: null });
      expect(relay.events).toHaveLength(EVENTS.length);
      expect(await archive.ids(relay.url)).toEqual(idsOf([...EVENTS, passing]));
      expect(await archive.covered(relay.url)).toMatch(isCoveredBack);
      expect(await holes()).toEqual([]);
    },
  );

  test('as all that the relay ever showed leaves its silence believed, at the next visit too', async ({
    start,
    archive,
    holes,
  }) => {
    const passing = make(NEWER);
    const relay = await start([passing]);
    removes(relay, 2, [passing]);
    expect(await archive.visit(relay.url)).toMatchObject({ outcome: 'complete', reason: null });
    expect(await archive.ids(relay.url)).toEqual([passing.id]);
    const later = { now: () => T + 4000 };
    expect(await archive.visit(relay.url, later)).toMatchObject({ outcome: 'complete' });
    expect(await holes()).toEqual([]);
  });
});

test('ephemeral events that are put before each page change nothing', async ({
  start,
  archive,
}) => {
  const relay = await start(EVENTS);
  let sent = 0;
  relay.change({
    quirk: {
      inject: () => {
        sent += 1;
        return [ephemeral(T - 50_000 - sent), ephemeral(OLDEST - 1000 - sent)];
      },
    },
  });
  expect(await archive.visit(relay.url)).toMatchObject({ outcome: 'complete', reason: null });
  expect(sent).toBeGreaterThan(2);
  expect(await archive.ids(relay.url)).toEqual(expect.arrayContaining(idsOf(EVENTS)));
  expect(await archive.covered(relay.url)).toMatch(isCoveredBack);
});

test.for([
  ['ephemeral events alone', []],
  ['more ephemeral events than others', EVENTS],
] as const)('archives all that a relay stores: %s', async ([, lasting], { start, archive }) => {
  const stored = signedEvents(300, { from: T - 90_000, to: T - 9000, kinds: [20_001, 29_999] });
  const relay = await start([...lasting, ...stored]);
  relay.change({ quirk: { cap: 50 } });
  const report = await archive.visit(relay.url, { batchSize: 100 });
  expect(report).toMatchObject({ outcome: 'complete', reason: null });
  expect(await archive.ids(relay.url)).toEqual(idsOf([...lasting, ...stored]));
  expect(await archive.covered(relay.url)).toMatch(isCoveredBack);
});

test('ephemeral events of an earlier time that arrive after EOSE do not end the belief in it', async ({
  start,
  archive,
}) => {
  const relay = await start(EVENTS);
  const late = [1, 2, 3, 4].map((ago) => ephemeral(T - 3600 * ago));
  const visit = archive.visit(relay.url, { lingerMs: 300 });
  await relay.until(({ requests }) => requests[0]?.end != null);
  for (const event of late) relay.say('EVENT', relay.requests[0]?.subscription, event);
  expect(await visit).toMatchObject({ outcome: 'complete', reason: null });
  expect(await archive.ids(relay.url)).toEqual(idsOf([...EVENTS, ...late]));
});

describe('an event that a relay removes between two requests, because of', () => {
  const profile = (created_at: number, content = '') =>
    signedEvent({ created_at, kind: 0, content });
  const article = (created_at: number, d: string, content = '') =>
    signedEvent({ created_at, kind: 30_023, tags: [['d', d]], content });
  const note = (created_at: number) => signedEvent({ created_at, content: 'to be removed' });

  /** What is removed, made for a time; and what removes it. */
  const REASONS = [
    ['a deletion request by id', note, ({ id }: NostrEvent) => deletion([['e', id]])],
    [
      'a deletion request by address',
      (at: number) => article(at, 'x'),
      ({ pubkey }: NostrEvent) => deletion([['a', `30023:${pubkey}:x`]]),
    ],
    [
      'a request to vanish',
      note,
      () => signedEvent({ created_at: T, kind: 62, tags: [['relay', 'ALL_RELAYS']] }),
    ],
    ['a newer replaceable event', profile, () => profile(T, 'new')],
    [
      'a newer event of the same address',
      (at: number) => article(at, 'x'),
      () => article(T, 'x', 'new'),
    ],
  ] as const;
  const deletion = (tags: string[][]) => signedEvent({ created_at: T, kind: 5, tags });

  test.for(
    REASONS.flatMap(([name, make, by]) =>
      [
        ['all that the relay held', [], NEWER],
        ['the oldest of many', EVENTS, OLDER],
        ['the newest of many', EVENTS, NEWER],
      ].map(([place, events, at]) => ({
        title: `${name}: ${place}`,
        gone: make(at as number),
        by: by(make(at as number)),
        events: events as readonly NostrEvent[],
      })),
    ),
  )('$title', async ({ gone, by, events }, { start, archive, holes }) => {
    const relay = await start([...events, gone]);
    removes(relay, 2, [gone], [by]);
    const report = await archive.visit(relay.url, { now: () => T - 1 });
    expect(report).toMatchObject({ outcome: 'complete', reason: null });
    expect(relay.events).not.toContainEqual(gone);
    expect(await archive.covered(relay.url)).toMatch(isCoveredBack);
    expect(await holes()).toEqual([]);
  });

  test.for([
    ['nothing at all', () => []],
    ['the deletion of another event', () => [deletion([['e', 'f'.repeat(64)]])]],
    [
      'a forged deletion',
      ({ id }: NostrEvent) => [{ ...deletion([['e', id]]), sig: '0'.repeat(128) }],
    ],
    ['a newer event of another address', () => [article(T, 'y')]],
    ['an older event of the same address', () => [article(OLDER - 1, 'x')]],
  ] as const)(
    '%s is a contradiction: its second is not covered',
    async ([, by], { start, archive }) => {
      const gone = article(OLDER, 'x');
      const relay = await start([...EVENTS, gone]);
      removes(relay, 2, [gone], by(gone));
      const report = await archive.visit(relay.url, { now: () => T - 1 });
      expect(report.outcome).not.toBe('complete');
      const [row] = await archive.db.query(
        'select coalesce(bool_or(covered @> $1::bigint), false) as holds from coverage',
        [OLDER],
      );
      expect(row).toEqual({ holds: false });
    },
  );
});
