import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { decompress } from 'fzstd';
import { parquetReadObjects } from 'hyparquet';
import { describe, expect } from 'vitest';
import { ArchiveReader } from '../../../src/database/archive-reader.ts';
import { exportDataset } from '../../../src/dataset/export-dataset.ts';
import { readManifest } from '../../../src/dataset/manifest.ts';
import { serializeEvent } from '../../../src/nostr/event.ts';
import {
  duckdbTest,
  filesOf,
  importInto,
  inOrder,
  inspected,
  JUNE,
  ODD,
  PLAIN,
} from '../../fixtures/dataset-test.ts';
import { countFigures } from '../../fixtures/page-archive.ts';
import { batchOf, databaseConfig, silent } from '../../postgres/bigbrotr.ts';
import { testDatabase } from '../../postgres/database.ts';

/** Another archive, empty before each test of it. */
const test = duckdbTest
  .extend('second', { scope: 'file' }, async ({ server }, { onCleanup }) => {
    const second = await testDatabase(server);
    onCleanup(() => second.drop());
    return second;
  })
  .extend('empty', async ({ second }) => {
    await second.query('truncate imports, relays, events, sightings, journal, days cascade');
    return second;
  });

const FILE = 'events/2023-05-0001.parquet';
const PARQUET = ['--format', 'parquet'];

/** What the profile can hold: UTF-8 and no empty tags. */
const [NUL, SURROGATE] = ODD as [(typeof ODD)[0], (typeof ODD)[0]];
const INSIDE = inOrder([...PLAIN, NUL]).filter(({ tags }) => tags.every((tag) => tag.length > 0));
const BESIDE = inOrder([
  SURROGATE,
  ...PLAIN.filter(({ tags }) => tags.some(({ length }) => length === 0)),
]);

test('events are in the profile, by the word of DuckDB', async ({ store, exportTo, duckdb }) => {
  await store([...PLAIN, ...ODD]);
  const { folder, manifest } = await exportTo('out', ...PARQUET);
  const file = join(folder, FILE);
  const schema = await duckdb(
    `select name, type, type_length, repetition_type, converted_type
     from parquet_schema('${file}')`,
  );
  const told = schema.slice(1).map((element) => {
    const { name, type, type_length, repetition_type, converted_type } = element;
    return [name, type, type_length, repetition_type, converted_type]
      .filter((one) => one !== null)
      .join(' ');
  });
  expect(told).toEqual([
    'id FIXED_LEN_BYTE_ARRAY 32 REQUIRED',
    'pubkey FIXED_LEN_BYTE_ARRAY 32 REQUIRED',
    'created_at INT64 REQUIRED UINT_64',
    'kind INT32 REQUIRED UINT_16',
    'tags REQUIRED LIST',
    'list REPEATED',
    'element REQUIRED LIST',
    'list REPEATED',
    'element BYTE_ARRAY REQUIRED UTF8',
    'content BYTE_ARRAY REQUIRED UTF8',
    'sig FIXED_LEN_BYTE_ARRAY 64 REQUIRED',
  ]);
  const columns = await duckdb(
    `select path_in_schema as path, compression, encodings, stats_min_value as least, stats_max_value as most, row_group_num_rows::integer as rows
     from parquet_metadata('${file}')`,
  );
  expect(columns).toHaveLength(7);
  for (const { path, compression, encodings } of columns) {
    expect(compression, String(path)).toBe('ZSTD');
    expect(String(encodings).split(', ')).toSatisfy((used: string[]) =>
      used.every((one) => ['PLAIN', 'RLE', 'RLE_DICTIONARY'].includes(one)),
    );
  }
  const may = INSIDE.filter(({ created_at }) => created_at < JUNE);
  const times = columns.find(({ path }) => path === 'created_at');
  expect([times?.least, times?.most, times?.rows]).toEqual([
    ...[String(may[0]?.created_at), String(may.at(-1)?.created_at), may.length],
  ]);
  const keys = await duckdb(
    `select decode(key) as key, decode(value) as value from parquet_kv_metadata('${file}') where decode(key) like 'nostr%'`,
  );
  expect(keys).toEqual([{ key: 'nostr.event_archive.version', value: '1' }]);
  const rows = await duckdb(
    `select lower(hex(id)) as id, lower(hex(pubkey)) as pubkey, created_at::integer as created_at, kind::integer as kind, tags, content,
            lower(hex(sig)) as sig from read_parquet('${folder}/events/*.parquet')`,
  );
  expect(rows.map((row) => serializeEvent(row as never))).toEqual(INSIDE.map(serializeEvent));
  expect(manifest.events).toMatchObject({
    rows: INSIDE.length + BESIDE.length,
    set_aside: BESIDE.length,
    quarantined: 2,
  });
});

