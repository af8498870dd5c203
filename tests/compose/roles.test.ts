import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { FIGURE_TABLES } from '../postgres/figure-tables.ts';
import {
  type Archive,
  createArchive,
  missing,
  PERMISSION_DENIED,
  refused,
  secrets,
} from './archive.ts';
import type { ComposeStack, PortName } from './stack.ts';

// Who may do what in the database, through PgBouncer and without it. Needs a Docker engine with Compose v2.

describe.skipIf(missing !== null)('roles', () => {
  let archive: Archive;
  let stack: ComposeStack;
  const { POSTGRES_PASSWORD: writerPassword } = secrets;
  const asWriter = (sql: string) => archive.asWriter(sql);
  const asReader = (sql: string) => archive.asReader(sql);
  const rights = () => archive.rights();

  beforeAll(async () => {
    archive = await createArchive();
    stack = archive.stack;
    await stack.up(['--build', 'pgbouncer']);
  }, 20 * 60_000);

  afterAll(async () => {
    await stack?.down();
  }, 180_000);

  test('the writer reads and writes through PgBouncer', async () => {
    expect(await asWriter('SELECT current_user::text AS name')).toEqual([{ name: 'bigbrotr' }]);
    await asWriter("SELECT insert_relay('wss://nobody.example', 'clearnet')");
  });

  test.each([
    'CREATE TABLE intruder ()',
    'ALTER TABLE events ADD intruder integer',
    'DROP TABLE events',
    'TRUNCATE events',
    'DELETE FROM events',
    'DELETE FROM relays',
    'SET ROLE bigbrotr_owner',
    "SELECT * FROM pgbouncer.secret_of('bigbrotr')",
    'SELECT rolpassword FROM pg_authid',
  ])('the writer may not %s', async (sql) => {
    expect(await refused(asWriter(sql))).toBe(PERMISSION_DENIED);
  });

  test('the writer may delete only from tables of work in progress', async () => {
    const unusual = (await rights()).filter(
      ({ grantee, privilege_type }) =>
        grantee !== 'bigbrotr_owner' && !/^(SELECT|INSERT|UPDATE|USAGE)$/.test(`${privilege_type}`),
    );
    const work = [
      ...['claims', 'coverage', 'filter_parts', 'holes', 'journal', 'named_relays'],
      ...['relay_states', 'withheld'],
    ];
    const allowed = [
      ...work.map((name) => `DELETE ${name}`),
      ...FIGURE_TABLES.flatMap((name) => [`DELETE ${name}`, `TRUNCATE ${name}`]),
    ];
    const found = unusual.map(({ privilege_type, relname }) => `${privilege_type} ${relname}`);
    expect(found.sort()).toEqual(allowed.sort());
    expect(new Set(unusual.map(({ grantee }) => grantee))).toEqual(new Set(['bigbrotr_writers']));
    for (const name of [...work, ...FIGURE_TABLES])
      await asWriter(`DELETE FROM ${name} WHERE false`);
    await asWriter('CREATE TEMPORARY TABLE counted () ON COMMIT DROP'); // the refresher counts into such tables
  });

  test('the API logs in through PgBouncer, reads, and cannot write', async () => {
    const asApi = (sql: string) => stack.query('bigbrotr_api', secrets.API_DB_PASSWORD, sql);
    expect(await asApi('SELECT count(*) FROM events')).toHaveLength(1);
    expect(await asApi('SHOW statement_timeout')).toEqual([{ statement_timeout: '1min' }]);
    const insert =
      "INSERT INTO relays (url, network) VALUES ('wss://intruder.example', 'clearnet')";
    expect(await refused(asApi(insert))).toBe('25006');
    expect(await refused(asApi(`BEGIN READ WRITE; ${insert}`))).toBe(PERMISSION_DENIED);
  });

  test('the reader can only read', async () => {
    expect(await asReader('SELECT count(*) FROM relay_metadata_latest')).toHaveLength(1);
    const insert =
      "INSERT INTO relays (url, network) VALUES ('wss://intruder.example', 'clearnet')";
    expect(await refused(asReader(insert))).toBe('25006');
    expect(await refused(asReader(`BEGIN READ WRITE; ${insert}`))).toBe(PERMISSION_DENIED);
    expect(await asReader('SHOW statement_timeout')).toEqual([{ statement_timeout: '5min' }]);
  });

  test('the superuser logs in directly, and never through PgBouncer', async () => {
    const asSuperuser = (port: PortName) =>
      stack.query('postgres', secrets.POSTGRES_ADMIN_PASSWORD, 'SELECT 1 AS one', { port });
    expect(await asSuperuser('DB_PORT')).toEqual([{ one: 1 }]);
    expect(await refused(asSuperuser('PGBOUNCER_PORT'))).toBe('08P01');
  });

  test('a writer that can become superuser is refused', async () => {
    const login = (sql: string) => stack.exec('postgres', 'psql', '-qU', 'postgres', '-c', sql);
    await login("CREATE ROLE eve LOGIN PASSWORD 'eve' IN ROLE bigbrotr_writers, postgres");
    await login("CREATE ROLE ann LOGIN PASSWORD 'ann' IN ROLE bigbrotr_readers");
    expect(await stack.query('ann', 'ann', 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
    expect(await refused(stack.query('eve', 'eve', 'SELECT 1'))).toBe('08P01');
  });

  test('a wrong password, another database and the pooler’s own roles are refused', async () => {
    const { PGBOUNCER_ADMIN_PASSWORD: admin } = secrets;
    expect(await refused(stack.query('bigbrotr', 'wrong', 'SELECT 1'))).toBe('08P01');
    const elsewhere = stack.query('bigbrotr', writerPassword, 'SELECT 1', {
      database: 'postgres',
    });
    expect(await refused(elsewhere)).toBe('08P01');
    expect(await refused(stack.query('pgbouncer', admin, 'SELECT 1'))).toBe('08P01');
    const console_ = stack.query('bigbrotr', writerPassword, 'SHOW POOLS', {
      database: 'pgbouncer',
    });
    expect(await refused(console_)).toBe('08P01');
  });

  test('the administrator sees the pools', async () => {
    const pools = await stack.query('admin', secrets.PGBOUNCER_ADMIN_PASSWORD, 'SHOW POOLS', {
      database: 'pgbouncer',
    });
    expect(pools).toContainEqual(
      expect.objectContaining({
        database: 'bigbrotr',
        user: 'bigbrotr',
        pool_mode: 'transaction',
      }),
    );
  });

  test('admin can log in only inside the container: neither over the network nor through PgBouncer', async () => {
    const inside = ['psql', '-U', 'admin', '-d', 'bigbrotr', '-qAtc', 'SELECT current_user'];
    expect((await stack.exec('postgres', ...inside)).trim()).toBe('admin');
    for (const password of [
      secrets.PGBOUNCER_ADMIN_PASSWORD,
      secrets.POSTGRES_ADMIN_PASSWORD,
      '',
    ]) {
      const login = (port: PortName) => stack.query('admin', password, 'SELECT 1', { port });
      expect(await refused(login('DB_PORT'))).toMatch(/^28P01$|password/);
      expect(await refused(login('PGBOUNCER_PORT'))).toMatch(/^08P01$|password/);
    }
  });
});
