import { describe, expect } from 'vitest';
import {
  DAY,
  events,
  idsOf,
  MAX_BYTES,
  NO_ANSWERS,
  listingTest as test,
} from '../../fixtures/visit-listing.ts';
import { atIds, closed, disconnects, type Quirk, unanswered } from '../../relay/scripted-relay.ts';

describe.concurrent('events that a relay lists by NIP-77 and gives no answer for when it is asked by id', () => {
  test.for(NO_ANSWERS)(
    'take back what pages have proven of their seconds, until they come: %s',
    async ([_name, quirk], { listing, visit, falselyCovered, gapsOf, archive }) => {
      const listed = events(5);
      const shown = events(600);
      const { relay, nip77 } = await listing(shown, listed);
      const fired = { times: 0 };
      relay.change({ onRequest: atIds(null, quirk, fired) });
      const report = await visit(relay);
      expect(fired.times).toBeGreaterThan(0);
      expect(report).toMatchObject({ outcome: 'partial', reason: 'holes', events: 600 });
      expect(await falselyCovered(relay, listed)).toEqual([]);
      const gaps = await gapsOf(relay);
      expect(new Set(gaps.map(({ hole }) => hole))).toEqual(new Set(['unanswered']));
      expect(gaps.reduce((sum, gap) => sum + (gap.events ?? 0), 0)).toBe(5);
      for (const { since, until } of gaps) expect(until - since).toBeLessThan(20_000);

      // They are asked for again at the next visit, at a small price.
      const before = { requests: relay.requests.length, opened: nip77.opened.length };
      expect(await visit(relay)).toMatchObject({ outcome: 'partial', reason: 'holes' });
      expect(await falselyCovered(relay, listed)).toEqual([]);
      const left = await gapsOf(relay);
      expect(new Set(left.map(({ hole }) => hole))).toEqual(new Set(['unanswered']));
      expect(left.reduce((sum, gap) => sum + (gap.events ?? 0), 0)).toBe(5);
      expect(relay.requests.length - before.requests).toBeLessThan(8);
      expect(nip77.opened.length - before.opened).toBe(1);

      relay.add(listed);
      relay.change({ nip77: {} });
      relay.change({ onRequest: () => 'answer' });
      expect(await visit(relay)).toMatchObject({ outcome: 'complete', events: 5 });
      expect(await gapsOf(relay)).toEqual([]);
      expect(await archive.ids(relay.url)).toEqual(idsOf([...shown, ...listed]));
    },
  );

  test.for(NO_ANSWERS)(
    'take back what an earlier visit has proven by NIP-77, and pages do not prove it again: %s',
    async ([_name, quirk], { listing, visit, falselyCovered, gapsOf }) => {
      const { relay } = await listing(events(600), []);
      expect(await visit(relay)).toMatchObject({ outcome: 'complete' });
      const listed = events(5);
      relay.change({ nip77: { withheld: listed } });
      relay.change({ onRequest: atIds(null, quirk) });
      const report = await visit(relay, { overlapSeconds: 10 ** 10 });
      expect(report).toMatchObject({ outcome: 'partial', reason: 'holes' });
      expect(await falselyCovered(relay, listed)).toEqual([]);
      const gaps = await gapsOf(relay);
      expect(new Set(gaps.map(({ hole }) => hole))).toEqual(new Set(['unanswered']));
    },
  );

  test('are not covered by pages that are read before the visit is stopped', async ({
    listing,
    visit,
    falselyCovered,
  }) => {
    const { relay } = await listing(events(600), []);
    await visit(relay);
    const listed = events(4);
    relay.change({ nip77: { withheld: listed } });
    const stopping = new AbortController();
    const onIds = atIds(null, closed('error: internal'));
    let pages = 0;
    relay.change({
      onRequest: (request, n) => {
        const answer = onIds(request, n);
        if (answer === 'answer') pages += 1;
        if (pages === 6) stopping.abort();
        return answer;
      },
    });
    const options = { overlapSeconds: 10 ** 10, signal: stopping.signal };
    expect(await visit(relay, options)).toMatchObject({ outcome: 'unfinished' });
    expect(pages).toBeGreaterThanOrEqual(6);
    expect(await falselyCovered(relay, listed)).toEqual([]);
  });

  test('are proven by pages that contain them', async ({ listing, visit, gapsOf }) => {
    const { relay } = await listing(events(600), []);
    await visit(relay);
    relay.add(events(5));
    relay.change({ onRequest: atIds(null, unanswered) });
    const report = await visit(relay, { overlapSeconds: 10 ** 10 });
    expect(report).toMatchObject({ outcome: 'complete', events: 5 });
    expect(await gapsOf(relay)).toEqual([]);
  });

  test('are withheld when the relay serves nothing by id and its pages do not contain them either', async ({
    listing,
    visit,
    withheldOf,
  }) => {
    const { relay } = await listing(events(600), []);
    await visit(relay);
    const listed = events(3);
    relay.change({ nip77: { withheld: listed } });
    relay.change({ onRequest: atIds(null, { after: 0, end: 'eose' }) });
    const report = await visit(relay, { overlapSeconds: 10 ** 10 });
    expect(report).toMatchObject({ outcome: 'partial', reason: 'withheld' });
    const rows = await withheldOf(relay);
    expect(rows.map(({ id }) => id)).toEqual(idsOf(listed));
    expect(new Set(rows.map(({ reason }) => reason))).toEqual(new Set(['not_served']));
  });

  test('leave a plain gap where the visit is stopped before they are fetched', async ({
    listing,
    visit,
    falselyCovered,
    gapsOf,
  }) => {
    const listed = events(5);
    const { relay } = await listing(events(600), listed);
    const stopping = new AbortController();
    const onIds = atIds(null, unanswered);
    relay.change({
      onRequest: (request, n) => {
        const answer = onIds(request, n);
        if (answer !== 'answer') stopping.abort();
        return answer;
      },
    });
    const report = await visit(relay, { signal: stopping.signal });
    expect(report).toMatchObject({ outcome: 'unfinished', events: 600 });
    expect(await falselyCovered(relay, listed)).toEqual([]);
    const gaps = await gapsOf(relay);
    expect(new Set(gaps.map(({ hole }) => hole))).toEqual(new Set([null]));

    relay.add(listed);
    relay.change({ nip77: {} });
    relay.change({ onRequest: () => 'answer' });
    expect(await visit(relay)).toMatchObject({ outcome: 'complete', events: 5 });
  });
});

