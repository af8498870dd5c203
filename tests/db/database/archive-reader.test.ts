import { describe, expect } from 'vitest';
import { ArchiveReader } from '../../../src/database/archive-reader.ts';
import { Database } from '../../../src/database/connection.ts';
import { insertRelays, relaysOf } from '../../../src/database/relays.ts';
import { signedEvents } from '../../fixtures/events.ts';
import { batchOf, databaseConfig, openBigbrotr, silent } from '../../postgres/bigbrotr.ts';
import { archiveTest } from '../../postgres/fixtures.ts';
import { pgbouncerVersion, startPgBouncer } from '../../postgres/pgbouncer.ts';
import { relayAddress } from '../../relay/relays.ts';

const NEW = [relayAddress('wss://new.example.com')];
/** What the server answers to a write in a read-only transaction (SQLSTATE 25006). */
const REFUSED = { name: 'DatabaseError', code: '25006', permanent: true };

const test = archiveTest.extend(
  'countRelays',
  ({ database }) =>
    async () =>
      (await database.query('select from relays')).length,
);

describe('ArchiveReader', () => {
  test('the server refuses a write, and the function that tried it is not repeated', async ({
    reader,
    countRelays,
  }) => {
    let tries = 0;
    const written = reader.read((query) => {
      tries += 1;
      return insertRelays(query, NEW);
    });
    await expect(written).rejects.toMatchObject(REFUSED);
    await expect(reader.read((query) => relaysOf(query, NEW))).rejects.toMatchObject(REFUSED);
    expect([tries, await countRelays()]).toEqual([1, 0]);
  });

  test('the connection is good for the next read after a refused write', async ({
    reader,
    bigbrotr,
    relay,
    filterId,
  }) => {
    const events = signedEvents(3, { from: 1000, to: 2000 });
    await bigbrotr.store(batchOf({ relay, filterId, events }));
    for (let write = 0; write < 6; write += 1)
      await expect(reader.read((query) => insertRelays(query, NEW))).rejects.toThrow();
    const ids: string[] = [];
    for await (const chunk of reader.storedEvents()) ids.push(...chunk.map(({ id }) => id));
    expect(ids.sort()).toEqual(events.map(({ id }) => id).sort());
    let sampled = 0;
    for await (const chunk of reader.sampledEvents(2)) sampled += chunk.length;
    expect(sampled).toBe(2);
    expect(await reader.whyDown()).toBeNull();
  });

  test('a statement of its own cannot write either, and cannot leave its transaction', async ({
    database,
    countRelays,
    onTestFinished,
  }) => {
    const readOnly = { readOnly: true };
    const pool = await Database.connect(databaseConfig(database), silent, readOnly);
    onTestFinished(() => pool.close());
    const insert = "insert into relays (url, network) values ('wss://new.example.com', 'clearnet')";
    await expect(pool.query(insert)).rejects.toMatchObject(REFUSED);
    await expect(pool.query(`commit; ${insert}`)).rejects.toThrow('multiple commands');
    await expect(pool.queryWithin(5000)(insert)).rejects.toMatchObject(REFUSED);
    await expect(pool.queryWithin(100)('select pg_sleep(60)')).rejects.toThrow();
    expect((await pool.queryWithin(5000)('select 1 as one')).rows).toEqual([{ one: 1 }]);
    expect(await countRelays()).toBe(0);
  });
});

describe.skipIf(pgbouncerVersion() === null)('ArchiveReader through PgBouncer', () => {
  test('reads and writes share one server connection: the mode of a read does not outlive it', async ({
    database,
    onTestFinished,
  }) => {
    const pooler = await startPgBouncer(database, undefined, { default_pool_size: 1 });
    onTestFinished(() => pooler.stop());
    const [reader, writer] = await Promise.all([
      ArchiveReader.connect(databaseConfig(pooler), silent),
      openBigbrotr(pooler),
    ]);
    onTestFinished(async () => {
      await Promise.all([reader.close(), writer.close()]);
    });
    for (let round = 0; round < 5; round += 1) {
      await expect(reader.read((query) => insertRelays(query, NEW))).rejects.toMatchObject(REFUSED);
      const added = relayAddress(`wss://relay-${round}.example.com`);
      expect(await writer.insertRelays([added])).toBe(1);
      const { rows } = await reader.read((query) => query('select from relays'));
      expect(rows).toHaveLength(round + 1);
    }
  });
});
