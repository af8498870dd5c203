import { expect, vi } from 'vitest';
import { startTcpProxy } from '../network/tcp-proxy.ts';
import { stackTest } from '../processes/stack-test.ts';

stackTest.for(['refused', 'silent'] as const)(
  'a service that is stopped while its database is unreachable (%s) ends in time with exit code 0',
  async (how, { stack, database, onTestFinished }) => {
    const proxy = await startTcpProxy(database.config);
    onTestFinished(() => proxy.close());
    if (how === 'silent') proxy.stall();
    else proxy.refuse(1000);
    stack.useDatabase({ ...database.config, host: proxy.host, port: proxy.port });
    await stack.relays([]);
    // Against a silent server only force helps; the other gives up by itself.
    stack.env.SHUTDOWN_TIMEOUT_SECONDS = how === 'silent' ? '2' : '10';
    const monitor = stack.start('monitor');
    await monitor.logged(({ msg }) => msg === 'health is served', 'health is served');
    await vi.waitFor(() => expect(proxy.total).toBeGreaterThan(0), { timeout: 10_000 });
    monitor.signal('SIGTERM');
    expect(await monitor.ended, monitor.said).toEqual({ code: 0, signal: null });
    expect(monitor.said).not.toContain('the service failed');
  },
);