test('events are the same by hyparquet, and the pages are of version 1', async ({
  store,
  exportTo,
}) => {
  await store([...PLAIN, ...ODD]);
  const { folder } = await exportTo('out', ...PARQUET);
  const bytes = readFileSync(join(folder, FILE));
  const compressors = {
    ZSTD: (input: Uint8Array, length: number) => decompress(input, new Uint8Array(length)),
  };
  const rows = await parquetReadObjects({
    file: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length),
    ...{ compressors, utf8: false },
  });
  const hex = (value: unknown) => Buffer.from(value as Uint8Array).toString('hex');
  const read = rows.map(({ id, pubkey, created_at, sig, ...rest }) =>
    serializeEvent({
      ...(rest as { kind: number; tags: string[][]; content: string }),
      ...{ id: hex(id), pubkey: hex(pubkey), created_at: Number(created_at), sig: hex(sig) },
    }),
  );
  expect(read).toEqual(INSIDE.filter(({ created_at }) => created_at < JUNE).map(serializeEvent));
});

test('a round trip gives the same events to the byte', async ({
  store,
  exportTo,
  folder,
  empty,
}) => {
  await store([...PLAIN, ...ODD]);
  const out = await exportTo('out', ...PARQUET);
  expect((await exportTo('again', ...PARQUET)).manifest).toEqual(out.manifest);
  expect(filesOf(join(folder, 'again'))).toEqual(filesOf(out.folder));
  expect(await inspected(out.folder)).toMatchObject({ code: 0 });
  const { code, said } = await importInto(empty, [out.folder]);
  expect([code, said.at(-1)]).toEqual([
    ...[0, `${PLAIN.length} events are new, 0 were known, 2 set aside; refused: none`],
  ]);
  const reader = await ArchiveReader.connect(databaseConfig(empty), silent);
  try {
    const back = join(folder, 'back');
    await exportDataset(reader, { ...out.options, folder: back }, () => {});
    const events = (files: Record<string, string>) =>
      Object.entries(files).filter(([name]) => /^(events|set-aside)\//.test(name));
    expect(events(filesOf(back))).toEqual(events(filesOf(out.folder)));
  } finally {
    await reader.close();
  }
});

test('observations are taken only when they are trusted, and stay apart', async ({
  store,
  exportTo,
  folder,
  empty,
  relay,
  duckdb,
}) => {
  await store(PLAIN);
  const out = await exportTo('out', ...PARQUET);
  await importInto(empty, [out.folder]);
  const counts = async () =>
    (
      await empty.query(`select (select count(*)::int from imported_sightings) as imported,
      (select count(*)::int from sightings) as own, (select count(*)::int from coverage) as coverage`)
    )[0];
  expect(await counts()).toEqual({ imported: 0, own: 0, coverage: 0 });
  const { code, said } = await importInto(empty, [out.folder], { trustObservations: true });
  expect(code).toBe(0);
  expect(said).toContain(`${PLAIN.length} observations are new, 0 refused`);
  expect(await counts()).toEqual({ imported: PLAIN.length, own: 0, coverage: 0 });
  const reader = await ArchiveReader.connect(databaseConfig(empty), silent);
  try {
    await exportDataset(reader, { ...out.options, folder: join(folder, 'back') }, () => {});
  } finally {
    await reader.close();
  }
  const observed = await duckdb(
    `select distinct relay_url, imported, seen_at::integer as seen_at from read_parquet('${folder}/back/observations/*.parquet')`,
  );
  expect(observed).toEqual([{ relay_url: relay.url, imported: true, seen_at: 1_700_000_000 }]);
});

describe('a file that is not in the profile is found and refused', () => {
  const sumsOf = (folder: string) => {
    const manifest = readManifest(folder);
    const sum = (name: string) =>
      createHash('sha256')
        .update(readFileSync(join(folder, name)))
        .digest('hex');
    for (const file of manifest.files) {
      file.sha256 = sum(file.name);
      file.bytes = readFileSync(join(folder, file.name)).length;
    }
    writeFileSync(join(folder, 'manifest.json'), JSON.stringify(manifest));
    const names = [...manifest.files.map(({ name }) => name), 'manifest.json'];
    writeFileSync(
      join(folder, 'SHA256SUMS'),
      names.map((name) => `${sum(name)}  ${name}\n`).join(''),
    );
  };
  const patch = (file: string, change: (bytes: Buffer) => Buffer) =>
    writeFileSync(file, change(readFileSync(file)));

  const CASES: readonly [string, (file: string) => void, RegExp][] = [
    [
      'another version of the profile',
      (file) =>
        patch(file, (bytes) => {
          const at = bytes.lastIndexOf('nostr.event_archive.version');
          bytes[bytes.indexOf('1', at)] = '2'.charCodeAt(0);
          return bytes;
        }),
      /its footer has nostr\.event_archive\.version = 2 where the profile has 1\./,
    ],
    [
      'a footer without the version',
      (file) =>
        patch(file, (bytes) => {
          bytes[bytes.lastIndexOf('nostr.event_archive.version')] = 'x'.charCodeAt(0);
          return bytes;
        }),
      /its footer has nostr\.event_archive\.version = nothing where the profile has 1\./,
    ],
    [
      'a footer that is damaged',
      (file) => patch(file, (bytes) => bytes.subarray(0, bytes.length - 4)),
      /its Parquet footer cannot be read \(.*\)\./,
    ],
    [
      'a page that is damaged',
      (file) =>
        patch(file, (bytes) => {
          bytes.fill(0, bytes.indexOf(Buffer.from('28b52ffd', 'hex')), 60); // where zstd begins
          return bytes;
        }),
      /its Parquet data is damaged after row 0 \(/,
    ],
  ];

  test.for(CASES)('%s', async ([, damage, sentence], { store, exportTo, empty }) => {
    await store(PLAIN);
    const { folder } = await exportTo('out', ...PARQUET);
    damage(join(folder, FILE));
    sumsOf(folder);
    const { code, found } = await inspected(folder);
    expect(code).toBe(1);
    expect(found.join('\n')).toMatch(sentence);
    await expect(importInto(empty, [folder])).rejects.toThrow(sentence);
  });

  test('other columns', async ({ folder, duckdb, empty }) => {
    const file = join(folder, 'other.parquet');
    await duckdb(`copy (select 'x' as id, 1 as kind) to '${file}' (format parquet)`);
    const { code, found } = await inspected(file);
    expect([code, found[0]]).toEqual([
      ...[
        1,
        `${file}: its schema has id BYTE_ARRAY OPTIONAL STRING where the profile has id FIXED_LEN_BYTE_ARRAY(32) REQUIRED.`,
      ],
    ]);
    await expect(importInto(empty, [file])).rejects.toThrow('where the profile has id');
  });
});

test('relays, coverage and figures are tables of their own', async ({
  store,
  exportTo,
  bigbrotr,
  relay,
  filterId,
  duckdb,
  database,
}) => {
  await bigbrotr.store(
    batchOf({
      ...{ relay, filterId, events: PLAIN },
      proven: [{ since: JUNE, until: JUNE + 99 }],
    }),
  );
  await store([]);
  await database.query(
    'insert into visits (relay_id, filter_id, wanted, started_at) values ($1, $2, int8range($3, $4), $4)',
    [relay.relayId, filterId, JUNE - 1000, JUNE + 1000],
  );
  await countFigures(bigbrotr);
  const { folder, manifest } = await exportTo('out', ...PARQUET, '--since', String(JUNE - 500));
  expect(manifest.relays).toEqual([
    {
      ...{ url: relay.url, filter: '{}', wanted_seconds: 1500, proven_seconds: 100, gaps: 2 },
      largest_gaps: [
        { since: JUNE - 500, until: JUNE },
        { since: JUNE + 100, until: JUNE + 1000 },
      ],
    },
  ]);
  const table = (name: string) => duckdb(`select * from read_parquet('${folder}/${name}.parquet')`);
  const stretches = (await table('coverage')).map(({ state, since, until, evidence }) =>
    [state, Number(since) - JUNE, Number(until) - JUNE, evidence].join(' '),
  );
  expect(stretches).toEqual(['gap -500 0 ', 'covered 0 100 paging', 'gap 100 1000 ']);
  expect(
    (await table('relays')).map(({ url, network, readable }) => [url, network, readable]),
  ).toEqual([[relay.url, 'clearnet', null]]);
  const [total] = await duckdb(
    `select sum(events)::integer as events from read_parquet('${folder}/figures/daily_kinds.parquet')`,
  );
  expect(total).toEqual({
    events: PLAIN.filter(({ created_at }) => created_at >= JUNE - 86_400).length,
  });
});
