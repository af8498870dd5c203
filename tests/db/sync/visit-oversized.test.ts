import { expect } from 'vitest';
import type { NostrEvent } from '../../../src/nostr/event.ts';
import { newestFirst, signedEvent, signedEvents } from '../../fixtures/events.ts';
import type { VisitOptions } from '../../fixtures/visit-context.ts';
import { visitTest } from '../../fixtures/visit-test.ts';
import type { Quirk, ScriptedRelay } from '../../relay/scripted-relay.ts';

/** Larger frames are not accepted, so that the events of the test can be small. */
const MAX_BYTES = 64 * 1024;
const T = Math.floor(Date.now() / 1000);
const EVENTS = signedEvents(300, { from: T - 50_000_000, to: T - 1000 });
const IDS = EVENTS.map(({ id }) => id).sort();
const oversized = (created_at: number) =>
  signedEvent({ created_at, content: 'x'.repeat(2 * MAX_BYTES) });

const test = visitTest
  .extend(
    'start',
    ({ startRelay }) =>
      (events: readonly NostrEvent[], quirk: Quirk = {}): Promise<ScriptedRelay> => {
        return startRelay({ events: [...events].sort(newestFirst), quirk });
      },
  )
  .extend(
    'visit',
    ({ archive }) =>
      ({ url }: ScriptedRelay, options: VisitOptions = {}) =>
        archive.visit(url, {
          connect: {
            timeoutMs: 5000,
            allowPrivate: true,
            torProxy: null,
            maxMessageBytes: MAX_BYTES,
          },
          batchSize: 100,
          stopTimestamp: T,
          ...options,
        }),
  )
  .extend(
    'holes',
    ({ archive }) =>
      () =>
        archive.db.query('select stretch::text, reason from holes order by lower(stretch) desc'),
  );

test.for([
  ['in the middle', {}],
  ['of a relay that sends in random order', { order: 'shuffled' } as const],
] as const)(
  'an event above the size limit, %s: its second is a hole, and everything around it is archived',
  async ([_what, quirk], { start, visit, archive, holes }) => {
    const second = (EVENTS[150]?.created_at ?? 0) - 7;
    const relay = await start([...EVENTS, oversized(second)], quirk);
    const report = await visit(relay);
    expect(report).toMatchObject({ outcome: 'partial', events: 300 });
    expect(await archive.ids(relay.url)).toEqual(IDS);
    expect(await holes()).toEqual([{ stretch: `[${second},${second + 1})`, reason: 'oversized' }]);
    expect(await archive.covered(relay.url)).toBe(`{[0,${second}),[${second + 1},${T + 1})}`);
    expect(relay.connections.total).toBeGreaterThan(2);

    const { total } = relay.connections;
    expect(await visit(relay, { stopTimestamp: T + 10 })).toMatchObject({ outcome: 'partial' });
    expect(relay.connections.total).toBe(total + 1); // it is known by now
  },
);

test('several events above the size limit, the newest and the oldest among them, are holes', async ({
  start,
  visit,
  archive,
  holes,
}) => {
  const seconds = [T - 10, T - 20_000_000, T - 60_000_000];
  const relay = await start([...EVENTS, ...seconds.map(oversized)]);
  let outcome: string | undefined;
  for (let visits = 0; visits < 3; visits += 1) ({ outcome } = await visit(relay));
  expect(outcome).toBe('partial');
  expect(await archive.ids(relay.url)).toEqual(IDS);
  expect(await holes()).toEqual(
    seconds.map((second) => ({ stretch: `[${second},${second + 1})`, reason: 'oversized' })),
  );
});

test('a relay that sends only oversized events is left after a bounded number of connections', async ({
  start,
  visit,
  archive,
}) => {
  const relay = await start(EVENTS, { garbage: [{ hugeBytes: 2 * MAX_BYTES }] });
  expect(await visit(relay)).toMatchObject({
    outcome: 'failed',
    detail: expect.stringMatching(/^oversized: /),
  });
  expect(relay.connections.total).toBeLessThan(110);
  expect(await archive.ids(relay.url)).toEqual([]);
  expect(await archive.covered(relay.url)).toBe('{}');
});
