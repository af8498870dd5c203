import { createServer, type Server } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { Bigbrotr } from '../../src/bigbrotr.ts';
import type { DatabaseConfig } from '../../src/config.ts';
import {
  COMMAND_PATIENCE,
  Database,
  DatabaseError,
  isDataError,
  isTransient,
  NOW,
  type Patience,
  SERVICE_PATIENCE,
} from '../../src/database.ts';
import { databaseConfig, silent } from '../support/bigbrotr.ts';
import { type TestDatabase, testDatabase, testServer } from '../support/database.ts';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts';

/** How long the code under test means to wait, in milliseconds. It does wait. */
const delays = vi.hoisted(() => [] as number[]);
vi.mock('node:timers/promises', async (original) => {
  const timers = await original<typeof import('node:timers/promises')>();
  const setTimeout: typeof timers.setTimeout = (ms, value, options) => {
    delays.push(ms ?? 0);
    return timers.setTimeout(ms, value, options);
  };
  return { ...timers, setTimeout };
});

const QUICK: Patience = {
  connectionWaitMs: 2000,
  startWaitMs: 100,
  connectFirstDelayMs: 5,
  retryForMs: 10_000,
};

let made: TestDatabase;
let proxy: TcpProxy;
const opened: Database[] = [];

beforeAll(async () => {
  made = await testDatabase();
  await made.query('create sequence tries');
});
afterAll(() => made.drop());
beforeEach(async () => {
  delays.length = 0;
  proxy = await startTcpProxy(made.config);
  await made.query('alter sequence tries restart');
});
afterEach(async () => {
  proxy.recover();
  await Promise.all(opened.splice(0).map((database) => database.close()));
  await proxy.close();
});

function config(parts: Partial<DatabaseConfig> = {}): DatabaseConfig {
  return databaseConfig(made, { host: proxy.host, port: proxy.port, ...parts });
}

async function open(parts: Partial<DatabaseConfig> = {}, patience: Partial<Patience> = {}) {
  const database = await Database.connect(config(parts), silent, {
    patience: { ...QUICK, ...patience },
  });
  opened.push(database);
  return database;
}

/** The error of an attempt that must fail. */
async function failure(attempt: Promise<unknown>): Promise<DatabaseError> {
  const error = await attempt.then(
    () => new Error('it did not fail'),
    (reason: unknown) => reason,
  );
  if (!(error instanceof DatabaseError)) throw error;
  return error;
}

const attempt = (parts: Partial<DatabaseConfig>, patience: Partial<Patience> = {}) =>
  failure(Database.connect(config(parts), silent, { patience: { ...QUICK, ...patience } }));

