import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import {
  type DatabaseConfig,
  type Environment,
  loadDatabaseConfig,
  loadLocalDataPath,
} from '../config/load.ts';
import { CommandError } from '../runtime/failure.ts';
import { type EmbeddedPostgres, startEmbeddedPostgres } from './postgres.ts';
import type { LauncherLog } from './postgres-launcher.ts';

/** A server to read from. `stop` ends it where it was started for this. */
interface ReachedServer {
  /** The variables that name it. */
  readonly variables: Environment;
  stop(): Promise<void>;
}

/**
 * Runs a command with the database of the server that POSTGRES_HOST names, or of the data folder, whose server is started
 * for this where it does not run.
 *
 * @throws CommandError, ConfigError, and what `work` throws
 */
export async function withDatabase<T>(
  env: Environment,
  log: LauncherLog,
  work: (database: DatabaseConfig) => Promise<T>,
): Promise<T> {
  const server = env.POSTGRES_HOST
    ? null
    : await reachEmbeddedPostgres(resolve(loadLocalDataPath(env)), log);
  try {
    return await work(loadDatabaseConfig({ ...env, ...server?.variables }).database);
  } finally {
    await server?.stop();
  }
}

/**
 * The embedded server of a data folder, for a tool beside `npm start`: the one that runs, or else one that is started.
 *
 * @throws CommandError when there is no archive in the folder
 */
async function reachEmbeddedPostgres(folder: string, log: LauncherLog): Promise<ReachedServer> {
  const dataDir = join(folder, 'postgres');
  const running = portOf(dataDir);
  if (running !== null) {
    const password = read(`${dataDir}.password`)?.trim() ?? '';
    return { variables: embeddedLogin(password, { port: running }), stop: async () => {} };
  }
  if (read(join(dataDir, 'PG_VERSION')) === null) {
    throw new CommandError(
      `There is no archive in ${dataDir}: npm start makes one (or name another data folder by LOCAL_DATA_PATH, or a server by POSTGRES_HOST).`,
    );
  }
  const server = await startEmbeddedPostgres({ dataDir, log });
  return { variables: embeddedLogin(server.password, server), stop: server.stop };
}

/** Where the server of a data directory listens: the fourth line of postmaster.pid; null when none runs. */
function portOf(dataDir: string): number | null {
  const [pid, , , port] = (read(join(dataDir, 'postmaster.pid')) ?? '').split('\n');
  try {
    process.kill(Number(pid), 0);
  } catch {
    return null;
  }
  return Number(port) || null;
}

function read(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}

/**
 * The variables that name an embedded server. What belongs to another server is set empty, so that nothing of it is used.
 *
 * @param server where it listens; the defaults while that is not known yet
 */
export function embeddedLogin(
  password: string,
  server: Partial<Pick<EmbeddedPostgres, 'host' | 'port' | 'user' | 'database'>> = {},
) {
  return {
    POSTGRES_HOST: server.host ?? '127.0.0.1',
    POSTGRES_PORT: String(server.port ?? 5432),
    POSTGRES_USER: server.user ?? 'bigbrotr',
    POSTGRES_PASSWORD: password,
    POSTGRES_PASSWORD_FILE: '',
    POSTGRES_OWNER_PASSWORD: '',
    POSTGRES_OWNER_PASSWORD_FILE: '',
    POSTGRES_DIRECT_HOST: '',
    POSTGRES_SSL_MODE: 'disable',
    POSTGRES_SSL_CA: '',
    POSTGRES_DB: server.database ?? 'bigbrotr',
  };
}
