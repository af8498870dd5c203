import pg from 'pg';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { Bigbrotr, type Relay } from '../../../src/database/bigbrotr.ts';
import { Database } from '../../../src/database/connection.ts';
import { signedEvents } from '../../fixtures/events.ts';
import { startTcpProxy } from '../../network/tcp-proxy.ts';
import {
  batchOf,
  databaseConfig,
  knownRelay,
  openBigbrotr,
  silent,
} from '../../postgres/bigbrotr.ts';
import { type TestDatabase, testDatabase } from '../../postgres/database.ts';
import { type PgBouncer, pgbouncerVersion, startPgBouncer } from '../../postgres/pgbouncer.ts';

vi.setConfig({ testTimeout: 60_000 });

const version = pgbouncerVersion();
if (version === null)
  console.log('skipped: PgBouncer is not installed (apt-get install pgbouncer)');

describe.skipIf(version === null)(`through ${version} in transaction mode`, () => {
  let made: TestDatabase;
  let pooler: PgBouncer;
  let services: Bigbrotr[];

  beforeAll(async () => {
    made = await testDatabase();
    pooler = await startPgBouncer(made);
    // Sixteen connections of clients share the three that PgBouncer opens.
    services = await Promise.all([1, 2].map(() => openBigbrotr(pooler, { maxPool: 8 })));
  });
  afterAll(async () => {
    await Promise.all((services ?? []).map((bigbrotr) => bigbrotr.close()));
    await pooler?.stop();
    await made?.drop();
  });

  test('two services with more connections than the server allows complete all their work', async () => {
    const events = signedEvents(200, { from: 1000, to: 2000, authors: 2 });
    const [first, second] = services as [Bigbrotr, Bigbrotr];
    const relays = await Promise.all(
      Array.from({ length: 10 }, (_, index) =>
        knownRelay(index % 2 ? first : second, `relay-${index}`),
      ),
    );
    await Promise.all(relays.map((relay, index) => visit(index % 2 ? first : second, relay)));
    expect(await first.totals()).toMatchObject({ events: 200, sightings: 2000, relays: 10 });
    const [covered] = await made.query(
      "select count(*)::int as rows from coverage where covered = '{[0,2001)}'",
    );
    expect(covered).toEqual({ rows: 10 });

    async function visit(bigbrotr: Bigbrotr, relay: Relay): Promise<void> {
      const filterId = await bigbrotr.filterId({});
      const { missing } = await bigbrotr.beginVisit(
        relay,
        { filterId, since: 0, until: 2000 },
        { overlapSeconds: 0, reproveSeconds: 1000 },
      );
      expect(missing).toHaveLength(1);
      for (let at = 0; at < events.length; at += 50) {
        const slice = events.slice(at, at + 50);
        const known = await bigbrotr.archivedEvents(slice);
        await bigbrotr.store(
          batchOf({
            relay,
            filterId,
            events: slice.filter(({ id }) => !known.has(id)),
            known: slice.filter(({ id }) => known.has(id)),
            proven: at + 50 < events.length ? [] : [{ since: 0, until: 2000 }],
          }),
        );
      }
      await bigbrotr.insertSnapshots([
        {
          relay,
          generatedAt: 1,
          nip11: { name: relay.url },
          nip66: { openable: true, readable: true, writable: true },
        },
      ]);
      await bigbrotr.endVisit(relay, filterId, {
        outcome: 'complete',
        reason: null,
        detail: null,
        pages: 4,
      });
    }
  });

  test('shared connections keep no session state', async () => {
    const [bigbrotr] = services as [Bigbrotr];
    await bigbrotr.totals();
    const left = await made.query<{ pid: number }>(
      "select pid from pg_stat_activity where datname = current_database() and state like 'idle in transaction%'",
    );
    expect(left).toEqual([]);
    const locks = await made.query(
      `select from pg_locks
       where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())`,
    );
    expect(locks).toEqual([]);
  });

  test('server connections that die are replaced', async () => {
    const [bigbrotr] = services as [Bigbrotr];
    const relay = await knownRelay(bigbrotr, 'relay-0');
    const filterId = await bigbrotr.filterId({});
    const events = signedEvents(100, { from: 1000, to: 2000, seed: 9, authors: 2 });
    const storing = Promise.all(
      Array.from({ length: 10 }, (_, index) =>
        bigbrotr.store(
          batchOf({ relay, filterId, events: events.slice(index * 10, index * 10 + 10) }),
        ),
      ),
    );
    const killed = await made.query(
      'select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()',
    );
    expect(killed.length).toBeGreaterThan(0);
    const stored = await storing;
    expect(stored.reduce((sum, { sightings }) => sum + sightings, 0)).toBeLessThanOrEqual(100);
    const [row] = await made.query('select count(*)::int as held from events where id = any ($1)', [
      events.map(({ id }) => Buffer.from(id, 'hex')),
    ]);
    expect(row).toEqual({ held: 100 });
  });

  test.each([
    [{ password: 'wrong' }, '28P01', /check POSTGRES_USER and POSTGRES_PASSWORD/],
    [{ user: 'nobody_knows' }, '28P01', /check POSTGRES_USER and POSTGRES_PASSWORD/],
    [{ database: 'nowhere' }, '3D000', /check POSTGRES_DB/],
  ])('%j is told at once, not after five tries', async (wrong, code, sentence) => {
    const warnings: string[] = [];
    const log = pino({ level: 'warn' }, { write: (line) => warnings.push(line) });
    const connecting = Bigbrotr.connect(databaseConfig(pooler, wrong), log);
    await expect(connecting).rejects.toMatchObject({ code, permanent: true });
    await expect(connecting).rejects.toThrow(sentence);
    expect(warnings).toEqual([]);
  });
});