describe('connecting', () => {
  test('waits a minute for a command, and for a service until the database answers', () => {
    expect(COMMAND_PATIENCE).toMatchObject({ connectionWaitMs: 30_000, startWaitMs: 60_000 });
    expect(SERVICE_PATIENCE.startWaitMs).toBe(Number.POSITIVE_INFINITY);
  });

  test('with a wrong password fails at once, with a sentence that helps', async () => {
    const error = await attempt({ password: 'wrong' });
    expect(error).toMatchObject({ code: '28P01', permanent: true });
    expect(error.message).toMatch(
      /^PostgreSQL refuses the login \S+: check POSTGRES_USER and POSTGRES_PASSWORD/,
    );
    expect(error.message).not.toContain('wrong');
    expect(proxy.total).toBe(1);
    expect(delays).toEqual([]);
  });

  test('as a user that is not there, or to a database that is not there', async () => {
    expect(await attempt({ user: 'nobody_knows' })).toMatchObject({ permanent: true });
    const error = await attempt({ database: 'nowhere' });
    expect(error).toMatchObject({ code: '3D000', permanent: true });
    expect(error.message).toMatch(/^There is no database at \S+\/nowhere: create it/);
    expect(proxy.total).toBe(2);
  });

  test('to a database without init.sql fails at once; after loading it, all is well', async () => {
    const { database } = await testServer();
    const name = `${made.config.database}_empty`;
    await made.query(`create database ${name}`);
    try {
      const empty = config({ database: name });
      const error = await failure(Bigbrotr.connect(empty, silent));
      expect(error).toMatchObject({ code: '42P01', permanent: true });
      expect(error.message).toMatch(/lacks something that init\.sql makes: load init\.sql/);
      expect(delays).toEqual([]);
      const url = new URL('../../init.sql', import.meta.url);
      const { readFile } = await import('node:fs/promises');
      const initSql = await readFile(url, 'utf8');
      await Bigbrotr.load(empty, initSql, silent);
      await Bigbrotr.load(empty, initSql, silent);
      await (await Bigbrotr.connect(empty, silent)).close();
    } finally {
      await made.query(`drop database ${name} with (force)`);
    }
    expect(database).not.toBe(name);
  });

  test('is tried after longer and longer waits when nobody listens, and says for how long', async () => {
    await proxy.close();
    const warnings: Record<string, unknown>[] = [];
    const log = pino({ level: 'warn' }, { write: (line) => void warnings.push(JSON.parse(line)) });
    const error = await failure(Database.connect(config(), log, { patience: QUICK }));
    expect(error).toMatchObject({ code: 'ECONNREFUSED', permanent: false });
    expect(error.message).toMatch(/ECONNREFUSED.*; given up after 0 s$/);
    expect(warnings[0]).toMatchObject({
      msg: 'database not reachable, trying again',
      attempt: 1,
      code: 'ECONNREFUSED',
      waitedSeconds: 0,
      until: expect.stringMatching(/^\d{4}-\d\d-\d\dT/),
    });
    expect(warnings).toHaveLength(3); // the first tries; the same reason is told again after 30 s
    expect(delays.length).toBeGreaterThan(2);
    expect(delays).toEqual([5, 10, 20, 40].slice(0, delays.length));
    expect(delays.length).toBeLessThanOrEqual(4);
    proxy = await startTcpProxy(made.config);
  });

  test('succeeds when the server comes back in between', async () => {
    proxy.refuse(3);
    await open();
    expect(proxy.total).toBe(4);
    expect(delays).toEqual([5, 10, 20]);
  });

  test('to a server that never answers is given up in time', async () => {
    proxy.stall();
    const error = await attempt({}, { connectionWaitMs: 100, startWaitMs: 150 });
    expect(error).toMatchObject({ permanent: false });
    expect(error.message).toMatch(/timeout/);
    expect(proxy.total).toBe(2);
  });

  test('to something that is no PostgreSQL fails, and does not hang', async () => {
    const web: Server = createServer((socket) => {
      socket.on('error', () => {});
      socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n');
    });
    await new Promise<void>((done) => web.listen(0, '127.0.0.1', done));
    const { port } = web.address() as { port: number };
    await expect(Database.connect(config({ port }), silent, { patience: QUICK })).rejects.toThrow();
    web.close();
  });
});

