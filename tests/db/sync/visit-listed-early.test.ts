/** Ids that a relay names by NIP-77 before a session breaks off, or beside the list that is read: nothing proves their seconds. */
import { describe, expect } from 'vitest';
import type { NostrEvent } from '../../../src/nostr/event.ts';
import {
  events,
  FROM,
  idsOf,
  LATER,
  SPAN,
  listingTest as test,
} from '../../fixtures/visit-listing.ts';
import { atIds, closed, type Nip77Trouble } from '../../relay/scripted-relay.ts';

const AGAIN = { overlapSeconds: 10 ** 10 };
const refused = closed('error: internal');

/** Events that are listed only once a condition holds. */
const listedWhen = (holds: () => boolean, listed: readonly NostrEvent[]) => ({
  *[Symbol.iterator]() {
    if (holds()) yield* listed;
  },
});

describe.concurrent('ids that were listed before a NIP-77 session broke off', () => {
  const troubles: [string, Nip77Trouble][] = [
    ['a lost connection', 'disconnect'],
    ['NEG-ERR', { error: 'closed: took too long' }],
    ['CLOSED', { closed: 'rate-limited: slow down' }],
    ['silence', 'silence'],
    ['a message that is not Negentropy', { payload: '61zz' }],
    ['a window called too large', { error: 'blocked: too many query results' }],
  ];

  test.for(troubles)(
    'contradict the coverage of their seconds if they cannot be fetched: %s',
    async ([_name, what], { listing, visit, falselyCovered, gapsOf }) => {
      const { relay } = await listing(events(300), []);
      expect(await visit(relay)).toMatchObject({ outcome: 'complete' });
      const early = { from: FROM, to: FROM + 15_000 };
      const listed = events(5, early);
      // The relay answers the first message with a list where few ids differ, and with fingerprints where many do.
      relay.add(events(100, { from: FROM + 250_000, to: FROM + 260_000 }));
      relay.change({ nip77: { withheld: listed, trouble: { round: 2, what } } });
      const fired = { times: 0 };
      relay.change({ onRequest: atIds(null, refused, fired) });
      const report = await visit(relay, AGAIN);
      expect(fired.times).toBeGreaterThan(0);
      expect(report).toMatchObject({ outcome: 'partial', reason: 'holes' });
      expect(await falselyCovered(relay, listed)).toEqual([]);
      const holes = await gapsOf(relay);
      expect(holes.reduce((sum, gap) => sum + (gap.events ?? 0), 0)).toBe(5);
    },
  );

  test('contradict coverage also when the list itself is cut off', async ({
    listing,
    visit,
    falselyCovered,
  }) => {
    const { relay } = await listing(events(300), []);
    await visit(relay);
    const listed = events(3);
    const payload = `6100000205${idsOf(listed).join('')}`; // says five, and lists three
    relay.change({ nip77: { trouble: { round: 1, what: { payload } } } });
    relay.change({ onRequest: atIds(null, refused) });
    expect(await visit(relay, AGAIN)).toMatchObject({ outcome: 'partial', reason: 'holes' });
    expect(await falselyCovered(relay, listed)).toEqual([]);
  });
});

test('ids that only the second list of a second names contradict its coverage', async ({
  listing,
  visit,
  falselyCovered,
}) => {
  const shown = events(60, { from: FROM, to: FROM + 40_000 });
  const oldest = Math.min(...shown.map(({ created_at }) => created_at));
  const listed = events(3, { from: oldest, to: oldest });
  const { relay } = await listing(shown, []);
  relay.change({ nip77: { withheld: listedWhen(() => relay.nip77.opened.length > 1, listed) } });
  relay.change({ onRequest: atIds(listed, refused) });
  await visit(relay, { startTimestamp: FROM - 10, stopTimestamp: FROM + 50_000 });
  expect(relay.nip77.opened.length).toBeGreaterThan(1);
  expect(await falselyCovered(relay, listed)).toEqual([]);
});

test('listed ids are not covered by pages that prove older coverage anew in the same visit', async ({
  listing,
  visit,
  falselyCovered,
  archive,
}) => {
  const shown = events(300);
  const { relay } = await listing(shown, []);
  await visit(relay);
  await archive.db.query('update coverage set proven_at = proven_at - 400000');
  const newest = Math.max(...shown.map(({ created_at }) => created_at));
  const listed = events(1, { from: newest + 100, to: newest + 100 });
  relay.change({ nip77: { withheld: listed } });
  const onIds = atIds(null, refused);
  relay.change({
    onRequest: (request, n) => {
      const answer = onIds(request, n);
      // From now on there are pages only.
      if (answer !== 'answer')
        relay.change({ nip77: { trouble: { round: 1, what: { error: 'rate-limited: no' } } } });
      return answer;
    },
  });
  await visit(relay, { stopTimestamp: LATER + 100 });
  expect(
    relay.requests.filter(({ filters }) => filters[0]?.ids === undefined).length,
  ).toBeGreaterThan(0);
  expect(await falselyCovered(relay, listed)).toEqual([]);
});

test('coverage of the seconds of listed ids is taken back before they are asked for', async ({
  listing,
  visit,
  falselyCovered,
  archive,
}) => {
  const { relay } = await listing(events(600), []);
  await visit(relay);
  const listed = events(5, SPAN);
  relay.add(listed);
  relay.forget();
  /** What a process that dies now leaves behind. */
  let left: Promise<string[]> | null = null;
  relay.change({
    onRequest: ({ filters }) => {
      if (!filters.some(({ ids }) => ids)) return 'answer';
      left ??= falselyCovered(relay, listed);
      return refused;
    },
  });
  await visit(relay, AGAIN);
  expect(await left).toEqual([]);
  expect(await archive.ids(relay.url)).toEqual(idsOf(relay.events)); // pages have brought them
});
