import { expect } from 'vitest';
import { signedEvent, signedEvents } from '../../fixtures/events.ts';
import { visitTest } from '../../fixtures/visit-test.ts';
import { RelayClient } from '../../relay/bare-client.ts';
import type { ScriptedRelay } from '../../relay/scripted-relay.ts';

/** Events of kinds that relays pass on and are not expected to store (NIP-01), such as the test events of the monitor. */

const NOW = Math.floor(Date.now() / 1000);
const EVENTS = signedEvents(20, { from: NOW - 10_000, to: NOW - 1000 });
const EPHEMERAL = signedEvent({ created_at: NOW - 1, kind: 22_456 });
const IDS = [...EVENTS, EPHEMERAL].map(({ id }) => id).sort();

const test = visitTest
  // A page that takes long enough for another client to publish something before its EOSE.
  .override('relayDefaults', { events: EVENTS, quirk: { betweenMs: 20 } })
  .extend(
    'visit',
    ({ archive }) =>
      async (relay: ScriptedRelay, duringPage: () => Promise<unknown>) => {
        const report = archive.visit(relay.url);
        await relay.until(({ eventsSent }) => eventsSent > 0);
        await duringPage();
        expect(relay.requests[0]?.end, 'the first page is still being sent').toBeNull();
        return report;
      },
  );

test('archives an ephemeral event that another client publishes during a page, although the relay stores none', async ({
  startRelay,
  archive,
  visit,
  onTestFinished,
}) => {
  const relay = await startRelay();
  const other = await RelayClient.connect(relay.url);
  onTestFinished(() => other.close());
  const report = await visit(relay, () => other.publish(EPHEMERAL));
  expect(report).toMatchObject({ outcome: 'complete' });
  // The relay passes it on under the subscription of the page, as it does with what it stores.
  expect(await archive.ids(relay.url)).toEqual(IDS);
  expect(relay.events).toHaveLength(EVENTS.length);
});

test('archives an ephemeral event that arrives before the EOSE of a page, and expects it no more', async ({
  startRelay,
  archive,
  visit,
}) => {
  const relay = await startRelay();
  const report = await visit(relay, async () =>
    relay.say('EVENT', relay.requests[0]?.subscription, EPHEMERAL),
  );
  expect(report).toMatchObject({ outcome: 'complete', reason: null });
  expect(await archive.ids(relay.url)).toEqual(IDS);
});

test('archives the ephemeral events that a relay stores', async ({ startRelay, archive }) => {
  const relay = await startRelay({ events: [...EVENTS, EPHEMERAL] });
  expect(await archive.visit(relay.url)).toMatchObject({ outcome: 'complete' });
  expect(await archive.ids(relay.url)).toEqual(IDS);
});
