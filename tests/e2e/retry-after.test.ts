import { describe, expect } from 'vitest';
import { stackTest } from '../processes/stack-test.ts';

const HEADERS = { 'retry-after': '7200' };

const test = stackTest
  /** Runs the monitor when every relay is due by its schedule, and was named anew. */
  .extend('checkAgain', ({ database, runOnce }) => async () => {
    await database.query('update relay_schedule set due_at = 0, checked_at = 1, seen_again_at = 1');
    await runOnce('monitor');
  });

test.beforeEach(({ stack }) => {
  stack.env.MONITOR_CHECKS = 'open,read,nip11';
});

describe('Retry-After', () => {
  test('delays the next check of a relay, and the next request of another one’s NIP-11 document', async ({
    startRelay,
    stack,
    runOnce,
    checkAgain,
    database,
  }) => {
    const refusing = await startRelay({ upgrade: { status: 429, headers: HEADERS } });
    const reading = await startRelay({ nip11: { status: 503, headers: HEADERS } });
    const counts = () => ({
      upgrades: refusing.fired.upgrade,
      connections: reading.connections.total,
      documents: reading.fetches.length,
    });
    await stack.relays([refusing.url, reading.url]);
    await runOnce('initializer');
    await runOnce('monitor');
    expect(counts()).toEqual({ upgrades: 1, connections: 1, documents: 1 });

    await checkAgain();
    expect(counts()).toEqual({ upgrades: 1, connections: 2, documents: 1 });
    const reasons = await database.query(
      `select distinct reason from relay_checks where relay_url = '${reading.url}' and name = 'nip11'`,
    );
    expect(reasons).toEqual([{ reason: 'http_503' }]);

    await database.query(
      'update relay_manners set retry_at = retry_at - 7300, nip11_retry_at = nip11_retry_at - 7300',
    );
    await checkAgain();
    expect(counts()).toEqual({ upgrades: 2, connections: 3, documents: 2 });
  });
});
