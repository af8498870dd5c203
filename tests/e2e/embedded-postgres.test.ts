import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect } from 'vitest';
import { installedPrograms } from '../../src/local/postgres-launcher.ts';
import { query, embeddedTest as test } from '../postgres/embedded-test.ts';

const isRoot = process.getuid?.() === 0;
const hasSetpriv = spawnSync('setpriv', ['--pdeathsig', 'INT', '--', 'true']).status === 0;
if (!isRoot) console.log('Not root: what root does with closed directories is not tested here.');
if (!hasSetpriv) console.log('No setpriv: that the server ends with its starter is not tested.');

async function kill(starter: ChildProcess): Promise<void> {
  const ended = new Promise((done) => starter.once('exit', done));
  starter.kill('SIGKILL');
  await ended;
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(20);
}

function postmaster(dataDir: string): number {
  return Number.parseInt(fs.readFileSync(join(dataDir, 'postmaster.pid'), 'utf8'), 10);
}

/** The number of a process that has ended. */
function deadPid(): number {
  return spawnSync('true').pid;
}

// Each test has data and a port of its own.
describe.concurrent('PostgreSQL of `npm start`', () => {
  test('the first start creates an archive, the second continues with it', async ({
    dataDir,
    logged,
    start,
  }) => {
    const first = await start(dataDir, { durable: true });
    expect(first.connectionString).toBe(
      `postgresql://bigbrotr:${first.password}@127.0.0.1:${first.port}/bigbrotr`,
    );
    await query(first, 'create table kept as select 42 as answer');
    await first.stop();
    await first.stop();
    await expect(query(first, 'select 1')).rejects.toThrow('ECONNREFUSED');

    const second = await start(dataDir, { durable: true });
    expect(await query(second, 'select answer from kept')).toEqual([{ answer: 42 }]);
    expect(second.password).toBe(first.password);
    expect(logged.join('\n')).not.toContain('was not properly shut down');
  });

  test('the archive is durable, checked, Unicode and closed to others', async ({
    dataDir,
    start,
  }) => {
    const server = await start(dataDir, { durable: true });
    const names = ['fsync', 'synchronous_commit', 'full_page_writes', 'data_checksums'];
    names.push('wal_compression', 'max_wal_size', 'max_connections', 'listen_addresses');
    names.push('unix_socket_directories', 'server_encoding', 'timezone');
    const settings = names.map((name) => `current_setting('${name}') as ${name}`);
    expect(
      await query(server, `select ${settings}, lower('ÉÄЖ') as lower, 'Z' < 'a' as sorts`),
    ).toEqual([
      {
        fsync: 'on',
        synchronous_commit: 'on',
        full_page_writes: 'on',
        data_checksums: 'on',
        wal_compression: 'off',
        max_wal_size: '2GB',
        max_connections: '200',
        listen_addresses: '127.0.0.1',
        unix_socket_directories: '',
        server_encoding: 'UTF8',
        timezone: 'UTC',
        lower: 'éäж',
        sorts: true,
      },
    ]);
    expect(fs.statSync(`${dataDir}.password`).mode & 0o777).toBe(0o600);
    expect(fs.statSync(dataDir).mode & 0o777).toBe(0o700);
    const wrong = { connectionString: server.connectionString.replace(server.password, 'wrong') };
    await expect(query(wrong, 'select 1')).rejects.toThrow('password authentication failed');
  });

  test('settings in postgresql.conf are the operator’s to change', async ({ dataDir, start }) => {
    await (await start(dataDir)).stop();
    fs.appendFileSync(join(dataDir, 'postgresql.conf'), "\nwork_mem = '7MB'\n");
    expect(await query(await start(dataDir), 'show work_mem')).toEqual([{ work_mem: '7MB' }]);
  });

  test('a port that is in use is not taken, and the log has the port that is used instead', async ({
    dataDir,
    logged,
    start,
  }) => {
    const owner = createServer();
    await new Promise<void>((done) => owner.listen(0, '127.0.0.1', done));
    const address = owner.address();
    const taken = typeof address === 'object' && address !== null ? address.port : 0;
    const server = await start(dataDir, { port: taken });
    owner.close();
    expect(server.port).not.toBe(taken);
    expect(logged).toContain(`Port ${taken} is taken: PostgreSQL listens on ${server.port}.`);
  });

  test('a second start on the same data is refused, and the first one keeps running', async ({
    dataDir,
    start,
    startElsewhere,
  }) => {
    const { starter, connectionString } = await startElsewhere(dataDir);
    await expect(start(dataDir)).rejects.toThrow(
      `Another start (process ${starter.pid}) is using the archive in ${dataDir}: stop that one first`,
    );
    expect(await query({ connectionString }, 'select 1 as one')).toEqual([{ one: 1 }]);
  });

  test('of two first starts at the same time one succeeds and the other is refused', async ({
    dataDir,
    startElsewhere,
  }) => {
    const outcomes = await Promise.allSettled([startElsewhere(dataDir), startElsewhere(dataDir)]);
    expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    const refused = outcomes.find((outcome) => outcome.status === 'rejected');
    expect(String(refused?.reason)).toContain('is using the archive in');
    expect(fs.readdirSync(dirname(dataDir)).sort()).toEqual(['postgres', 'postgres.password']);
  });

  test('the server is in a session of its own, which Ctrl-C at a terminal does not reach', async ({
    dataDir,
    start,
  }) => {
    await start(dataDir);
    const pid = postmaster(dataDir);
    expect(pid).not.toBe(process.pid);
    // The leader of a process group of its own: a terminal sends its signals to the group in the foreground.
    expect(process.kill(-pid, 0)).toBe(true);
  });

  test.runIf(hasSetpriv)(
    'the server ends with its parent process, even when that is killed',
    async ({ dataDir, logged, start, startElsewhere }) => {
      const { starter, connectionString } = await startElsewhere(dataDir);
      await query({ connectionString }, 'create table kept as select 42 as answer');
      await kill(starter);
      await until(() => !fs.existsSync(join(dataDir, 'postmaster.pid')));
      expect(await query(await start(dataDir), 'select answer from kept')).toEqual([
        { answer: 42 },
      ]);
      expect(logged.join('\n')).not.toContain('was not properly shut down');
    },
  );

  test('a server that outlived its parent process is stopped by the next start', async ({
    home,
    dataDir,
    logged,
    start,
    startElsewhere,
  }) => {
    const tools = join(home, 'tools-without-setpriv');
    fs.mkdirSync(tools, { recursive: true });
    const { starter, connectionString } = await startElsewhere(dataDir, { path: tools });
    await query({ connectionString }, 'create table kept as select 42 as answer');
    await kill(starter);
    await sleep(500);
    const left = postmaster(dataDir);
    expect(await query({ connectionString }, 'select 1 as one')).toEqual([{ one: 1 }]);
    const server = await start(dataDir);
    expect(logged).toContain(
      `Stopping PostgreSQL (process ${left}), left behind by a start that was killed.`,
    );
    expect(postmaster(dataDir)).not.toBe(left);
    expect(await query(server, 'select answer from kept')).toEqual([{ answer: 42 }]);
  });

  test('a killed server is reported, and the next start recovers', async ({
    dataDir,
    logged,
    start,
  }) => {
    const server = await start(dataDir, { durable: true });
    await query(server, 'create table kept as select 42 as answer');
    process.kill(postmaster(dataDir), 'SIGKILL');
    await until(() => logged.some((line) => line.startsWith('PostgreSQL ended by itself')));
    await server.stop();
    expect(fs.existsSync(join(dataDir, 'postmaster.pid'))).toBe(true);
    const next = await start(dataDir, { durable: true });
    expect(logged.join('\n')).toContain('was not properly shut down');
    expect(await query(next, 'select answer from kept')).toEqual([{ answer: 42 }]);
  });

  test('a postmaster.pid with the id of an unrelated process does not prevent a start', async ({
    dataDir,
    start,
    starters,
  }) => {
    await (await start(dataDir)).stop();
    const { uid, gid } = fs.statSync(dataDir);
    const stranger = spawn('sleep', ['60'], isRoot ? { uid, gid } : {});
    starters.push(stranger);
    const lock = join(dataDir, 'postmaster.pid');
    fs.writeFileSync(lock, `${stranger.pid}\n${dataDir}\n1\n5433\n\n127.0.0.1\n`);
    if (isRoot) fs.chownSync(lock, uid, gid);
    expect(await query(await start(dataDir), 'select 1 as one')).toEqual([{ one: 1 }]);
    expect(stranger.exitCode).toBeNull();
  });

  test('creating the data starts over after it was killed half-way', async ({
    dataDir,
    start,
    spawnStarter,
  }) => {
    const parent = dirname(dataDir);
    const starter = spawnStarter(dataDir);
    const halfMade = () => fs.readdirSync(parent).find((name) => name.startsWith('postgres.new-'));
    await until(() => fs.existsSync(parent) && halfMade() !== undefined);
    await until(() => fs.readdirSync(join(parent, halfMade() ?? '')).length > 5);
    await kill(starter);
    expect(halfMade()).toBeDefined();
    expect(fs.existsSync(dataDir)).toBe(false);
    // A process that does not live any more may have left some too.
    fs.mkdirSync(join(parent, `postgres.new-${deadPid()}`, 'base'), { recursive: true });
    expect(await query(await start(dataDir), 'select 1 as one')).toEqual([{ one: 1 }]);
    expect(fs.readdirSync(parent).sort()).toEqual(['postgres', 'postgres.password']);
  });

  test('unusable data is refused with one sentence', async ({ dataDir, start }) => {
    await (await start(dataDir)).stop();
    await expect(start(dataDir, { settings: { shared_buffers: 'much' } })).rejects.toThrow(
      /PostgreSQL did not start on .*\n.*invalid value for parameter "shared_buffers": "much"/,
    );
    const password = fs.readFileSync(`${dataDir}.password`, 'utf8');
    fs.writeFileSync(`${dataDir}.password`, 'forgotten\n');
    await expect(start(dataDir)).rejects.toThrow('is not that of the archive beside it');
    expect(fs.existsSync(join(dataDir, 'postmaster.pid'))).toBe(false);
    fs.rmSync(`${dataDir}.password`);
    await expect(start(dataDir)).rejects.toThrow('postgres.password is missing');
    fs.writeFileSync(`${dataDir}.password`, password);
    fs.writeFileSync(join(dataDir, 'PG_VERSION'), '16\n');
    await expect(start(dataDir)).rejects.toThrow('was made by PostgreSQL 16');
    await expect(start(dirname(dataDir))).rejects.toThrow('holds something else than an archive');
  });

  test.runIf(isRoot)(
    'as root it runs as postgres, in a directory that postgres cannot enter',
    async ({ dataDir, start }) => {
      fs.mkdirSync(dirname(dataDir), { mode: 0o700 });
      const server = await start(dataDir);
      expect(fs.statSync(dataDir).uid).not.toBe(0);
      expect(fs.statSync(`/proc/${postmaster(dataDir)}`).uid).toBe(fs.statSync(dataDir).uid);
      await query(server, 'create table kept as select 42 as answer');
      await server.stop();
      fs.chmodSync(dirname(dataDir), 0o755);
      expect(await query(await start(dataDir), 'select answer from kept')).toEqual([
        { answer: 42 },
      ]);
    },
  );

  test.runIf(isRoot)(
    'as root it copies programs that postgres cannot reach',
    async ({ home, dataDir, logged, start }) => {
      const original = join(dirname((await installedPrograms()).postgres), '..');
      const closed = join(home, 'closed');
      fs.mkdirSync(closed, { mode: 0o700 });
      fs.cpSync(original, join(closed, 'native'), { recursive: true, verbatimSymlinks: true });
      const name = `test-${process.pid}`;
      fs.writeFileSync(join(closed, 'package.json'), JSON.stringify({ name, version: '0' }));
      const programs = {
        initdb: join(closed, 'native/bin/initdb'),
        postgres: join(closed, 'native/bin/postgres'),
      };
      const copy = `/var/cache/bigbrotr/${name}-0`;
      try {
        const server = await start(dataDir, { programs });
        expect(await query(server, 'select 1 as one')).toEqual([{ one: 1 }]);
        expect(fs.existsSync(join(copy, 'bin/postgres'))).toBe(true);
        expect(logged.some((line) => line.includes(`copying PostgreSQL to ${copy}`))).toBe(true);
      } finally {
        fs.rmSync(copy, { recursive: true, force: true });
      }
    },
  );

  test.runIf(isRoot)(
    'root creates data in the directory of an ordinary user, who can continue with it',
    async ({ dataDir, start, startElsewhere }) => {
      const nobody = 65_534;
      fs.mkdirSync(dirname(dataDir));
      fs.chownSync(dirname(dataDir), nobody, nobody);
      const server = await start(dataDir);
      expect(fs.statSync(dataDir).uid).toBe(nobody);
      await query(server, 'create table kept as select 42 as answer');
      await server.stop();
      const { connectionString } = await startElsewhere(dataDir, { uid: nobody });
      expect(await query({ connectionString }, 'select answer from kept')).toEqual([
        { answer: 42 },
      ]);
    },
  );

  test.runIf(isRoot)(
    'an ordinary user is refused at data of another user, with the reason',
    async ({ dataDir, start, startElsewhere }) => {
      const nobody = 65_534;
      await (await start(dataDir)).stop();
      const text = `The archive in ${dataDir} belongs to another user: start as that user or as root.`;
      fs.chownSync(dirname(dataDir), nobody, nobody);
      await expect(startElsewhere(dataDir, { uid: nobody })).rejects.toThrow(text);
    },
  );
});
