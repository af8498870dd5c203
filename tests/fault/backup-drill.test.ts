import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { describe, expect } from 'vitest';
import { databases, missingPrograms, drillTest as test, verify } from '../fixtures/backup-drill.ts';
import { ask, contentOf, runsOf, writing } from '../fixtures/drill-archive.ts';
import { catalogueOf } from '../postgres/catalogue.ts';
import { projectFile } from '../processes/project.ts';

describe.runIf(missingPrograms.length === 0)('backup.sh and restore.sh', () => {
  test('an archive that was dropped and restored verifies, and has every row', async ({
    dump,
    server,
    psql,
    writer,
    run,
  }) => {
    const before = await contentOf(server);
    const catalogue = await catalogueOf({ query: (sql) => ask(server, sql) });
    expect(verify(writer)).toMatchObject({
      code: 0,
      said: expect.stringMatching(/^302 events read back, 0 different/),
    });
    expect(run('backup.sh', { output: dump })).toEqual({ code: 0, said: '' });
    expect(await runsOf(server)).toEqual([
      {
        command: 'verify',
        succeeded: true,
        detail: expect.stringMatching(/^302 events read back/),
      },
      { command: 'backup', succeeded: true, detail: 'pg_dump wrote all of it' },
    ]);

    await ask(server, 'drop database bigbrotr with (force)', 'postgres');
    expect(verify(writer)).toMatchObject({
      code: 2,
      said: expect.stringMatching(/There is no database/),
    });

    expect(run('restore.sh', { input: dump })).toEqual({ code: 0, said: '' });
    psql({}, '-f', projectFile('dockerfiles/postgres/roles.sql'));
    expect(verify(writer)).toMatchObject({
      code: 0,
      said: expect.stringMatching(/^302 events read back, 0 different/),
    });
    expect(await contentOf(server)).toBe(before);
    expect(await catalogueOf({ query: (sql) => ask(server, sql) })).toBe(catalogue);
    expect(await databases(server)).toEqual([{ datname: 'bigbrotr' }]);
  });

  test('restores rows that were deleted or changed, and the privileges of each role', async ({
    dump,
    server,
    writer,
    run,
  }) => {
    const before = await contentOf(server);
    await ask(
      server,
      "delete from events where created_at % 2 = 0; update events set content = 'forged'",
    );
    expect(await contentOf(server)).not.toBe(before);
    expect(verify(writer).code).toBe(1);
    expect((await runsOf(server)).at(-1)).toMatchObject({ command: 'verify', succeeded: false });
    expect(run('restore.sh', { input: dump }).code).toBe(0);
    expect(await contentOf(server)).toBe(before);
    expect(verify(writer).code).toBe(0);
    expect(
      await ask(writer, "select insert_relay('wss://new.example/', 'clearnet') as added"),
    ).toEqual([{ added: true }]);
    for (const sql of [
      'create table mine (a integer)',
      'delete from events',
      "insert into schema_migrations (name) values ('9999_mine')",
    ])
      await expect(ask(writer, sql), sql).rejects.toMatchObject({ code: '42501' });
  });

  test('a backup for which there is no room fails, and that is recorded', async ({
    server,
    writer: _filled,
    run,
  }) => {
    expect(run('backup.sh', { output: '/dev/full' }).code).toBe(1);
    expect((await runsOf(server)).at(-1)).toEqual({
      ...{ command: 'backup', succeeded: false, detail: 'pg_dump ended with exit code 1' },
    });
  });

  test('an incomplete or invalid backup is refused, and the archive stays unchanged', async ({
    home,
    dump,
    server,
    run,
  }) => {
    const before = await contentOf(server);
    const whole = readFileSync(dump);
    const broken = join(home, 'broken.dump');
    for (const bytes of [
      whole.subarray(0, whole.length >> 1),
      Buffer.from('no backup'),
      Buffer.alloc(0),
    ]) {
      writeFileSync(broken, bytes);
      const { code, said } = run('restore.sh', { input: broken });
      expect(code).toBe(1);
      expect(said).toMatch(
        /error: this is not a whole backup, see above. The archive is as it was./,
      );
      expect(await contentOf(server)).toBe(before);
      expect(await databases(server)).toEqual([{ datname: 'bigbrotr' }]);
    }
  });

  test('restores a dump in SQL, and refuses an incomplete one', async ({
    home,
    server,
    environment,
    run,
  }) => {
    const before = await contentOf(server);
    const sql = join(home, 'bigbrotr.sql');
    execFileSync('pg_dump', ['-f', sql], { env: environment() });
    writeFileSync(join(home, 'part.sql'), readFileSync(sql).subarray(0, -2000));
    const cut = run('restore.sh', { input: join(home, 'part.sql') });
    expect(cut.code).toBe(1);
    expect(cut.said).toMatch(/not a whole backup, see above. The archive is as it was./);
    expect(await contentOf(server)).toBe(before);
    await ask(server, 'delete from events');
    expect(run('restore.sh', { input: sql }).code).toBe(0);
    expect(await contentOf(server)).toBe(before);
  });

  test('psql of the image loads a dump in SQL into an empty database only', async ({
    home,
    server,
    environment,
  }) => {
    const sql = join(home, 'bigbrotr.sql');
    execFileSync('pg_dump', ['-f', sql], { env: environment() });
    const before = await contentOf(server);
    const bin = projectFile('dockerfiles/postgres/bin');
    const pipe = (database: string, input: string) =>
      spawnSync('psql', ['-qU', server.user, database, '-o', '/dev/null'], {
        env: { ...environment(), PATH: `${bin}:${environment().PATH}` },
        encoding: 'utf8',
        input,
      });
    const text = readFileSync(sql, 'utf8');
    const refused = pipe('bigbrotr', text);
    expect(refused.status).toBe(1);
    expect(refused.stderr).toMatch(/this database holds an archive.*Nothing was changed/);
    expect(await contentOf(server)).toBe(before);
    await ask(server, 'create database bigbrotr_two', 'postgres');
    expect(pipe('bigbrotr_two', text.slice(0, -2000)).status).not.toBe(0);
    const tables = "select count(*)::int as n from pg_class where relname = 'events'";
    expect(await ask(server, tables, 'bigbrotr_two')).toEqual([{ n: 0 }]);
    expect(pipe('bigbrotr_two', text)).toMatchObject({ status: 0 });
    expect(await ask(server, 'select count(*)::int as n from events', 'bigbrotr_two')).toEqual([
      { n: 300 },
    ]);
    expect(pipe('bigbrotr_two', 'create table mine (a integer);\n').status).toBe(0);
    expect(await ask(server, 'select * from mine', 'bigbrotr_two')).toEqual([]);
    await ask(server, 'drop database bigbrotr_two', 'postgres');
  });

  test('restore.sh refuses while a process of another host holds a claim, and not after the end of its lease', async ({
    dump,
    server,
    writer: _filled,
    runLater,
  }) => {
    await ask(
      server,
      `insert into claims (work, relay_id, holder, token, since, until)
       values ('visit', 1, 'another-host:7:0123456789abcdef', nextval('claim_token_sequence'), unix_now(), unix_now() + 600)`,
    );
    const refused = await runLater('restore.sh', dump);
    expect(refused.code).toBe(1);
    expect(refused.said).toMatch(/hold claims on relays: another-host:7:0123.*Nothing was changed/);
    await ask(server, 'update claims set until = unix_now() - 1');
    expect((await runLater('restore.sh', dump)).code).toBe(0);
  });

  test('restore.sh refuses while a service is connected, unless --force is given', async ({
    dump,
    writer,
    runLater,
  }) => {
    const client = new pg.Client({ ...writing(writer), database: 'bigbrotr' });
    client.on('error', () => {}); // it is cut off
    await client.connect();
    const working = setInterval(() => void client.query('select 1').catch(() => {}), 500);
    try {
      const refused = await runLater('restore.sh', dump);
      expect(refused.code).toBe(1);
      expect(refused.said).toMatch(/services are working on the archive.*Nothing was changed/);
      expect((await runLater('restore.sh', dump, '--force')).code).toBe(0);
    } finally {
      clearInterval(working);
      await client.end().catch(() => {});
    }
  });

  test('ends the claims of a backup, and gives no fencing token again that a process got before', async ({
    home,
    dump,
    server,
    environment,
    writer: _filled,
    run,
    runLater,
  }) => {
    const taken = async (holder: string, database = 'bigbrotr') => {
      const tokens: number[] = [];
      for (let n = 0; n < 5; n += 1) {
        const sql = `select token from take_claims('visit', '{1}', '${holder}', -1)`;
        const [claim] = await ask<{ token: string }>(server, sql, database);
        tokens.push(Number(claim?.token));
      }
      return tokens;
    };
    const sql = join(home, 'claims.sql');
    await taken('holder');
    const holds = "select count(*)::int as n from claims where holder = 'holder'";
    expect(await ask(server, holds)).toEqual([{ n: 1 }]);
    execFileSync('pg_dump', ['-f', sql], { env: environment() });
    expect(run('backup.sh', { output: dump }).code).toBe(0);
    // As of an archive whose clock was ahead: the time alone would not do.
    await ask(
      server,
      "select setval('claim_token_sequence', last_value + 10000000000000) from claim_token_sequence",
    );
    const before = Math.max(...(await taken('before')));
    expect((await runLater('restore.sh', dump, '--force')).code).toBe(0);
    expect(await ask(server, holds)).toEqual([{ n: 0 }]);
    expect(Math.min(...(await taken('after')))).toBeGreaterThan(before);

    const now = Date.now() * 1000;
    await ask(server, 'create database bigbrotr_two', 'postgres');
    const bin = projectFile('dockerfiles/postgres/bin');
    const loaded = spawnSync('psql', ['-qU', server.user, 'bigbrotr_two', '-o', '/dev/null'], {
      env: { ...environment(), PATH: `${bin}:${environment().PATH}` },
      input: readFileSync(sql),
    });
    expect(loaded.status).toBe(0);
    expect(Math.min(...(await taken('in the copy', 'bigbrotr_two')))).toBeGreaterThanOrEqual(now);
    await ask(server, 'drop database bigbrotr_two', 'postgres');
  });
});
