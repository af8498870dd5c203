import fc from 'fast-check';
import { pino } from 'pino';
import { describe, expect } from 'vitest';
import { Bigbrotr, type SnapshotRow } from '../../../src/database/bigbrotr.ts';
import { SnapshotWriter } from '../../../src/monitor/snapshot-writer.ts';
import { parseNip11 } from '../../../src/nostr/nip11.ts';
import { address, DOWN, NOW, READABLE, snapshot } from '../../fixtures/snapshot-rows.ts';
import { databaseConfig, knownRelay } from '../../postgres/bigbrotr.ts';
import { archiveTest as test } from '../../postgres/fixtures.ts';

describe('snapshots', () => {
  test('are kept once, with their documents once', async ({ bigbrotr, database }) => {
    const document = { name: 'x', supported_nips: [1] };
    const rows = ['a', 'b', 'c'].map((name) => snapshot(address(name), NOW, READABLE, document));
    expect(await bigbrotr.insertSnapshots(rows)).toEqual({ added: 3, lost: [] });
    expect(await bigbrotr.insertSnapshots(rows)).toMatchObject({ added: 0 });
    expect(await bigbrotr.insertSnapshots([])).toEqual({ added: 0, lost: [] });
    const [kept] = await database.query(
      'select (select count(*)::int from nip11) as nip11, (select count(*)::int from nip66) as nip66, (select count(*)::int from relay_metadata) as snapshots',
    );
    expect(kept).toEqual({ nip11: 1, nip66: 1, snapshots: 3 });
  });

  test('by four concurrent writers of the same documents in any order cause no deadlock error', async ({
    database,
  }) => {
    const waited: unknown[] = [];
    const log = pino({ level: 'debug' }, { write: (line) => waited.push(JSON.parse(line).code) });
    const writers = await Bigbrotr.connect(databaseConfig(database), log);
    const results = await Promise.all(
      Array.from({ length: 4 }, (_, writer) =>
        writers.insertSnapshots(
          Array.from({ length: 50 }, (_, index) =>
            snapshot(address(`w${writer}-${index}`), NOW, {
              ...DOWN,
              reason: `r${(index * (writer + 7)) % 50}`,
            }),
          ),
        ),
      ),
    );
    await writers.close();
    expect(results.map(({ added }) => added)).toEqual([50, 50, 50, 50]);
    expect(await database.query('select count(*)::int from nip66')).toEqual([{ count: 50 }]);
  });

  test('by property: any NIP-11 document can be stored', async ({ bigbrotr }) => {
    const relay = await knownRelay(bigbrotr, 'one');
    const odd = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.constantFrom(
        '\u0000',
        '\ud800',
        '\\u0000',
        '💥',
        1e308,
        -1e-320,
        5e-324,
        2 ** 53,
        -0,
        1e21,
      ),
      fc.jsonValue(),
    );
    const field = fc.constantFrom(
      'name',
      'description',
      'banner',
      'icon',
      'pubkey',
      'contact',
      'supported_nips',
      'software',
      'version',
      'privacy_policy',
      'terms_of_service',
      'limitation',
      'fees',
      '__proto__',
      'x\u0000',
      '',
    );
    const value = fc.oneof(odd, fc.dictionary(fc.string({ unit: 'binary' }), odd), fc.array(odd));
    let stored = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.dictionary(field, value), { minLength: 10, maxLength: 10 }),
        async (all) => {
          const documents = all.flatMap((given) => {
            const parsed = parseNip11(JSON.stringify(given).replaceAll('1e+21', '1e400'));
            return parsed.ok ? [parsed.document] : [];
          });
          const rows = documents.map((document) => {
            stored += 1;
            return snapshot(relay, NOW - 100_000_000 + stored, READABLE, document);
          });
          expect(await bigbrotr.insertSnapshots(rows)).toMatchObject({ added: rows.length });
        },
      ),
      { numRuns: 15 },
    );
    expect(stored).toBeGreaterThan(100);
  });
});

describe('SnapshotWriter', () => {
  const probed = (name: string, generatedAt = NOW) =>
    ({
      relay: address(name),
      generatedAt,
      nip11: null,
      nip11Reason: null,
      nip66: READABLE,
      checks: {},
      carry: {},
    }) as never;

  test('writes a chunk when it is full, and the rest soon after', async ({
    bigbrotr,
    database,
  }) => {
    const sizes: number[] = [];
    const counting = {
      insertSnapshots: (rows: readonly SnapshotRow[]) => {
        sizes.push(rows.length);
        return bigbrotr.insertSnapshots(rows);
      },
    } as Bigbrotr;
    const writer = new SnapshotWriter(counting, 10);
    await Promise.all(Array.from({ length: 10 }, (_, index) => writer.write(probed(`w${index}`))));
    await Promise.all([writer.write(probed('x')), writer.write(probed('y'))]);
    expect(sizes).toEqual([10, 2]);
    expect(await database.query('select count(*)::int from relay_metadata')).toEqual([
      { count: 12 },
    ]);
  });

  test('rejects for each snapshot that could not be written, and continues', async ({
    bigbrotr,
    database,
  }) => {
    let broken = true;
    const failing = {
      insertSnapshots: (rows: readonly SnapshotRow[]) =>
        broken ? Promise.reject(new Error('away')) : bigbrotr.insertSnapshots(rows),
    } as Bigbrotr;
    const writer = new SnapshotWriter(failing, 2);
    const outcomes = await Promise.allSettled([
      writer.write(probed('a')),
      writer.write(probed('b')),
    ]);
    expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    broken = false;
    await Promise.all([writer.write(probed('a')), writer.write(probed('b'))]);
    expect(await database.query('select count(*)::int from relay_metadata')).toEqual([
      { count: 2 },
    ]);
  });
});
