/** PostgreSQL, PgBouncer where it is installed, and a wire in front that can fail: what the services write to. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ownDirectory } from '../support/directory.ts';
import { type MortalServer, startMortalServer } from '../support/mortal-server.ts';
import { type PgBouncer, pgbouncerVersion, startPgBouncer } from '../support/pgbouncer.ts';
import type { DatabaseAddress } from '../support/stack.ts';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts';
import { lastingPort } from './ports.ts';

export class Servers {
  readonly postgres: MortalServer;
  readonly proxy: TcpProxy;
  /** Version of PgBouncer; null where it is not installed. */
  readonly poolerVersion: string | null;
  /** `performance.now()` of the end of the latest time in which the services were without their database. */
  #backAt = 0;
  /** Faults of the database that go on now. */
  #away = 0;
  #pooler: PgBouncer | null;
  #postgresIsUp = true;
  readonly #poolerPort: number;
  readonly #directory: string;

  private constructor(
    postgres: MortalServer,
    pooler: PgBouncer | null,
    proxy: TcpProxy,
    directory: string,
  ) {
    this.postgres = postgres;
    this.proxy = proxy;
    this.poolerVersion = pooler && pgbouncerVersion();
    this.#pooler = pooler;
    this.#poolerPort = pooler?.config.port ?? 0;
    this.#directory = directory;
  }

  static async start(): Promise<Servers> {
    const directory = ownDirectory();
    const port = await lastingPort();
    const postgres = await startMortalServer(join(directory, 'soak'), {}, port);
    const pooler = pgbouncerVersion()
      ? await startPgBouncer(postgres.database, await lastingPort())
      : null;
    const proxy = await startTcpProxy(pooler?.config ?? postgres.database.config);
    return new Servers(postgres, pooler, proxy, directory);
  }

  /** Where the services reach their database. */
  get address(): DatabaseAddress {
    const { host, port } = this.proxy;
    return { ...this.postgres.database.config, host, port };
  }

  /** Asks PostgreSQL itself, once it is there. */
  async query<Row extends object>(sql: string, values: unknown[] = []): Promise<Row[]> {
    for (let tries = 0; ; tries += 1) {
      try {
        while (!this.#postgresIsUp) await sleep(50);
        return await this.postgres.database.query<Row & Record<string, unknown>>(sql, values);
      } catch (error) {
        // It may have been killed meanwhile; what is wrong with the question is wrong each time.
        if (tries >= 3 || /^(42|22)/.test(String((error as { code?: string }).code))) throw error;
        await sleep(500);
      }
    }
  }

  /** Whether the services were without their database at any time in so many milliseconds. */
  wereAway(withinMs: number): boolean {
    return this.#away > 0 || performance.now() - this.#backAt < withinMs;
  }

  /** What happens in here keeps the services from their database. */
  async away<T>(work: () => Promise<T>): Promise<T> {
    this.#away += 1;
    try {
      return await work();
    } finally {
      this.#away -= 1;
      this.#backAt = performance.now();
    }
  }

  async killPostgres(): Promise<void> {
    this.#postgresIsUp = false;
    await this.postgres.kill();
  }

  async restartPostgres(): Promise<void> {
    await this.postgres.start();
    this.#postgresIsUp = true;
  }

  async killPooler(): Promise<void> {
    await this.#pooler?.stop();
    this.#pooler = null;
  }

  /** PostgreSQL has to be there: PgBouncer is ready once it answers. */
  async restartPooler(): Promise<void> {
    while (!this.#postgresIsUp) await sleep(50);
    this.#pooler = await startPgBouncer(this.postgres.database, this.#poolerPort);
  }

  async stop(): Promise<void> {
    await this.proxy.close();
    await this.#pooler?.stop();
    await this.postgres.stop();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}