describe('an id that breaks off every answer by ids', () => {
  const broken: [string, string, Quirk][] = [
    ['silence', 'unreadable', unanswered],
    ['a lost connection', 'unreadable', disconnects(0)],
    ['CLOSED error', 'unreadable', closed('error: internal')],
    ['a frame that is not UTF-8', 'unreadable', { garbage: ['invalid-utf8'] }],
    ['a connection that hangs', 'unreadable', { after: 0, end: 'freeze' }],
    ['a frame larger than is taken', 'oversized', { garbage: [{ hugeBytes: 2 * MAX_BYTES }] }],
  ];

  test.for(broken)(
    'is found among 500, remembered, and does not hide the others: %s',
    async ([_name, reason, quirk], { listing, visit, archive, withheldOf, gapsOf }) => {
      const { relay } = await listing(events(100), []);
      await visit(relay);
      const poisoned = events(1);
      const fired = { times: 0 };
      relay.change({ nip77: { withheld: poisoned } });
      relay.change({ onRequest: atIds(poisoned, quirk, fired) });
      relay.add(events(499));
      const connections = relay.connections.total;
      const report = await visit(relay, { overlapSeconds: 10 ** 10 });
      expect(fired.times).toBeGreaterThan(2);
      expect(fired.times).toBeLessThan(15);
      expect(report).toMatchObject({ outcome: 'partial', reason: 'withheld', events: 499 });
      expect(await archive.ids(relay.url)).toEqual(idsOf(relay.events));
      expect(relay.connections.total - connections).toBeLessThan(30);
      const [row] = await withheldOf(relay);
      expect(row).toMatchObject({ id: poisoned[0]?.id, reason, tries: 1 });
      expect(row?.wait).toBeGreaterThan(DAY - 600);
      expect(await gapsOf(relay)).toMatchObject([{ hole: 'withheld', events: 1 }]);
    },
  );

  test('costs an unchanged relay one small comparison at the next visit, and is asked for alone when it is due', async ({
    listing,
    visit,
    archive,
    withheldOf,
  }) => {
    const poisoned = events(1);
    const { relay, nip77 } = await listing(events(700), poisoned);
    relay.change({ onRequest: atIds(poisoned, disconnects(0)) });
    expect(await visit(relay)).toMatchObject({ outcome: 'partial', events: 700 });
    const before = { opened: nip77.opened.length, sent: relay.bytes.sent };
    const requests = relay.requests.length;
    await visit(relay, { reproveSeconds: -100 });
    expect(nip77.opened.length - before.opened).toBe(1);
    expect(relay.requests.length).toBe(requests);
    expect(relay.bytes.sent - before.sent).toBeLessThan(1500);

    await archive.db.query('update withheld set next_try_at = 1');
    expect(await visit(relay, { overlapSeconds: 1 })).toMatchObject({ reason: 'withheld' });
    expect(relay.requests.length - requests).toBeLessThan(6);
    const [row] = await withheldOf(relay);
    expect(row).toMatchObject({ reason: 'unreadable', tries: 2 });
    expect(row?.wait).toBeGreaterThan(DAY - 600);

    await archive.db.query('update withheld set next_try_at = 1');
    relay.add(poisoned.splice(0));
    relay.change({ onRequest: () => 'answer' });
    expect(await visit(relay, { overlapSeconds: 1 })).toMatchObject({ outcome: 'complete' });
    expect(await archive.ids(relay.url)).toEqual(idsOf(relay.events));
  });

  test('is recorded by its id when pages break off at it too', async ({
    startRelay,
    archive,
    visit,
    withheldOf,
    gapsOf,
  }) => {
    const shown = events(400);
    const second = (shown[200]?.created_at ?? 0) + 1;
    const relay = await startRelay({
      events: [...shown, ...events(1, { from: second, to: second })],
      quirk: { cap: 500, poison: { createdAt: [second], how: 'disconnect' } },
    });
    await archive.snapshot(relay.url, { supported_nips: [1, 11, 77] });
    relay.change({ nip77: {} });
    expect(await visit(relay)).toMatchObject({ outcome: 'partial', reason: 'withheld' });
    expect(relay.fired.poison).toBeGreaterThan(2);
    expect(await archive.ids(relay.url)).toEqual(idsOf(shown));
    expect(await withheldOf(relay)).toMatchObject([{ reason: 'unreadable' }]);
    expect(await gapsOf(relay)).toMatchObject([{ hole: 'withheld', events: 1 }]);
  });

  test('is found among several in lists of several hundred, over a few visits', async ({
    listing,
    visit,
    falselyCovered,
    withheldOf,
    archive,
  }) => {
    const poisoned = events(9);
    const { relay } = await listing(events(100), []);
    await visit(relay);
    relay.change({ nip77: { withheld: poisoned, frameSizeLimit: 20_000 } });
    relay.add(events(1500));
    relay.change({ onRequest: atIds(poisoned, disconnects(0)) });
    for (let visits = 0; visits < 4; visits += 1) {
      const connections = relay.connections.total;
      await visit(relay, { overlapSeconds: 10 ** 10 });
      expect(relay.connections.total - connections).toBeLessThan(62);
      expect(await falselyCovered(relay, poisoned)).toEqual([]);
    }
    expect((await withheldOf(relay)).map(({ id }) => id)).toEqual(idsOf(poisoned));
    expect(await archive.ids(relay.url)).toEqual(idsOf(relay.events));
  });
});
