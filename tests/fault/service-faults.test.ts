import { afterEach, describe, expect, test, vi } from 'vitest';
import { type TestDatabase, testDatabase } from '../support/database.ts';
import { Stack } from '../support/stack.ts';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts';

let made: TestDatabase;
let stack: Stack;
let proxy: TcpProxy;

afterEach(async () => {
  await proxy.close();
  await stack.remove();
  await made.drop();
});

describe('a service whose database is away', () => {
  test.each(['refused', 'silent'] as const)(
    'when it starts (%s) and is told to stop, ends in time and has not failed',
    async (how) => {
      made = await testDatabase();
      stack = await Stack.create();
      proxy = await startTcpProxy(made.config);
      if (how === 'silent') proxy.stall();
      else proxy.refuse(1000);
      stack.useDatabase({ ...made.config, host: proxy.host, port: proxy.port });
      await stack.relays([]);
      // Against a silent server only force helps; the other gives up by itself.
      stack.env.SHUTDOWN_TIMEOUT_SECONDS = how === 'silent' ? '2' : '10';
      const monitor = stack.start('monitor');
      await monitor.logged(({ msg }) => msg === 'health is served', 'health is served');
      await vi.waitFor(() => expect(proxy.total).toBeGreaterThan(0), { timeout: 10_000 });
      monitor.signal('SIGTERM');
      expect(await monitor.ended, monitor.said).toEqual({ code: 0, signal: null });
      expect(monitor.said).not.toContain('cannot go on');
    },
  );
});
