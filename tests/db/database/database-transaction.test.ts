import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect } from 'vitest';
import { connectionTest, failure } from '../../postgres/connection-test.ts';

/** `notes` gives the rows of a table of that name, empty before each test. */
const test = connectionTest
  .extend('table', { scope: 'file' }, ({ databaseOfFile }) =>
    databaseOfFile.query('create table notes (note text primary key)'),
  )
  .extend('notes', { auto: true }, async ({ made, table: _created }) => {
    await made.query('truncate notes');
    return async () => {
      const rows = await made.query<{ note: string }>('select note from notes order by note');
      return rows.map(({ note }) => note);
    };
  });

describe('a transaction', () => {
  const insert = 'insert into notes values ($1)';

  test('is all or nothing', async ({ proxy, open, notes }) => {
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

  test('is rolled back when its work throws, and rethrows the error', async ({ open, notes }) => {
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

  test('does not count as committed when a failed statement was ignored', async ({
    open,
    notes,
  }) => {
    const database = await open({ maxPool: 1 });
    const failing = database.transaction(async (query) => {
      await query(insert, ['a']);
      await query('select 1/0').catch(() => {});
    });
    await expect(failing).rejects.toThrow('a transaction ended in ROLLBACK, not in COMMIT');
    expect(await notes()).toEqual([]);
    await database.query('select 1');
  });

  test('is retried from its start after a transient error, on the same connection', async ({
    proxy,
    open,
    notes,
  }) => {
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

  test('is retried when its connection is cut between two statements; the process does not crash', async ({
    proxy,
    open,
    notes,
  }) => {
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

  test('is retried when the operator terminates its server process', async ({
    made,
    open,
    notes,
  }) => {
    const database = await open({ maxPool: 1 });
    let runs = 0;
    await database.transaction(async (query) => {
      runs += 1;
      const { rows } = await query<{ pid: number }>('select pg_backend_pid() as pid');
      await query(insert, [`run ${runs}`]);
      if (runs === 1) await made.query('select pg_terminate_backend($1::integer)', [rows[0]?.pid]);
    });
    expect(await notes()).toEqual(['run 2']);
  });

  test('leaves no setting of the session and no named statement behind', async ({ open }) => {
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
