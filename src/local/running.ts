import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ConfigError, type Environment } from '../config.ts';
import { startEmbeddedPostgres } from './postgres.ts';
import type { LauncherLog } from './postgres-launcher.ts';

/** A server to read from, and how to let it go. */
export interface ReachedServer {
  /** The variables that name it. */
  readonly variables: Environment;
  stop(): Promise<void>;
}

/**
 * The embedded server of a data folder for a tool beside `npm start`: the one that runs, or one started for the
 * while. @throws ConfigError when there is no archive in the folder
 */
export async function reachEmbeddedPostgres(
  folder: string,
  log: LauncherLog,
): Promise<ReachedServer> {
  const dataDir = join(folder, 'postgres');
  const running = portOf(dataDir);
  if (running !== null) {
    const password = read(`${dataDir}.password`)?.trim() ?? '';
    return { variables: login(running, password), stop: async () => {} };
  }
  if (read(join(dataDir, 'PG_VERSION')) === null) {
    throw new ConfigError([
      `There is no archive in ${dataDir}: name a server by POSTGRES_HOST, or a data folder by LOCAL_DATA_PATH.`,
    ]);
  }
  const server = await startEmbeddedPostgres({ dataDir, log });
  return { variables: login(server.port, server.password), stop: server.stop };
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

function login(port: number, password: string): Environment {
  return {
    POSTGRES_HOST: '127.0.0.1',
    POSTGRES_PORT: String(port),
    POSTGRES_USER: 'bigbrotr',
    POSTGRES_DB: 'bigbrotr',
    POSTGRES_PASSWORD: password,
    POSTGRES_PASSWORD_FILE: '',
    POSTGRES_SSL_MODE: 'disable',
    POSTGRES_SSL_CA: '',
  };
}
