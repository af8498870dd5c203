/** The embedded PostgreSQL on a disk that gets full: the cause is named, and it is waited for. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, expect, test } from 'vitest';
import { keepPostgres } from '../../src/local/kept-postgres.ts';
import { startEmbeddedPostgres } from '../../src/local/postgres.ts';
import { mountSmallDisk, type SmallDisk } from '../postgres/small-disk.ts';
import { ownDirectory } from '../processes/directory.ts';

const directory = ownDirectory();
const disk = mountSmallDisk(join(directory, 'small-disk'), 160);
if (typeof disk === 'string') console.info(`the full disk is not tested: ${disk}`);

afterAll(() => {
  if (typeof disk !== 'string') disk.remove();
  rmSync(directory, { recursive: true, force: true });
});

/** Fills the disk, and writes to the log of transactions until the server breaks off. */
async function fillLog(connectionString: string, { leave }: SmallDisk): Promise<void> {
  const client = new pg.Client({ connectionString });
  client.on('error', () => {});
  await client.connect();
  try {
    await client.query('create table written (text text)');
    // With so much to recover the server does not come back by itself on a full disk.
    await client.query(
      'insert into written select repeat(md5(i::text), 30) from generate_series(1, 20000) i',
    );
    leave(0);
    for (;;) {
      await client.query('insert into written values ($1)', ['x'.repeat(100)]);
      await client.query('select pg_switch_wal()');
    }
  } catch {
    await client.end().catch(() => {});
  }
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(50);
}

test.skipIf(typeof disk === 'string')(
  'is named in one sentence with what to do, not by the lines of PostgreSQL, and the server is started again when there is room',
  async () => {
    if (typeof disk === 'string') return;
    const dataDir = join(disk.path, 'data', 'postgres');
    const shown: string[] = [];
    const show = (line: string) => void shown.push(line);
    const log = { debug: () => {}, info: show, warn: show, error: show };
    let isLost = false;
    const server = await keepPostgres({ dataDir, port: 0, log }, () => {
      isLost = true;
    });
    try {
      await fillLog(server.connectionString, disk);
      await until(() => shown.some((line) => line.startsWith('PostgreSQL ended by itself')));
      const ended = shown.filter((line) => line.startsWith('PostgreSQL ended by itself'));
      expect(ended).toHaveLength(1);
      expect(ended[0]).toMatch(
        /^PostgreSQL ended by itself: the disk that holds \S+\/data\/postgres is full \([^\n]*No space left on device\): free space on it; it is started again when there is room$/,
      );
      await expect(startEmbeddedPostgres({ dataDir, port: 0, log })).rejects.toThrow(
        /^PostgreSQL did not start: the disk that holds \S+ is full \([^\n]*\): free space on it, then start again$/,
      );
      disk.release();
      await until(() => shown.some((line) => line.includes('is running again')));
      expect(isLost).toBe(false);
      expect(shown.filter((line) => line.includes('\n'))).toEqual([]);
    } finally {
      disk.release();
      await server.stop();
    }
  },
  120_000,
);
