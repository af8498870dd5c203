import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * How a PostgreSQL data directory was left, as pg_controldata(1) shows it: `shut down` is a clean end, any other
 * state of a server that is gone means that its next start has to recover. Read from the fourth field of
 * `global/pg_control` (PostgreSQL 10 to 17, src/include/catalog/pg_control.h).
 */
export function clusterState(dataDir: string): 'shut down' | 'running' | `state ${number}` {
  const OFFSET_OF_STATE = 16; // after the system identifier (8 bytes) and two version numbers (4 bytes each)
  const state = readFileSync(join(dataDir, 'global', 'pg_control')).readUInt32LE(OFFSET_OF_STATE);
  if (state === 1 && !existsSync(join(dataDir, 'postmaster.pid'))) return 'shut down';
  return state === 6 ? 'running' : `state ${state}`;
}
