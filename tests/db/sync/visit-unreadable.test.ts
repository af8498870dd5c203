/**
 * Relays whose answers hold what cannot be read, and relays that refuse or end what belongs to an answer: over real sockets
 * and a real database. Everything they serve is archived, and nothing else counts as covered.
 */
import { describe, expect } from 'vitest';
import { apartVisitTest } from '../../fixtures/apart-visit-test.ts';
import { signedEvents } from '../../fixtures/events.ts';
import type { VisitOptions } from '../../fixtures/visit-context.ts';
import type { Quirk, RelayFilter, ScriptedRelay } from '../../relay/scripted-relay.ts';

const T = Math.floor(Date.now() / 1000);
const BURST = T - 100_000;
const OLD = signedEvents(150, { from: T - 5_000_000, to: BURST - 1000, seed: 1 });
const NEW = signedEvents(80, { from: BURST + 1000, to: T - 10_000, seed: 2 });
const EVENTS = [...OLD, ...NEW];
const idsOf = (events: readonly { id: string }[]) => events.map(({ id }) => id).sort();

const test = apartVisitTest.extend(
  'visit',
  ({ archive }) =>
    ({ url }: ScriptedRelay, options: VisitOptions = {}) =>
      archive.visit(url, { stopTimestamp: T, lingerMs: 50, batchSize: 500, ...options }),
);

describe.concurrent('more events than a page holds, whose time cannot be read,', () => {
  const UNREADABLE = new Set(signedEvents(250, { from: BURST, to: BURST + 50, seed: 3 }));
  const ids = new Set(idsOf([...UNREADABLE]));
  const quirk: Quirk = {
    cap: 100,
    alter: (event) =>
      ids.has(String(event.id)) ? { ...event, created_at: Number(event.created_at) + 0.5 } : event,
  };

  test.for([
    ['do not hide what lies below them', EVENTS],
    ['do not make a relay seem empty', OLD],
  ] as const)('%s', async ([, events], { startRelay, visit, archive }) => {
    const relay = await startRelay({ events: [...events, ...UNREADABLE], quirk });
    await visit(relay);
    expect(await archive.ids(relay.url)).toEqual(idsOf(events));
    expect(relay.requests.length).toBeLessThan(30);
    expect(await archive.covered(relay.url)).toContain(`{[0,`);
  });
});

describe.concurrent('a page full of frames that cannot be read', () => {
  /** Ten of them in each of ten seconds, newer than all events. */
  const framesIn = ({ since = 0, until = T }: RelayFilter) =>
    10 * Math.max(0, Math.min(until, BURST + 9) - Math.max(since, BURST) + 1);

  test.for(['binary', 'not-json', 'event-without-fields'] as const)(
    '%s does not make a relay seem empty',
    async (garbage, { startRelay, visit, archive }) => {
      const relay = await startRelay({
        events: OLD,
        onRequest: ({ filters: [filter = {}] }) => {
          const frames = framesIn(filter);
          const isFull = frames >= 50;
          return {
            garbage: Array.from({ length: frames }, () => garbage),
            ...(isFull && { after: 0 }),
          };
        },
      });
      await visit(relay);
      expect(await archive.ids(relay.url)).toEqual(idsOf(OLD));
      expect(relay.requests.length).toBeLessThan(200);
    },
  );
});

test('a relay that closes the connection after each answer is read to its end', async ({
  startRelay,
  visit,
  archive,
}) => {
  const relay = await startRelay({ events: EVENTS, quirk: { cap: 50, closesAfterEnd: true } });
  expect(await visit(relay)).toMatchObject({ outcome: 'complete' });
  expect(await archive.ids(relay.url)).toEqual(idsOf(EVENTS));
  expect(relay.connections.total).toBeLessThan(25);
});

describe.concurrent('a relay that refuses', () => {
  const refusing = (when: (filter: RelayFilter) => boolean, text: string): Quirk => ({
    refuseFilter: { when, text },
  });

  test.for([
    ['since', refusing(({ since }) => since !== undefined, 'error: since is not supported')],
    [
      'an until that its clock has not reached',
      refusing(({ until = 0 }) => until > T - 3600, 'restricted: until is in the future'),
    ],
  ] as const)('%s is read without', async ([, quirk], { startRelay, visit }) => {
    const relay = await startRelay({ events: EVENTS, quirk: { ...quirk, cap: 100 } });
    expect(await visit(relay)).toMatchObject({ outcome: 'complete' });
    relay.add(signedEvents(5, { from: T - 9000, to: T - 8000, seed: 4 }));
    expect(await visit(relay, { overlapSeconds: 10_000 })).toMatchObject({
      outcome: 'complete',
      events: 5,
    });
  });
});