describe('a statement', () => {
  /** Fails with that SQLSTATE when it is tried for the first time. */
  const secondTime = (code: string) => `do $$ begin
    if nextval('tries') < 2 then raise exception using errcode = '${code}', message = 'on purpose'; end if;
  end $$`;
  const tries = async () =>
    Number((await made.query<{ n: string }>('select last_value as n from tries'))[0]?.n);

  test.each([
    '40001',
    '40P01',
    '55P03',
    '53100',
    '53200',
    '53300',
    '57014',
    '57P01',
    '57P03',
    '58030',
    '25P03',
    '08006',
    '08P01',
  ])('that fails with %s is sent again', async (code) => {
    const database = await open();
    await database.query(secondTime(code));
    expect(await tries()).toBe(2);
  });

  test.each(['42601', '42501', '22012', '22P02', '23505', '23514', '54000', 'XX001', 'P0001'])(
    'that fails with %s is not, and its connection stays',
    async (code) => {
      const database = await open({ maxPool: 1 });
      expect(await failure(database.query(secondTime(code)))).toMatchObject({
        code,
        permanent: true,
      });
      expect(await tries()).toBe(1);
      await database.query('select 1');
    },
  );

  test('is given up when what should pass does not', async () => {
    const database = await open({}, { retryForMs: 200 });
    await made.query("select setval('tries', 1, false)");
    const never = secondTime('40001').replace('< 2', '< 1000000');
    expect(await failure(database.query(never))).toMatchObject({ code: '40001', permanent: false });
    expect(await tries()).toBeGreaterThan(1);
    expect(delays.filter((ms) => ms > 2000)).toEqual([]);
  });

  test('that takes too long is cut off, on the server too, and that passes', async () => {
    const database = await open({ commandTimeoutMs: 300 }, { retryForMs: 0 });
    const slow = (where: string) => `select pg_sleep(20), 'slow ${where}' as mark`;
    expect(await failure(database.query(slow('alone')))).toMatchObject({ permanent: false });
    const inTransaction = database.transaction((query) => query(slow('in a transaction')));
    expect(await failure(inTransaction)).toMatchObject({ permanent: false });
    // Outside of a transaction the server works on: it hears of nothing but a closed connection.
    const left = `select from pg_stat_activity
      where state = 'active' and starts_with(query, $1) and datname = current_database()`;
    await vi.waitFor(async () =>
      expect(await made.query(left, [slow('in a transaction')])).toEqual([]),
    );
    expect(await made.query(left, [slow('alone')])).toHaveLength(1);
  });

  test('takes for now a second that has come, as the clock of Node does', async () => {
    const database = await open();
    let late = 0;
    for (let tries = 0; late < 3 && tries < 400; tries += 1) {
      const { rows } = await database.query<{ ahead: string; late: boolean }>(
        `select ${NOW} - extract(epoch from now()) as ahead, extract(epoch from now()) % 1 > 0.6 as late`,
      );
      expect(Number(rows[0]?.ahead)).toBeLessThanOrEqual(0);
      expect(Number(rows[0]?.ahead)).toBeGreaterThan(-1);
      if (rows[0]?.late) late += 1;
      await sleep(20);
    }
    expect(late, 'the part of a second that a cast rounds up').toBe(3);
  });

  test('gives counts and times as numbers', async () => {
    const database = await open();
    const { rows } = await database.query(
      'select count(*) as count, 1700000000::bigint as at, null::bigint as none, 1.5::numeric as n',
    );
    expect(rows).toEqual([{ count: 1, at: 1_700_000_000, none: null, n: '1.5' }]);
  });
});

describe('the pool', () => {
  test('makes a caller wait for a free connection, but not for ever', async () => {
    const database = await open({ maxPool: 1 }, { connectionWaitMs: 1000, retryForMs: 0 });
    let release: () => void = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const holder = database.transaction(async (query) => {
      await query('select 1');
      await held;
    });
    const error = await failure(database.query('select 1'));
    expect(error).toMatchObject({ permanent: false });
    expect(error.message).toMatch(/timeout exceeded when trying to connect/);
    const patient = database.query('select 1');
    release();
    await holder;
    await patient;
  });

  test('outlives connections that were cut while idle', async () => {
    const database = await open();
    await Promise.all([database.query('select 1'), database.query('select 1')]);
    proxy.cut();
    await database.query('select 1');
  });

  test('knows whether the server is up, and never throws', async () => {
    const database = await open();
    expect(await database.isUp(2000)).toBe(true);
    proxy.stall();
    expect(await database.isUp(100)).toBe(false);
    proxy.cut();
    await proxy.close();
    expect(await database.isUp(2000)).toBe(false);
    proxy = await startTcpProxy(made.config);
    await database.close();
    opened.pop();
    expect(await database.isUp(100)).toBe(false);
  });

  test('closes after what runs has ended', async () => {
    const database = await open();
    const running = database.query("select pg_sleep(0.2), 'ended' as state");
    await sleep(50);
    await database.close();
    opened.pop();
    await expect(running).resolves.toMatchObject({ rows: [{ state: 'ended' }] });
  });
});

