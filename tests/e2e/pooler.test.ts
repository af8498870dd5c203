import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, vi } from 'vitest';
import type { NostrEvent } from '../../src/nostr/event.ts';
import { signedEvent } from '../fixtures/events.ts';
import type { ServerError } from '../postgres/fake-pooler.ts';
import { healthPort, untilHealth } from '../processes/health-client.ts';
import { EVENTS, expectOrderlyEnd, FULL, poolerTest, said } from '../processes/pooler-test.ts';
import type { LogLine } from '../processes/programs.ts';

const ROTATED: ServerError = {
  code: '28P01',
  message: 'password authentication failed for user "bigbrotr"',
};

const test = poolerTest.extend('isStored', ({ database }) => async (id: string) => {
  const rows = await database.query('select from events where id = $1', [Buffer.from(id, 'hex')]);
  return rows.length > 0;
});

// Each test has services, a pooler and a database of its own.
describe.concurrent('npm start', () => {
  test.for([FULL, ROTATED])(
    'a running archive waits while its pooler refuses connections with $code, and stores new events afterwards',
    async (error, { stack, pooler, relay, isStored }) => {
      const program = stack.start('local', [], {
        LOG_LEVEL: 'info',
        SYNCHRONIZER_LOOP_INTERVAL_MINUTES: '1',
      });
      await vi.waitFor(async () => expect(await isStored(EVENTS[0]?.id ?? '')).toBe(true), 60_000);
      pooler.refuse(error);
      const isDown = ({ msg, reason }: LogLine) =>
        msg === 'database is down' && String(reason).includes(error.message);
      await program.logged(isDown, 'that the database is down, and why');
      const where = `:${pooler.port}: ${error.message}`;
      const port = await healthPort(program, 'priority-synchronizer');
      await untilHealth(
        port,
        ({ status, body }) => status === 503 && String(body.databaseReason).includes(where),
      );
      const { refused } = pooler;
      await sleep(5000); // longer than a service takes that gives up
      expect(pooler.refused).toBeGreaterThan(refused);
      expect(program.log.filter(({ level }) => level === 'FATAL')).toEqual([]);
      expect(program.isRunning).toBe(true);
      pooler.refuse(null);
      await program.logged(said('database is up'), 'that the database is up');
      // One that is published between a visit and the subscription after it is read by the next visit, a minute later.
      const published: NostrEvent[] = [];
      const publishAnother = async () => {
        const content = `event ${published.length} after the outage`;
        const event = signedEvent({ created_at: Math.floor(Date.now() / 1000), content });
        published.push(event);
        relay.publish(event);
        const stored = await Promise.all(published.map(({ id }) => isStored(id)));
        expect(stored).toContain(true);
      };
      await vi.waitFor(publishAnother, { timeout: 90_000, interval: 500 });
      await expectOrderlyEnd(program);
    },
  );
});
