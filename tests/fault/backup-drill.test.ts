import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { describe, expect, test as plainTest } from 'vitest';
import { Bigbrotr } from '../../src/database/bigbrotr.ts';
import { startEmbeddedPostgres } from '../../src/local/postgres.ts';
import {
  type Address,
  ask,
  contentOf,
  fillDrillArchive,
  runsOf,
  writing,
} from '../fixtures/drill-archive.ts';
import { silent } from '../postgres/bigbrotr.ts';
import { catalogueOf } from '../postgres/catalogue.ts';
import { ownDirectory } from '../processes/directory.ts';
import { projectFile } from '../processes/project.ts';

/** Where Debian keeps a PostgreSQL: npm brings a server without pg_dump, and pg_dump must not be older than it. */
const PROGRAMS = '/usr/lib/postgresql/15/bin';
const NEEDED = ['initdb', 'postgres', 'psql', 'pg_dump', 'pg_restore'];
const missing = NEEDED.filter((name) => !existsSync(join(PROGRAMS, name)));
if (missing.length > 0)
  console.log(`No drill of backup.sh and restore.sh: ${PROGRAMS} has no ${missing.join(', ')}.`);

const quiet = { debug: () => {}, info: () => {}, warn: () => {}, error: console.error };
const WRITER = { user: 'services', password: 'theirs' };
/** Runs `npm run verify` as it is after the build. */
function verify(address: Address): { code: number | null; said: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [projectFile('dist/verify.js')], {
    cwd: ownDirectory(), // where no .env is
    encoding: 'utf8',
    env: {
      ...{ PATH: process.env.PATH, POSTGRES_HOST: address.host, POSTGRES_DB: 'bigbrotr' },
      ...{ POSTGRES_PORT: `${address.port}`, POSTGRES_USER: address.user },
      POSTGRES_PASSWORD: address.password,
    },
  });
  return { code: status, said: stdout + stderr };
}

/** Runs psql, which stops at the first error. */
type Psql = (env: Record<string, string>, ...args: string[]) => void;

const test = plainTest
  .extend('home', { scope: 'file' }, () => join(ownDirectory(), 'drill'))
  .extend('dump', { scope: 'file' }, ({ home }) => join(home, 'bigbrotr.dump'))
  .extend('server', { scope: 'file' }, async ({ home }, { onCleanup }) => {
    const programs = { initdb: join(PROGRAMS, 'initdb'), postgres: join(PROGRAMS, 'postgres') };
    const dataDir = join(home, 'postgres');
    const server = await startEmbeddedPostgres({
      ...{ dataDir, port: 0, log: quiet, durable: false, programs },
    });
    onCleanup(async () => {
      await server.stop();
      rmSync(home, { recursive: true, force: true });
    });
    return server;
  })
  .extend(
    'environment',
    { scope: 'file' },
    ({ server }) =>
      (more: Record<string, string> = {}) => ({
        ...{ PATH: `${PROGRAMS}:${process.env.PATH}`, POSTGRES_DB: 'bigbrotr' },
        ...{ PGDATABASE: 'bigbrotr', PGHOST: server.host, PGPORT: `${server.port}` },
        ...{ PGUSER: server.user, PGPASSWORD: server.password },
        ...{ WRITER_USER: WRITER.user, WRITER_PASSWORD: WRITER.password },
        ...{
          READER_PASSWORD: '',
          OWNER_PASSWORD: '',
          API_PASSWORD: '',
          PGBOUNCER_PASSWORD: 'unused',
          ...more,
        },
      }),
  )
  .extend(
    'psql',
    { scope: 'file' },
    ({ environment }): Psql =>
      (more, ...args) => {
        const env = environment(more);
        execFileSync('psql', ['-Xqo', '/dev/null', '-v', 'ON_ERROR_STOP=1', ...args], { env });
      },
  )
  /** The address for the services; the archive is filled when it is first asked for. */
  .extend('writer', { scope: 'file' }, async ({ server, psql }): Promise<Address> => {
    const writer = { host: server.host, port: server.port, ...WRITER };
    psql({}, '-f', projectFile('dockerfiles/postgres/roles.sql'));
    psql({ PGOPTIONS: '-c role=bigbrotr_owner' }, '-f', projectFile('init.sql'));
    psql({}, '-f', projectFile('dockerfiles/postgres/roles.sql'));
    await fillDrillArchive(writer);
    return writer;
  })
  /** Runs a script of the PostgreSQL image, with files for its input and output. */
  .extend(
    'run',
    ({ environment }) =>
      (script: string, { input, output }: { input?: string; output?: string }) => {
        const files = [input && openSync(input, 'r'), output && openSync(output, 'w')] as const;
        const path = projectFile(`dockerfiles/postgres/${script}`);
        const { status, stderr } = spawnSync('bash', [path], {
          env: environment(),
          stdio: [files[0] || 'ignore', files[1] || 'ignore', 'pipe'],
          encoding: 'utf8',
        });
        for (const file of files) if (typeof file === 'number') closeSync(file);
        return { code: status, said: stderr };
      },
  )
  /** The same while this process goes on. */
  .extend('runLater', ({ environment }) => (script: string, input: string, ...args: string[]) => {
    const path = projectFile(`dockerfiles/postgres/${script}`);
    return new Promise<{ code: number | null; said: string }>((resolve) => {
      const child = spawn('bash', [path, ...args], {
        env: environment(),
        stdio: [openSync(input, 'r'), 'ignore', 'pipe'],
      });
      let said = '';
      child.stderr?.on('data', (data) => {
        said += data;
      });
      child.once('close', (code) => resolve({ code, said }));
    });
  });

const databases = (server: Address) =>
  ask(server, "select datname from pg_database where datname like 'bigbrotr%'", 'postgres');

describe.runIf(missing.length === 0)('backup.sh and restore.sh', () => {
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
});

describe('the data folder of npm start', () => {
  test('a copy made while the archive is stopped restores it whole', async () => {
    const home = join(ownDirectory(), 'folder-drill');
    const [folder, copy] = [join(home, 'data'), join(home, 'data-backup')];
    const open = () =>
      startEmbeddedPostgres({ dataDir: join(folder, 'postgres'), port: 0, log: quiet });
    try {
      let server = await open();
      await Bigbrotr.load(writing(server), readFileSync(projectFile('init.sql'), 'utf8'), silent);
      await fillDrillArchive(server);
      const before = await contentOf(server);
      await server.stop();
      execFileSync('cp', ['-a', folder, copy]);

      rmSync(folder, { recursive: true });
      execFileSync('cp', ['-a', copy, folder]);
      server = await open();
      try {
        expect(await contentOf(server)).toBe(before);
        expect(verify(server)).toMatchObject({
          code: 0,
          said: expect.stringMatching(/^302 events read back, 0 diff/),
        });
      } finally {
        await server.stop();
      }
    } finally {
      rmSync(home, { recursive: true, force: true });
    }
  });
});
