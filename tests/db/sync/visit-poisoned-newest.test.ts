import { describe, expect, vi } from 'vitest';
import { type ProbeContext, probeRelay } from '../../../src/monitor/probe.ts';
import { SnapshotWriter } from '../../../src/monitor/snapshot-writer.ts';
import { apartVisitTest } from '../../fixtures/apart-visit-test.ts';
import { signedEvent, signedEvents } from '../../fixtures/events.ts';
import { probeContext } from '../../fixtures/probe-context.ts';
import { relayAddress } from '../../relay/relays.ts';
import { POISONS, type ScriptedRelay } from '../../relay/scripted-relay.ts';

vi.setConfig({ testTimeout: 30_000 });

const T = Math.floor(Date.now() / 1000);
const EVENTS = signedEvents(200, { from: T - 20_000_000, to: T - 10_000 });
const IDS = EVENTS.map(({ id }) => id).sort();

const test = apartVisitTest
  .extend('holes', ({ archive }) => () => {
    return archive.db.query<{ second: number; reason: string }>(
      'select lower(stretch)::integer as second, reason from holes order by 1',
    );
  })
  /** A relay whose newest event cannot be sent. */
  .extend(
    'poisoned',
    ({ startRelay }) =>
      (how: (typeof POISONS)[number], createdAt: number): Promise<ScriptedRelay> => {
        const newest = signedEvent({ created_at: createdAt, content: 'poison' });
        const quirk = { poison: { createdAt: [createdAt], how } };
        return startRelay({ events: [...EVENTS, newest], quirk });
      },
  )
  /** Checks the relay as the monitor does, and stores what was found. */
  .extend(
    'check',
    ({ archive }) =>
      async ({ url }: ScriptedRelay, changes: Partial<ProbeContext> = {}) => {
        const selected = new Set(['open', 'read'] as const);
        const context = probeContext({ timeoutMs: 2000, selected, ...changes });
        const snapshot = await probeRelay(relayAddress(url), context);
        await new SnapshotWriter(archive.bigbrotr, 1).write(snapshot);
        return snapshot;
      },
  );

// Each test has an archive of its own, and mostly waits for answers that do not come.
describe.concurrent('a relay whose newest event cannot be sent', () => {
  test.for(POISONS)(
    'by %s is found readable, and all other events are archived',
    async (how, { poisoned, check, archive, holes }) => {
      const relay = await poisoned(how, T - 5000);
      const { checks } = await check(relay);
      expect(relay.fired.poison).toBeGreaterThan(0);
      expect(checks.read).toMatchObject({
        success: true,
        data: { asked: how === 'closed' ? 'kinds' : 'older' },
      });
      expect(relay.connections.total).toBeLessThanOrEqual(3);
      const readable = await archive.db.query('select relay_url from readable_relays');
      expect(readable).toEqual([{ relay_url: relay.url }]);

      const report = await archive.visit(relay.url, { requestTimeoutMs: 300, stopTimestamp: T });
      expect(report).toMatchObject({ outcome: 'partial', reason: 'holes', events: 200 });
      expect(await archive.ids(relay.url)).toEqual(IDS);
      const reason = how === 'oversized' ? 'oversized' : 'unreadable';
      expect(await holes()).toEqual([{ second: T - 5000, reason }]);
      expect(relay.connections.total).toBeLessThan(60);
    },
  );

  test.for(POISONS)(
    'by %s and lies in the future is archived completely but for that event',
    async (how, { poisoned, check, archive }) => {
      const relay = await poisoned(how, T + 1_000_000);
      const { checks } = await check(relay);
      expect(relay.fired.poison).toBeGreaterThan(0);
      expect(checks.read).toMatchObject({ success: true });
      const report = await archive.visit(relay.url, { requestTimeoutMs: 300 });
      expect(report).toMatchObject({ outcome: 'complete', events: 200 });
      expect(await archive.ids(relay.url)).toEqual(IDS);
    },
  );
});
