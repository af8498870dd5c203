import { type PgBouncer, startPgBouncer } from '../../postgres/pgbouncer.ts';

interface Login {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
}

/** As large as pgbouncer.ini of the project has them. */
const SIZES = { max_client_conn: 1000, default_pool_size: 80 };

/** Starts PgBouncer as the project's pgbouncer.ini has it, in front of every database of a server. */
export function startPooler(server: Login): Promise<PgBouncer> {
  return startPgBouncer({ config: { ...server, database: 'postgres' } }, undefined, SIZES, '*');
}
