import { syncBuiltinESMExports } from 'node:module';
import { createServer, type Server } from 'node:net';
import timers, { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { beforeAll, beforeEach, describe, expect, vi } from 'vitest';
import { Bigbrotr } from '../../../src/database/bigbrotr.ts';
import {
  COMMAND_PATIENCE,
  Database,
  isDataError,
  isTransient,
  NOW,
  SERVICE_PATIENCE,
} from '../../../src/database/connection.ts';
import { startTcpProxy } from '../../network/tcp-proxy.ts';
import { silent } from '../../postgres/bigbrotr.ts';
import { connectionTest, failure, QUICK } from '../../postgres/connection-test.ts';
import { testServer } from '../../postgres/database.ts';

/** Delays that the code under test asked for, in milliseconds. It does wait; a stopped clock moves on by as much. */
const delays: number[] = [];

beforeAll(() => {
  const original = timers.setTimeout;
  const noted: typeof original = (ms, value, options) => {
    delays.push(ms ?? 0);
    if (vi.isFakeTimers()) vi.advanceTimersByTime(ms ?? 0);
    return original(ms, value, options);
  };
  timers.setTimeout = noted;
  syncBuiltinESMExports();
  return () => {
    timers.setTimeout = original;
    syncBuiltinESMExports();
  };
});

/** `tries` counts what drew a number of the sequence of that name, which begins anew in each test. */
const test = connectionTest
  .extend('sequence', { scope: 'file' }, ({ databaseOfFile }) =>
    databaseOfFile.query('create sequence tries'),
  )
  .extend('tries', { auto: true }, async ({ made, sequence: _created }) => {
    await made.query('alter sequence tries restart');
    return async () =>
      Number((await made.query<{ n: string }>('select last_value as n from tries'))[0]?.n);
  });

/** Stops the clock by which a start is given up: the waits alone count, however slow the machine is. */
const stopClock = () => vi.useFakeTimers({ toFake: ['performance'] });

beforeEach(() => {
  delays.length = 0;
  vi.useRealTimers();
});

describe('connecting', () => {
  test('waits a minute for a command, and for a service until the database answers', () => {
    expect(COMMAND_PATIENCE).toMatchObject({ connectionWaitMs: 30_000, startWaitMs: 60_000 });
    expect(SERVICE_PATIENCE.startWaitMs).toBe(Number.POSITIVE_INFINITY);
  });

  test('with a wrong password fails at once, with a sentence that says what to do', async ({
    proxy,
    attempt,
  }) => {
    const error = await attempt({ password: 'wrong' });
    expect(error).toMatchObject({ code: '28P01', permanent: true });
    expect(error.message).toMatch(
      /^PostgreSQL refuses the login \S+: check POSTGRES_USER and POSTGRES_PASSWORD/,
    );
    expect(error.message).not.toContain('wrong');
    expect(proxy.total).toBe(1);
    expect(delays).toEqual([]);
  });

  test('as an unknown user, or to an unknown database, fails at once', async ({
    proxy,
    attempt,
  }) => {
    expect(await attempt({ user: 'nobody_knows' })).toMatchObject({ permanent: true });
    const error = await attempt({ database: 'nowhere' });
    expect(error).toMatchObject({ code: '3D000', permanent: true });
    expect(error.message).toMatch(/^There is no database at \S+\/nowhere: create it/);
    expect(proxy.total).toBe(2);
  });

  test('to a database without init.sql fails at once, and succeeds after loading it', async ({
    made,
    config,
  }) => {
    const { database } = await testServer();
    const name = `${made.config.database}_empty`;
    await made.query(`create database ${name}`);
    try {
      const empty = config({ database: name });
      const error = await failure(Bigbrotr.connect(empty, silent));
      expect(error).toMatchObject({ code: '42P01', permanent: true });
      expect(error.message).toMatch(/lacks something that init\.sql makes: load init\.sql/);
      expect(delays).toEqual([]);
      const url = new URL('../../../init.sql', import.meta.url);
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

  test('is retried with back-off when the port is closed, and logs the time waited', async ({
    proxy,
    config,
  }) => {
    await proxy.close();
    stopClock();
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
    expect(delays).toEqual([5, 10, 20, 40]); // 80 more would be longer than it waits
  });

  test('succeeds when the server is back before the deadline', async ({ proxy, open }) => {
    stopClock();
    proxy.refuse(3);
    await open({}, { connectionWaitMs: 30_000 });
    expect(proxy.total).toBe(4);
    expect(delays).toEqual([5, 10, 20]);
  });

  test('to a server that never answers fails at the deadline', async ({ proxy, attempt }) => {
    stopClock();
    proxy.stall();
    const error = await attempt({}, { connectionWaitMs: 100, startWaitMs: 10 });
    expect(error).toMatchObject({ permanent: false });
    expect(error.message).toMatch(/timeout/);
    await expect.poll(() => proxy.total).toBe(2);
  });

  test('to a server that is not PostgreSQL fails without hanging', async ({ config }) => {
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

  test.for([
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
  ])('that fails with %s is sent again', async (code, { open, tries }) => {
    const database = await open();
    await database.query(secondTime(code));
    expect(await tries()).toBe(2);
  });

  test.for(['42601', '42501', '22012', '22P02', '23505', '23514', '54000', 'XX001', 'P0001'])(
    'that fails with %s is not, and its connection stays',
    async (code, { open, tries }) => {
      const database = await open({ maxPool: 1 });
      expect(await failure(database.query(secondTime(code)))).toMatchObject({
        code,
        permanent: true,
      });
      expect(await tries()).toBe(1);
      await database.query('select 1');
    },
  );

  test('fails when a transient error lasts too long', async ({ made, open, tries }) => {
    const database = await open({}, { retryForMs: 200 });
    await made.query("select setval('tries', 1, false)");
    const never = secondTime('40001').replace('< 2', '< 1000000');
    expect(await failure(database.query(never))).toMatchObject({ code: '40001', permanent: false });
    expect(await tries()).toBeGreaterThan(1);
    expect(delays.filter((ms) => ms > 2000)).toEqual([]);
  });

  test('that exceeds its timeout is cancelled, on the server too, as a transient error', async ({
    made,
    open,
  }) => {
    const database = await open({ commandTimeoutMs: 300 }, { retryForMs: 0 });
    const slow = (where: string) => `select pg_sleep(20), 'slow ${where}' as mark`;
    expect(await failure(database.query(slow('alone')))).toMatchObject({ permanent: false });
    const inTransaction = database.transaction((query) => query(slow('in a transaction')));
    expect(await failure(inTransaction)).toMatchObject({ permanent: false });
    // Outside a transaction the server continues: it detects only a closed connection.
    const left = `select from pg_stat_activity
      where state = 'active' and starts_with(query, $1) and datname = current_database()`;
    await vi.waitFor(async () =>
      expect(await made.query(left, [slow('in a transaction')])).toEqual([]),
    );
    expect(await made.query(left, [slow('alone')])).toHaveLength(1);
  });

  test('truncates the current time to a second, as the clock of Node does', async ({ open }) => {
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

  test('returns counts and times as numbers', async ({ open }) => {
    const database = await open();
    const { rows } = await database.query(
      'select count(*) as count, 1700000000::bigint as at, null::bigint as none, 1.5::numeric as n',
    );
    expect(rows).toEqual([{ count: 1, at: 1_700_000_000, none: null, n: '1.5' }]);
  });
});

describe('the pool', () => {
  test('makes a caller wait for a free connection, up to a timeout', async ({ open }) => {
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

  test('replaces connections that were cut while idle', async ({ proxy, open }) => {
    const database = await open();
    await Promise.all([database.query('select 1'), database.query('select 1')]);
    proxy.cut();
    await database.query('select 1');
  });

  test('of use for some milliseconds only fails after them, once, and its connection leaves the pool', async ({
    proxy,
    open,
  }) => {
    const database = await open({ maxPool: 1 });
    const promptly = database.queryWithin(200);
    expect((await promptly('select 1 as one')).rows).toEqual([{ one: 1 }]);
    proxy.stall();
    const error = await failure(promptly('select 1'));
    expect(error).toMatchObject({ permanent: false });
    expect(delays).toEqual([]);
    proxy.recover();
    await database.query('select 1');
  });

  test('does not wait long for a connection that was begun while the server was mute', async ({
    proxy,
    open,
  }) => {
    const patience = { connectionWaitMs: 60_000, retryForMs: 60_000 };
    const database = await open({ maxPool: 1, commandTimeoutMs: 500 }, patience);
    proxy.stall();
    expect(await database.isUp(1200)).toBe(false); // the idle connection
    expect(await database.isUp(100)).toBe(false); // a new one
    proxy.recover();
    await database.query('select 1');
  }, 20_000);

  test('knows whether the server is up, and never throws', async ({ made, opened, open }) => {
    const proxy = await startTcpProxy(made.config);
    const database = await open({ host: proxy.host, port: proxy.port });
    expect(await database.isUp(2000)).toBe(true);
    proxy.stall();
    expect(await database.isUp(100)).toBe(false);
    proxy.cut();
    await proxy.close();
    expect(await database.isUp(2000)).toBe(false);
    await database.close();
    opened.pop();
    expect(await database.isUp(100)).toBe(false);
  });

  test('closes after running statements have ended', async ({ opened, open }) => {
    const database = await open();
    const running = database.query("select pg_sleep(0.2), 'ended' as state");
    await sleep(50);
    await database.close();
    opened.pop();
    await expect(running).resolves.toMatchObject({ rows: [{ state: 'ended' }] });
  });
});

describe('errors', () => {
  test('from outside the database are neither transient nor data errors', () => {
    for (const error of [new Error('x'), new TypeError('y'), 'text', null, undefined, 7, {}]) {
      expect(isTransient(error)).toBe(false);
      expect(isDataError(error)).toBe(false);
    }
  });

  test('a collision of two new event keys is not a data error', async ({ open }) => {
    const database = await open({}, { retryForMs: 0 });
    const insert =
      "insert into events values (1, 0, 1, 0, $1, decode(repeat('00', 32), 'hex'), decode(repeat('00', 64), 'hex'), '[]', '{}', '')";
    await database.query(insert, [Buffer.alloc(32, 1)]);
    const sameKey = await failure(database.query(insert, [Buffer.alloc(32, 2)]));
    expect(sameKey).toMatchObject({ code: '23505', permanent: false });
    expect(isTransient(sameKey.cause)).toBe(true);
    expect(isDataError(sameKey.cause)).toBe(false);
  });
});
