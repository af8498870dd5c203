import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import type { DatabaseConfig } from '../../../src/config/load.ts';
import { startEmbeddedPostgres } from '../../../src/local/postgres.ts';
import { pgbouncerVersion } from '../../postgres/pgbouncer.ts';
import { ownDirectory } from '../../processes/directory.ts';
import { startPooler } from './pooler.ts';

export interface BenchServer {
  readonly pid: number;
  /** What the figures depend on. */
  readonly facts: Readonly<Record<string, string>>;
  /** Makes a database and runs this SQL in it. */
  create(name: string, sql: string): Promise<BenchDatabase>;
  stop(): Promise<void>;
}

export interface BenchDatabase {
  /** How the pipeline reaches it: through PgBouncer where that is installed. */
  readonly config: DatabaseConfig;
  /** One statement, or several without values, over a connection of the bench's own, past PgBouncer. */
  query<Row extends object>(sql: string, values?: readonly unknown[]): Promise<Row[]>;
  /** The one number that a statement gives. */
  number(sql: string, values?: readonly unknown[]): Promise<number>;
  drop(): Promise<void>;
}

/** As docker-compose.yml sets them. Autovacuum is on, every commit is on disk before it is answered. */
const SETTINGS = {
  max_connections: '130',
  shared_buffers: '512MB',
  max_wal_size: '4GB',
  checkpoint_timeout: '15min',
  wal_compression: 'off',
};

/** As docker-compose.yml has them; the PostgreSQL that npm brings is built without lz4, and `npm start` does without. */
const WITH_LZ4 = `alter system set wal_compression = lz4;
alter system set default_toast_compression = lz4;
select pg_reload_conf()`;

/**
 * Another PostgreSQL than the one that npm brings: BENCH_POSTGRES_BIN is the directory of its programs, for example
 * /usr/lib/postgresql/17/bin.
 */
function otherPrograms(): { programs?: { initdb: string; postgres: string } } {
  const bin = process.env.BENCH_POSTGRES_BIN;
  return bin ? { programs: { initdb: join(bin, 'initdb'), postgres: join(bin, 'postgres') } } : {};
}

/** Other settings for a comparison: BENCH_POSTGRES_SETTINGS is a list such as `gin_pending_list_limit=16MB wal_buffers=64MB`. */
function otherSettings(): Record<string, string> {
  const given = process.env.BENCH_POSTGRES_SETTINGS ?? '';
  return Object.fromEntries(
    given
      .split(/\s+/)
      .filter((part) => part.includes('='))
      .map((part) => [part.slice(0, part.indexOf('=')), part.slice(part.indexOf('=') + 1)]),
  );
}

/** Starts a PostgreSQL for the bench alone, and PgBouncer in transaction mode in front of it. */
export async function startServer(): Promise<BenchServer> {
  const directory = ownDirectory();
  const dataDir = join(directory, 'bench');
  mkdirSync(directory, { recursive: true });
  const lines: string[] = [];
  const keep = (line: string) => void lines.push(line);
  const log = { debug: keep, info: keep, warn: keep, error: keep };
  const settings = { ...SETTINGS, ...otherSettings() };
  const options = { dataDir, port: 0, log, settings, ...otherPrograms() };
  const postgres = await startEmbeddedPostgres(options);
  const { host, port, user, password } = postgres;
  const direct = { host, port, user, password };
  const bouncer = pgbouncerVersion();
  const pool = bouncer ? await startPooler(direct) : null;
  const admin = new pg.Client({ ...direct, database: 'postgres' });
  await admin.connect();
  const { rows } = await admin.query<{ version: string; lz4: boolean }>(
    `select current_setting('server_version') as version, 'lz4' = any (enumvals) as lz4
     from pg_settings where name = 'default_toast_compression'`,
  );
  if (rows[0]?.lz4) for (const statement of WITH_LZ4.split(';')) await admin.query(statement);
  return {
    pid: Number(readFileSync(join(dataDir, 'postmaster.pid'), 'utf8').split('\n')[0]),
    facts: {
      PostgreSQL: `${rows[0]?.version}, ${rows[0]?.lz4 ? 'lz4 for WAL and TOAST' : 'built without lz4'}`,
      settings: Object.entries(settings)
        .map(([name, value]) => `${name}=${value}`)
        .join(' '),
      PgBouncer: bouncer ?? 'not installed: connections go straight to PostgreSQL',
    },
    create: async (name, sql) => {
      await admin.query(`create database ${name}`);
      const client = new pg.Client({ ...direct, database: name });
      await client.connect();
      await client.query(sql);
      const config = {
        ...{ ...direct, port: pool?.config.port ?? port, database: name },
        ...{ minPool: 2, maxPool: 5, commandTimeoutMs: 600_000 },
      };
      return asDatabase(client, config, () => admin.query(`drop database ${name} with (force)`));
    },
    stop: async () => {
      await admin.end().catch(() => {});
      await pool?.stop();
      await postgres.stop();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

function asDatabase(
  client: pg.Client,
  config: DatabaseConfig,
  dropIt: () => Promise<unknown>,
): BenchDatabase {
  const query = async <Row extends object>(sql: string, values?: readonly unknown[]) =>
    (await client.query<Row>(sql, values as unknown[])).rows;
  client.on('error', () => {}); // the server stops before this connection when the bench is interrupted
  return {
    config,
    query,
    number: async (sql, values) => {
      const [row] = await query<Record<string, unknown>>(sql, values);
      return Number(Object.values(row ?? {})[0]);
    },
    drop: async () => {
      await client.end();
      await dropIt();
    },
  };
}
