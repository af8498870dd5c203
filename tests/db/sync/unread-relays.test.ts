import { describe, expect } from 'vitest';
import { databaseTest } from '../../postgres/fixtures.ts';

const test = databaseTest
  /** A check at that second: null for one that found the relay readable, else why not. */
  .extend(
    'checked',
    ({ database }) =>
      async (url: string, at: number, reason: string | null): Promise<void> => {
        const health = {
          ...{ openable: reason === null || reason === 'auth_required', readable: reason === null },
          ...{ writable: false, reason },
        };
        await database.query('select insert_relay_metadata($1, $2, $3, null, $4)', [
          ...[url, 'clearnet', at, JSON.stringify(health)],
        ]);
        await database.query('select record_relay_check($1, $2, $3::jsonb, 3600)', [
          ...[url, at, JSON.stringify(health)],
        ]);
      },
  )
  .extend('visited', ({ database }) => async (url: string): Promise<void> => {
    await database.query("insert into filters (filter) values ('{}') on conflict do nothing");
    await database.query(
      `insert into visits (relay_id, filter_id, wanted, started_at, ended_at, outcome)
     select relay_id, filter_id, '[0,100)', 300, 400, 'complete' from relays, filters where url = $1`,
      [url],
    );
  })
  .extend(
    'unread',
    ({ database }) =>
      () =>
        database.query(
          `select relay_url, reason, check_reason, since::int, checked_at::int, next_check_at > checked_at as planned,
            visited_at::int
     from unread_relays order by relay_url`,
        ),
  );

describe('relays that are not read', () => {
  test('are shown with the reason of their latest check, since when, and when they are checked again', async ({
    database,
    checked,
    visited,
    unread,
  }) => {
    await database.query("select insert_relay('wss://new.example.com', 'clearnet', 77)");
    await checked('wss://dead.example.com', 1000, 'dns');
    await checked('wss://dead.example.com', 2000, 'timeout');
    await checked('wss://private.example.com', 1000, null);
    await checked('wss://private.example.com', 2000, 'auth_required');
    await checked('wss://private.example.com', 3000, 'auth_required');
    await checked('wss://fine.example.com', 1000, 'timeout');
    await checked('wss://fine.example.com', 2000, null);
    await visited('wss://fine.example.com');
    const row = { reason: 'not_readable', planned: true, visited_at: null };
    expect(await unread()).toEqual([
      {
        ...{ ...row, relay_url: 'wss://dead.example.com', check_reason: 'timeout' },
        ...{ since: 1000, checked_at: 2000 },
      },
      {
        ...{ relay_url: 'wss://new.example.com', reason: 'never_checked', check_reason: null },
        ...{ since: 77, checked_at: null, planned: null, visited_at: null },
      },
      {
        ...{ ...row, relay_url: 'wss://private.example.com', check_reason: 'auth_required' },
        ...{ since: 2000, checked_at: 3000 },
      },
    ]);
  });

  test('do not include relays that were checked while Tor was down', async ({
    checked,
    visited,
    unread,
  }) => {
    await checked('wss://one.example.com', 1000, null);
    await visited('wss://one.example.com');
    await checked('wss://one.example.com', 2000, 'proxy_down');
    expect(await unread()).toEqual([]);
    await checked('wss://two.example.com', 1000, 'proxy_down');
    expect(await unread()).toMatchObject([
      { relay_url: 'wss://two.example.com', check_reason: 'proxy_down', since: 1000 },
    ]);
  });

  test('include readable relays that wait for their first visit', async ({
    database,
    checked,
    unread,
    visited,
  }) => {
    await database.query("select insert_relay('wss://one.example.com', 'clearnet', 77)");
    await checked('wss://one.example.com', 1000, null);
    expect(await unread()).toMatchObject([
      { reason: 'never_visited', check_reason: null, since: 77, checked_at: 1000 },
    ]);
    await visited('wss://one.example.com');
    expect(await unread()).toEqual([]);
  });

  test('remain in relay_coverage with what was read of them, and their last visit', async ({
    checked,
    visited,
    unread,
    database,
  }) => {
    await checked('wss://one.example.com', 1000, 'timeout');
    await visited('wss://one.example.com');
    expect(await unread()).toMatchObject([{ visited_at: 400 }]);
    expect(await database.query('select from relay_coverage')).toHaveLength(1);
  });
});
