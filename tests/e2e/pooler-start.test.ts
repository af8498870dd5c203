import { describe, expect, vi } from 'vitest';
import { healthPort, untilHealth } from '../processes/health-client.ts';
import { expectOrderlyEnd, FULL, poolerTest, said } from '../processes/pooler-test.ts';

const test = poolerTest;
const waiting = said('database not reachable, trying again');

// Each test has services, a pooler and a database of its own.
describe.concurrent('start of a service', () => {
  test.for(['local', 'priority-synchronizer', 'monitor', 'finder'] as const)(
    '%s waits at its start while its pooler is full, and reports why',
    async (entrypoint, { stack, pooler, relay: _listed }) => {
      pooler.refuse(FULL);
      const program = stack.start(entrypoint);
      const line = await program.logged(waiting, 'that it waits');
      expect(line).toMatchObject({
        code: 'XX000',
        reason: expect.stringContaining(FULL.message),
        until: 'it answers',
      });
      const { refused } = pooler;
      await vi.waitFor(() => expect(pooler.refused).toBeGreaterThan(refused + 5), 30_000);
      expect(program.isRunning).toBe(true);
      if (entrypoint !== 'local') {
        const port = await healthPort(program, entrypoint);
        const { body } = await untilHealth(port, ({ status }) => status === 503);
        expect(body).toMatchObject({
          state: 'starting',
          databaseReason: expect.stringContaining(FULL.message),
        });
        pooler.refuse(null);
        await untilHealth(port, ({ status }) => status === 200);
      }
      await expectOrderlyEnd(program);
    },
  );

  test('a service that receives SIGTERM while it waits for its database exits with 0', async ({
    stack,
    pooler,
    relay: _listed,
  }) => {
    pooler.refuse(FULL);
    const program = stack.start('synchronizer');
    await program.logged(waiting, 'that it waits');
    await expectOrderlyEnd(program);
  });
});
