import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import type { DatabaseConfig } from '../../../src/config/load.ts';
import { Bigbrotr } from '../../../src/database/bigbrotr.ts';
import {
  Database,
  DatabaseError,
  isDataError,
  isTransient,
  type OpenOptions,
  SERVICE_PATIENCE,
} from '../../../src/database/connection.ts';
import { migrateArchive } from '../../../src/database/migrate.ts';
import { databaseConfig, silent } from '../../postgres/bigbrotr.ts';
import { type TestDatabase, testDatabase } from '../../postgres/database.ts';
import { type FakePooler, type ServerError, startFakePooler } from '../../postgres/fake-pooler.ts';

vi.setConfig({ testTimeout: 30_000 });

/** How poolers and servers in trouble refuse: some codes are their own, some mean something else elsewhere. */
const REFUSALS: readonly ServerError[] = [
  { code: 'XX000', message: 'no session is free: the pool is full' },
  { code: '08P01', message: 'no more connections allowed (max_client_conn)' },
  { code: '08P01', message: 'server login has been failing, try again later (server_login_retry)' },
  { code: '53300', message: 'sorry, too many clients already' },
  { code: '57P03', message: 'the database system is starting up' },
  { code: '57P03', message: 'the database system is shutting down' },
  { code: 'P0001', message: 'max clients reached' },
  { code: '23505', message: 'a code of which nobody thought' },
  { code: '42P01', message: 'the pooler lacks a table of its own' },
  { code: 'ZZ999', message: 'no code that PostgreSQL has' },
  { code: '', message: 'no code at all' },
];
/** What no waiting mends when a program starts, and what passes while it runs: a failover, a rotated password. */
const LOGIN_REFUSALS: readonly ServerError[] = [
  { code: '28P01', message: 'password authentication failed for user "bigbrotr"' },
  { code: '28000', message: 'role "bigbrotr" is not permitted to log in' },
  { code: '3D000', message: 'database "bigbrotr" does not exist' },
  { code: '42501', message: 'permission denied for database "bigbrotr"' },
  { code: '08P01', message: 'no such database: bigbrotr' },
];

let made: TestDatabase;
let pooler: FakePooler;
const opened: Database[] = [];

beforeAll(async () => {
  made = await testDatabase();
});
afterAll(() => made.drop());
beforeEach(async () => {
  pooler = await startFakePooler(made.config);
});
afterEach(async () => {
  pooler.refuse(null);
  await Promise.all(opened.splice(0).map((database) => database.close()));
  await pooler.close();
});

const config = (parts: Partial<DatabaseConfig> = {}) =>
  databaseConfig(made, { host: pooler.host, port: pooler.port, ...parts });

async function open(options: OpenOptions = {}): Promise<Database> {
  const database = await Database.connect(config(), silent, options);
  opened.push(database);
  return database;
}

/** Resolves when this number of further connections were refused. */
async function refusedAgain(times: number): Promise<void> {
  const wanted = pooler.refused + times;
  await vi.waitFor(() => expect(pooler.refused).toBeGreaterThanOrEqual(wanted), 10_000);
}

/** As a service, which tries again sooner: twenty tests wait for three tries. */
const SOON_AGAIN = { ...SERVICE_PATIENCE, connectFirstDelayMs: 20 };

const failure = (attempt: Promise<unknown>) =>
  attempt.then(
    () => new Error('it did not fail'),
    (error: unknown) => error as DatabaseError,
  );

describe('a refusal by a database that was reached before', () => {
  test.each([...REFUSALS, ...LOGIN_REFUSALS])(
    'is waited for while connections are refused with $code $message',
    async (error) => {
      const database = await open();
      pooler.refuse(error);
      const asked = database.query<{ one: number }>('select 1 as one');
      const inTransaction = database.transaction((query) =>
        query<{ two: number }>('select 2 as two'),
      );
      await refusedAgain(4);
      const { host, port } = pooler;
      const reason = await database.whyDown(2000);
      expect(reason).toContain(`${host}:${port}: ${error.message}`);
      pooler.refuse(null);
      expect((await asked).rows).toEqual([{ one: 1 }]);
      expect((await inTransaction).rows).toEqual([{ two: 2 }]);
      expect(await database.whyDown(2000)).toBeNull();
    },
  );

  test.each([...REFUSALS, ...LOGIN_REFUSALS])(
    'may end a connection in the midst of a statement with $code $message',
    async (error) => {
      const database = await open();
      pooler.breakWith(error);
      expect((await database.query('select 1 as one')).rows).toEqual([{ one: 1 }]);
      pooler.breakWith(error);
      const { rows } = await database.transaction((query) => query('select 2 as two'));
      expect(rows).toEqual([{ two: 2 }]);
    },
  );

  test('is recognised with a severity in another language', async () => {
    const database = await open();
    pooler.breakWith({ severity: 'FEHLER', code: 'P0001', message: 'die Verbindung endet' });
    expect((await database.query('select 1 as one')).rows).toEqual([{ one: 1 }]);
  });

  test('is a transient error, not a data error, when it lasts', async () => {
    const database = await open({ patience: { ...SERVICE_PATIENCE, retryForMs: 0 } });
    for (const error of [...REFUSALS, ...LOGIN_REFUSALS]) {
      pooler.refuse(error);
      const failed = await failure(database.query('select 1'));
      expect(failed).toMatchObject({ permanent: false });
      expect(isTransient(failed)).toBe(true);
      expect(isDataError(failed) || isDataError(failed.cause)).toBe(false);
    }
  });

  test('does not change errors of our own statements', async () => {
    const database = await open();
    const missing = await failure(database.query('select from no_such_table'));
    expect(missing).toMatchObject({ code: '42P01', permanent: true });
    const raised = await failure(database.query("do $$ begin raise exception 'ours'; end $$"));
    expect(raised).toMatchObject({ code: 'P0001', permanent: true });
  });
});

