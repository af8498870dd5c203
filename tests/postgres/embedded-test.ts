import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { test } from 'vitest';
import {
  type EmbeddedPostgres,
  type EmbeddedPostgresOptions,
  startEmbeddedPostgres,
} from '../../src/local/postgres.ts';
import { ownDirectory } from '../processes/directory.ts';
import { builtProgram } from '../processes/project.ts';

interface StarterOptions {
  readonly path?: string;
  readonly uid?: number;
}

/**
 * Tests of PostgreSQL as `npm start` starts it: `start` does so here, `startElsewhere` in a process that can be killed.
 */
export const embeddedTest = test
  .extend('directory', { scope: 'file' }, () => ownDirectory())
  /** A folder from which starters that are to be killed run as processes. */
  .extend('home', { scope: 'file' }, ({ directory }, { onCleanup }) => {
    onCleanup(() =>
      fs.rmSync(directory, { recursive: true, force: true, maxRetries: 20, retryDelay: 200 }),
    );
    fs.symlinkSync(builtProgram(), join(directory, 'dist'));
    fs.writeFileSync(join(directory, 'package.json'), '{ "type": "module" }');
    return directory;
  })
  /** A place for data that is not there yet. */
  .extend('dataDir', ({ home }) => join(home, `data-${randomBytes(4).toString('hex')}`, 'postgres'))
  /** Lines of the log. */
  .extend('logged', (): string[] => [])
  .extend('start', ({ logged }, { onCleanup }) => {
    const servers: EmbeddedPostgres[] = [];
    onCleanup(async () => {
      await Promise.all(servers.map((server) => server.stop()));
    });
    const keep = (line: string) => void logged.push(line);
    const log = { debug: keep, info: keep, warn: keep, error: keep };
    return async (dataDir: string, options: Partial<EmbeddedPostgresOptions> = {}) => {
      const given = { dataDir, port: 0, log, durable: false, ...options };
      const server = await startEmbeddedPostgres(given);
      servers.push(server);
      return server;
    };
  })
  /** Processes that are killed after the test. */
  .extend('starters', ({ start: _stoppedAfter }, { onCleanup }) => {
    const starters: ChildProcess[] = [];
    onCleanup(() => {
      for (const starter of starters) starter.kill('SIGKILL');
    });
    return starters;
  })
  .extend(
    'spawnStarter',
    ({ home, starters }) =>
      (dataDir: string, { path = process.env.PATH, uid }: StarterOptions = {}) => {
        const starter = spawn(process.execPath, ['--input-type=module', '-e', STARTER, dataDir], {
          cwd: home,
          env: { PATH: path },
          stdio: ['ignore', 'pipe', 'pipe'],
          ...(uid !== undefined && { uid, gid: uid }),
        });
        starters.push(starter);
        return starter;
      },
  )
  /** A process that starts a server and then waits for its end. Settles when the server is ready. */
  .extend(
    'startElsewhere',
    ({ spawnStarter }) =>
      async (dataDir: string, options: StarterOptions = {}) => {
        const starter = spawnStarter(dataDir, options);
        const connectionString = await new Promise<string>((done, fail) => {
          let output = '';
          const listen = (chunk: Buffer) => {
            output += chunk;
            const found = /READY (\S+)/.exec(output)?.[1];
            if (found !== undefined) done(found);
          };
          starter.stdout?.on('data', listen);
          starter.stderr?.on('data', listen);
          starter.once('exit', () => fail(new Error(output)));
        });
        return { starter, connectionString };
      },
  );

const STARTER = `
  import { startEmbeddedPostgres } from './dist/local/postgres.js';
  const say = (line) => console.error(line);
  const log = { debug() {}, info: say, warn: say, error: say };
  const server = await startEmbeddedPostgres({ dataDir: process.argv[1], port: 0, log, durable: false });
  console.log('READY ' + server.connectionString);
  setInterval(() => {}, 60_000);`;

/** The rows of one statement. */
export async function query(server: { connectionString: string }, sql: string) {
  const client = new pg.Client({ connectionString: server.connectionString });
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(sql)).rows;
  } finally {
    await client.end();
  }
}
