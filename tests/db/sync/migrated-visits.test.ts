import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Bigbrotr } from '../../../src/database/bigbrotr.ts';
import { migrateArchive } from '../../../src/database/migrate.ts';
import { databaseConfig, silent } from '../../postgres/bigbrotr.ts';
import { type TestDatabase, testDatabase, testServer } from '../../postgres/database.ts';
import { earlierArchiveSql } from '../../postgres/earlier-archive.ts';

let old: TestDatabase;

/** An archive as it was before visits had reasons. */
beforeEach(async () => {
  old = await testDatabase({ ...(await testServer()), template: 'template0' });
  await old.query(earlierArchiveSql());
});
afterEach(async () => {
  await old.drop();
});

const migrate = () => migrateArchive(databaseConfig(old), databaseConfig(old), silent);

/** How a visit ended then: outcome, sentence, failures in a row. */
type End = readonly [outcome: string | null, detail: string | null, failures: number];

/** Visits that ended so, of relays named by their place. */
async function visited(ends: readonly End[]): Promise<void> {
  await old.query("insert into filters (filter) values ('{}')");
  for (const [place, [outcome, detail, failures]] of ends.entries()) {
    await old.query('select insert_relay($1, $2)', [`wss://${place}.example.com`, 'clearnet']);
    await old.query(
      `insert into visits (relay_id, filter_id, wanted, started_at, ended_at, outcome, detail, failures)
       select relay_id, 1, '[0,100)', 300, case when $2::text is not null then 400 end, $2, $3, $4
       from relays where url = $1`,
      [`wss://${place}.example.com`, outcome, detail, failures],
    );
  }
}

describe('an archive from before visits had reasons', () => {
  test('gets a stop reason for each sentence, and the time since when its relays fail', async () => {
    const ends: [End, string | null][] = [
      [['complete', null, 0], null],
      [[null, null, 2], null],
      [['partial', null, 0], null],
      [['failed', 'timeout', 3], 'timeout'],
      [['failed', 'http_503', 1], 'http_error'],
      [['failed', 'dns', 1], 'dns'],
      [['failed', 'rate_limited: rate-limited: slow down', 1], 'rate_limited'],
      [['partial', 'auth_required during NIP-77', 0], 'auth_required'],
      [['partial', 'closed: error: no', 0], 'closed'],
      [['failed', 'closed: limit too large', 1], 'limit_refused'],
      [['failed', 'disconnected: code 1006', 1], 'disconnected'],
      [['partial', 'oversized: Max payload size exceeded', 0], 'oversized'],
      [['unfinished', 'time is up', 0], 'time_is_up'],
      [['unfinished', 'stopped', 0], 'stopped'],
      [['unfinished', 'proxy_down', 0], 'proxy_down'],
      [['partial', 'ignores until', 0], 'ignores_until'],
      [['partial', 'ignores since or until', 0], 'ignores_since'],
      [['failed', 'too many forged or broken events', 1], 'forged'],
      [['failed', 'says that there is more and shows nothing', 1], 'more_without_events'],
      [['failed', 'answers nothing where it has shown events', 1], 'hides_events'],
      [['failed', 'shows nothing, though it has shown events before', 1], 'hides_events'],
      [['partial', '17 stretches cannot be proven', 0], 'holes'],
      [['failed', 'the worker died: exit code 86', 1], 'worker_died'],
      [['failed', 'something that nobody remembers', 1], 'protocol'],
    ];
    await visited(ends.map(([end]) => end));
    await migrate();
    const rows = await old.query(
      `select detail, stop_reason, failures, failing_since::int from visits order by relay_id`,
    );
    expect(rows).toEqual(
      ends.map(([[outcome, detail, failures], stop_reason]) => ({
        ...{ detail, stop_reason, failures },
        failing_since: failures === 0 ? null : outcome === null ? 300 : 400,
      })),
    );
    const coverage = await old.query(
      `select relay_url from relay_coverage where stop_reason = 'dns' and failing_since = 400 and offences = 0`,
    );
    expect(coverage).toEqual([{ relay_url: 'wss://5.example.com' }]);
  });

  test('gives rows without a time one that is never in the future', async () => {
    await migrate();
    await old.query(
      "insert into relays (url, network) values ('wss://new.example.com', 'clearnet')",
    );
    await old.query("select insert_relay('wss://newer.example.com', 'clearnet')");
    const defaults = await old.query<{ text: string }>(
      `select pg_get_expr(adbin, adrelid) as text from pg_attrdef where pg_get_expr(adbin, adrelid) ~ 'now'
         and adrelid <> 'schema_migrations'::regclass`,
    );
    expect(new Set(defaults.map(({ text }) => text))).toEqual(new Set(['unix_now()']));
    const bodies = await old.query<{ name: string }>(
      `select proname as name from pg_proc
       where pronamespace = 'public'::regnamespace and pg_get_functiondef(oid) ~* 'epoch from' order by 1`,
    );
    expect(bodies.map(({ name }) => name)).toEqual(['unix_now']);
    const views = await old.query(
      `select viewname from pg_views where schemaname = 'public' and definition ~* 'extract\\(epoch'`,
    );
    expect(views).toEqual([]);
    const bigbrotr = await Bigbrotr.connect(databaseConfig(old), silent);
    await bigbrotr.close();
  });
});