describe('a start', () => {
  test.each(REFUSALS)('waits while it is refused with $code $message', async (error) => {
    pooler.refuse(error);
    const lines: Record<string, unknown>[] = [];
    const log = pino({ level: 'warn' }, { write: (line) => void lines.push(JSON.parse(line)) });
    const reasons: string[] = [];
    const connecting = Bigbrotr.connect(config({ waitsForever: true }), log, {
      patience: SOON_AGAIN,
      onRefused: (reason) => void reasons.push(reason),
    });
    await refusedAgain(3);
    expect(lines[0]).toMatchObject({
      msg: 'database not reachable, trying again',
      code: error.code,
      reason: expect.stringContaining(error.message),
      waitedSeconds: expect.any(Number),
      until: 'it answers',
    });
    expect(reasons[0]).toBe(lines[0]?.reason);
    pooler.refuse(null);
    await (await connecting).close();
  });

  test.each(LOGIN_REFUSALS)('gives up at once for $code $message', async (error) => {
    pooler.refuse(error);
    for (const attempt of [
      () => Bigbrotr.connect(config({ waitsForever: true }), silent),
      () => Bigbrotr.load(config({ waitsForever: true }), '', silent),
      () => migrateArchive(config({ waitsForever: true }), config(), silent),
    ]) {
      const before = pooler.refused;
      const failed = await failure(attempt());
      expect(failed).toBeInstanceOf(DatabaseError);
      expect(failed).toMatchObject({ permanent: true });
      expect(pooler.refused).toBe(before + 1);
    }
  });

  test.each(LOGIN_REFUSALS)(
    'of a worker, whose service was let in, waits for $code $message',
    async (error) => {
      pooler.refuse(error);
      const connecting = Bigbrotr.connect(config({ waitsForever: true }), silent, {
        patience: SOON_AGAIN,
        loginWorked: true,
      });
      await refusedAgain(3);
      pooler.refuse(null);
      await (await connecting).close();
    },
  );

  test('ends at once on abort', async () => {
    pooler.refuse({ code: 'XX000', message: 'full' });
    const stopping = new AbortController();
    const connecting = failure(
      Bigbrotr.connect(config({ waitsForever: true }), silent, { signal: stopping.signal }),
    );
    await refusedAgain(2);
    stopping.abort();
    expect(await connecting).toMatchObject({ code: 'XX000', permanent: false });
  });

  test('ends on abort during an attempt at a server that does not answer', async () => {
    const silence = createServer(() => {});
    silence.listen(0, '127.0.0.1');
    await once(silence, 'listening');
    const stopping = new AbortController();
    const accepted = once(silence, 'connection');
    const { port } = silence.address() as AddressInfo;
    const connecting = failure(
      Bigbrotr.connect(config({ port, waitsForever: true }), silent, { signal: stopping.signal }),
    );
    const [socket] = (await accepted) as [Socket];
    stopping.abort();
    expect(await connecting).toMatchObject({ permanent: false });
    expect(socket.destroyed).toBe(false); // the attempt itself is not over
    socket.destroy();
    silence.close();
  });

  test('names a missing init.sql of a database that answers later', async () => {
    const name = `${made.config.database}_bare`;
    await made.query(`create database ${name} template template0`);
    try {
      pooler.refuse({ code: 'XX000', message: 'full' });
      const connecting = failure(
        Bigbrotr.connect(config({ database: name, waitsForever: true }), silent),
      );
      await refusedAgain(2);
      pooler.refuse(null);
      expect(await connecting).toMatchObject({ code: '42P01', permanent: true });
    } finally {
      await made.query(`drop database ${name} with (force)`);
    }
  });
});

describe('a refusal of an unencrypted connection', () => {
  test.each([
    {
      code: '28000',
      message: 'no pg_hba.conf entry for host "127.0.0.1", user "b", database "b", no encryption',
    },
    { code: '28000', message: 'no pg_hba.conf entry for host "127.0.0.1", user "b", SSL off' },
    { code: '08P01', message: 'SSL required' },
    { code: '28000', message: 'SSL connection is required. Please specify SSL options and retry.' },
    { code: 'XX000', message: 'connection is insecure (try using `sslmode=require`)' },
  ])(
    'names the setting, ends a start at once, and is no wrong password: $message',
    async (error) => {
      pooler.refuse(error);
      const failed = await failure(Bigbrotr.connect(config({ waitsForever: true }), silent));
      expect(failed).toMatchObject({ permanent: true });
      expect(failed.message).toMatch(/without encryption.*POSTGRES_SSL_MODE/);
      expect(failed.message).not.toMatch(/POSTGRES_PASSWORD/);
    },
  );

  test('an address that pg_hba.conf refuses is not reported as a wrong password', async () => {
    pooler.refuse({
      code: '28000',
      message: 'no pg_hba.conf entry for host "127.0.0.1", user "b", database "b", SSL encryption',
    });
    const failed = await failure(Bigbrotr.connect(config({ waitsForever: true }), silent));
    expect(failed.message).toMatch(/pg_hba\.conf/);
    expect(failed.message).not.toMatch(/POSTGRES_PASSWORD|POSTGRES_SSL_MODE/);
  });
});