describe('a transaction', () => {
  beforeAll(() => made.query('create table notes (note text primary key)'));
  beforeEach(() => made.query('truncate notes'));
  const notes = async () =>
    (await made.query<{ note: string }>('select note from notes order by note')).map(
      ({ note }) => note,
    );
  const insert = 'insert into notes values ($1)';

  test('is all or nothing', async () => {
    const database = await open({ maxPool: 1 });
    const failing = database.transaction(async (query) => {
      await query(insert, ['a']);
      await query(insert, ['a']);
    });
    expect(await failure(failing)).toMatchObject({ code: '23505', permanent: true });
    expect(await notes()).toEqual([]);
    await database.transaction(async (query) => {
      await query(insert, ['a']);
      await query(insert, ['b']);
    });
    expect(await notes()).toEqual(['a', 'b']);
    expect(proxy.total).toBe(1); // the connection was sound all the time
  });

  test('of which the work throws is rolled back, and the error is what was thrown', async () => {
    const database = await open({ maxPool: 1 });
    const mistake = new TypeError('a mistake of ours');
    const failing = database.transaction(async (query) => {
      await query(insert, ['a']);
      throw mistake;
    });
    await expect(failing).rejects.toBe(mistake);
    expect(await notes()).toEqual([]);
    await database.transaction((query) => query(insert, ['b']));
    expect(await notes()).toEqual(['b']);
  });

  test('of which a failed statement was overlooked is not taken for committed', async () => {
    const database = await open({ maxPool: 1 });
    const failing = database.transaction(async (query) => {
      await query(insert, ['a']);
      await query('select 1/0').catch(() => {});
    });
    await expect(failing).rejects.toThrow('a transaction ended in ROLLBACK, not in COMMIT');
    expect(await notes()).toEqual([]);
    await database.query('select 1');
  });

  test('is begun again from its start when it fails for a passing reason, on the same connection', async () => {
    const database = await open({ maxPool: 1 });
    let runs = 0;
    await database.transaction(async (query) => {
      runs += 1;
      await query(insert, [`run ${runs}`]);
      if (runs < 3) await query("do $$ begin raise exception using errcode = '40P01'; end $$");
    });
    expect(await notes()).toEqual(['run 3']);
    expect(proxy.total).toBe(1);
  });

  test('whose connection is cut between two statements is begun again; the process lives', async () => {
    const database = await open({ maxPool: 1 });
    let runs = 0;
    await database.transaction(async (query) => {
      runs += 1;
      await query(insert, [`run ${runs}`]);
      if (runs === 1) {
        proxy.cut();
        await sleep(50);
      }
      await query(insert, ['end']);
    });
    expect(await notes()).toEqual(['end', 'run 2']);
  });

  test('whose server process is ended by the operator is begun again', async () => {
    const database = await open({ maxPool: 1 });
    let runs = 0;
    await database.transaction(async (query) => {
      runs += 1;
      const { rows } = await query<{ pid: number }>('select pg_backend_pid() as pid');
      await query(insert, [`run ${runs}`]);
      if (runs === 1) await made.query('select pg_terminate_backend($1)', [rows[0]?.pid]);
    });
    expect(await notes()).toEqual(['run 2']);
  });

  test('leaves no setting of the session and no named statement behind', async () => {
    const database = await open({ maxPool: 1, commandTimeoutMs: 12_345 });
    const settings = `select name, setting from pg_settings
      where name in ('statement_timeout', 'idle_in_transaction_session_timeout')`;
    const values = (rows: readonly Record<string, unknown>[]) => rows.map(({ setting }) => setting);
    const inside = await database.transaction((query) => query(settings));
    expect(values(inside.rows)).toEqual(['12345', '12345']);
    expect(values((await database.query(settings)).rows)).toEqual(['0', '0']);
    expect((await database.query('select $1::int from pg_prepared_statements', [1])).rows).toEqual(
      [],
    );
  });
});

describe('errors', () => {
  test('that are not of the database are neither transient nor data errors', () => {
    for (const error of [new Error('x'), new TypeError('y'), 'text', null, undefined, 7, {}]) {
      expect(isTransient(error)).toBe(false);
      expect(isDataError(error)).toBe(false);
    }
  });

  test('two new events that drew the same key are no fault of either', async () => {
    const database = await open({}, { retryForMs: 0 });
    const insert =
      "insert into events values (1, 0, 1, $1, decode(repeat('00', 32), 'hex'), decode(repeat('00', 64), 'hex'), '[]', '{}', '')";
    await database.query(insert, [Buffer.alloc(32, 1)]);
    const sameKey = await failure(database.query(insert, [Buffer.alloc(32, 2)]));
    expect(sameKey).toMatchObject({ code: '23505', permanent: false });
    expect(isTransient(sameKey.cause)).toBe(true);
    expect(isDataError(sameKey.cause)).toBe(false);
  });
});
