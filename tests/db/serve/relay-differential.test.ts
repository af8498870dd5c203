/** Random requests, compared with a relay in memory: the same events in the same order, and the same counts. */
import fc from 'fast-check';
import { expect } from 'vitest';
import type { NostrEvent } from '../../../src/nostr/event.ts';
import { mixedEvents, signedEvents } from '../../fixtures/events.ts';
import { filtersOf, RelayModel } from '../../fixtures/relay-model.ts';
import { relayServerTest as test } from '../../fixtures/relay-server-test.ts';

const MAX_LIMIT = 25;
const RUNS = Number(process.env.FAST_CHECK_REQUESTS ?? 1000);

/** Of all sorts; those of the second half share a few seconds, so that ids decide. */
const EVENTS = [
  ...mixedEvents(100),
  ...signedEvents(60, { from: 1_700_000_000, to: 1_700_000_005, kinds: [1, 7] }),
];

test('answers as the model does', async ({ store, connect }) => {
  await store(EVENTS);
  const model = new RelayModel(EVENTS, MAX_LIMIT, Math.floor(Date.now() / 1000));
  const client = await connect({
    env: { RELAY_MAX_LIMIT: String(MAX_LIMIT), RELAY_RATE_LIMIT: '0' },
    limits: { pageEvents: 7 },
  });
  let hints = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(filtersOf(EVENTS), { minLength: 1, maxLength: 3 }),
      async (filters) => {
        const answer = await client.request(filters, { id: 'r', silenceMs: 20_000 });
        client.messages.length = 0;
        const wanted = model.request(filters);
        expect(answer.events.map(({ id }: NostrEvent) => id)).toEqual(wanted.ids);
        const [hint] = (answer.end?.[2] as string[] | undefined) ?? [];
        if (hint === 'finish') expect(wanted.isAll).toBe(true);
        if (hint === 'more') expect(wanted.isAll).toBe(false);
        // With one filter that asks for events it is always known.
        if (filters.length === 1 && filters[0]?.limit !== 0) expect(hint).toBeDefined();
        if (hint) hints += 1;
        client.send('COUNT', 'c', ...filters);
        const counted = await client.next(([type]) => type === 'COUNT', 20_000);
        expect(counted?.[2]).toMatchObject({ count: model.count(filters) });
        expect(counted?.[2]).not.toHaveProperty('approximate');
        client.messages.length = 0;
      },
    ),
    { numRuns: RUNS },
  );
  expect(hints).toBeGreaterThan(RUNS / 4);
}, 120_000);
