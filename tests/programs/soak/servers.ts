/** PostgreSQL, PgBouncer where it is installed, and a wire in front that can fail: what the services write to. */
import { rmSync } from 'node:fs';
import { freemem } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { startTcpProxy, type TcpProxy } from '../../network/tcp-proxy.ts';
import { type MortalServer, startMortalServer } from '../../postgres/mortal-server.ts';
import { type PgBouncer, pgbouncerVersion, startPgBouncer } from '../../postgres/pgbouncer.ts';
import { mountSmallDisk, type SmallDisk } from '../../postgres/small-disk.ts';
import { ownDirectory } from '../../processes/directory.ts';
import type { DatabaseAddress } from '../../processes/stack.ts';
import { lastingPort } from './ports.ts';

/** Of the disk that the data of PostgreSQL are on: for a soak of no time, and for each minute. */
const DISK = { megabytes: 320, megabytesAMinute: 40 };
/** No more of the memory that is free is taken for that disk, which is in memory. */
const DISK_SHARE = 0.4;
/** Small, so that the log of transactions takes little of the disk. */
const WAL = { max_wal_size: '64MB', min_wal_size: '32MB' };
const START_TRIES = 60;
const START_TRY_MS = 500;

export class Servers {
  readonly postgres: MortalServer;
  readonly proxy: TcpProxy;
  /** Version of PgBouncer; null where it is not installed. */
  readonly poolerVersion: string | null;
  /** What the data of PostgreSQL are on, which can be filled; the reason why not where that cannot be. */
  readonly disk: SmallDisk | string;
  /** `performance.now()` of the end of the latest time in which the services were without their database. */
  #backAt = 0;
  /** Faults of the database that go on now. */
  #away = 0;
  #pooler: PgBouncer | null;
  #postgresIsUp = true;
  /** Faults of PostgreSQL itself wait for each other. */
  #withoutPostgres: Promise<unknown> = Promise.resolve();
  readonly #poolerPort: number;
  readonly #directory: string;

  private constructor(
    postgres: MortalServer,
    pooler: PgBouncer | null,
    proxy: TcpProxy,
    place: { readonly disk: SmallDisk | string; readonly directory: string },
  ) {
    this.postgres = postgres;
    this.proxy = proxy;
    this.poolerVersion = pooler && pgbouncerVersion();
    this.disk = place.disk;
    this.#pooler = pooler;
    this.#poolerPort = pooler?.config.port ?? 0;
    this.#directory = place.directory;
  }

  /** @param minutes for which faults will happen: so large a disk they get */
  static async start(minutes: number): Promise<Servers> {
    const directory = ownDirectory();
    const disk = smallDisk(join(directory, 'disk'), minutes);
    try {
      const data = join(typeof disk === 'string' ? directory : disk.path, 'soak');
      const postgres = await startMortalServer(data, WAL, await lastingPort());
      const pooler = pgbouncerVersion()
        ? await startPgBouncer(postgres.database, await lastingPort())
        : null;
      const proxy = await startTcpProxy(pooler?.config ?? postgres.database.config);
      return new Servers(postgres, pooler, proxy, { disk, directory });
    } catch (error) {
      if (typeof disk !== 'string') disk.remove();
      throw error;
    }
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

  /** Whether the database was unreachable at any time in the last given number of milliseconds. */
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

  /**
   * In here PostgreSQL may end, and our own questions wait. Resolves when it takes writes again, started anew where it
   * has ended. One at a time.
   */
  withoutPostgres(work: () => Promise<void>): Promise<void> {
    const done = this.#withoutPostgres.then(async () => {
      this.#postgresIsUp = false;
      try {
        await work();
      } finally {
        await this.#revivePostgres();
        this.#postgresIsUp = true;
      }
    });
    this.#withoutPostgres = done.catch(() => {}); // told to whoever asked for it
    return done;
  }

  /** It may be on its way down, or be mending itself, when it is looked at. */
  async #revivePostgres(): Promise<void> {
    for (let tries = 1; ; tries += 1) {
      try {
        if (!this.postgres.isRunning()) await this.postgres.start();
        await this.postgres.database.query('create temporary table writes_are_taken ()');
        return;
      } catch (error) {
        if (tries >= START_TRIES) throw error;
        await sleep(START_TRY_MS);
      }
    }
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
    if (typeof this.disk !== 'string') this.disk.remove();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

function smallDisk(path: string, minutes: number): SmallDisk | string {
  const megabytes = Math.ceil(DISK.megabytes + DISK.megabytesAMinute * minutes);
  const free = Math.floor(freemem() / 2 ** 20);
  if (megabytes > free * DISK_SHARE)
    return `a disk of ${megabytes} MB in memory is too much for a machine with ${free} MB free`;
  return mountSmallDisk(path, megabytes);
}