describe.skipIf(version === null)(`behind ${version} that is full or gone`, () => {
  let made: TestDatabase;
  const closing: (() => Promise<unknown>)[] = [];
  beforeAll(async () => {
    made = await testDatabase();
  });
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close();
  });
  afterAll(() => made?.drop());

  /** A database behind a pooler of its own, and the codes and reasons of what it tried again. */
  async function opened(settings: Readonly<Record<string, string | number>>) {
    const pooler = await startPgBouncer(made, undefined, settings);
    closing.push(() => pooler.stop());
    const retried: string[] = [];
    const write = (line: string) => {
      const { code, err } = JSON.parse(line);
      retried.push(`${code} ${err?.message}`);
    };
    const log = pino({ level: 'debug' }, { write });
    const database = await Database.connect(databaseConfig(pooler, { maxPool: 2 }), log);
    closing.push(() => database.close());
    return { pooler, database, retried };
  }

  async function client(pooler: PgBouncer): Promise<pg.Client> {
    const made = new pg.Client(pooler.config);
    made.on('error', () => {});
    await made.connect();
    closing.push(() => made.end());
    return made;
  }

  const one = 'select 1 as one';

  test('a client above max_client_conn waits until there is room', async () => {
    const { pooler, database, retried } = await opened({ max_client_conn: 2 });
    const other = await client(pooler);
    // The connection that the database has is the second; another one is refused.
    const asked = database.transaction(async (query) => {
      await query(one);
      const waiting = database.query<{ one: number }>(one);
      await vi.waitFor(() => expect(retried.length).toBeGreaterThan(1), 20_000);
      await other.end();
      return waiting;
    });
    expect((await asked).rows).toEqual([{ one: 1 }]);
    expect(retried[0]).toMatch(/no more connections allowed/);
  });

  test('a statement that exceeded query_wait_timeout is retried', async () => {
    const settings = { default_pool_size: 1, query_wait_timeout: 1 };
    const { pooler, database, retried } = await opened(settings);
    const hog = await client(pooler);
    await hog.query('begin');
    const asked = database.query<{ one: number }>(one);
    await vi.waitFor(() => expect(retried.length).toBeGreaterThan(0), 20_000);
    await hog.query('rollback');
    expect((await asked).rows).toEqual([{ one: 1 }]);
    expect(retried[0]).toMatch(/query_wait_timeout/);
  });

  test('a pooler that is restarted after a kill is used again', async () => {
    const { pooler, database, retried } = await opened({});
    await pooler.stop();
    const asked = database.query<{ one: number }>(one);
    await vi.waitFor(() => expect(retried.length).toBeGreaterThan(1), 20_000);
    expect(await database.whyDown(2000)).toContain(`127.0.0.1:${pooler.config.port}: `);
    const again = await startPgBouncer(made, pooler.config.port);
    closing.push(() => again.stop());
    expect((await asked).rows).toEqual([{ one: 1 }]);
  });

  test('a pooler whose server is down reports it, and works when the server is back', async () => {
    const proxy = await startTcpProxy(made.config);
    closing.push(() => proxy.close());
    const { host, port } = proxy;
    const through = { config: { ...made.config, host, port } };
    const pooler = await startPgBouncer(through, undefined, { query_wait_timeout: 1 });
    closing.push(() => pooler.stop());
    const database = await Database.connect(databaseConfig(pooler), silent);
    closing.push(() => database.close());
    proxy.refuse(1_000_000);
    proxy.cut();
    const asked = database.query<{ one: number }>(one);
    await vi.waitFor(() => expect(proxy.refused).toBeGreaterThan(1), 20_000);
    expect(await database.isUp(3000)).toBe(false);
    proxy.refuse(0);
    expect((await asked).rows).toEqual([{ one: 1 }]);
  });
});
