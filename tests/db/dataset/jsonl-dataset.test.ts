import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { describe, expect } from 'vitest';
import { ArchiveReader } from '../../../src/database/archive-reader.ts';
import { DatasetError } from '../../../src/dataset/dataset-error.ts';
import { exportDataset } from '../../../src/dataset/export-dataset.ts';
import { readManifest } from '../../../src/dataset/manifest.ts';
import { serializeEvent } from '../../../src/nostr/event.ts';
import {
  datasetTest,
  filesOf,
  importInto,
  inOrder,
  inspected,
  JUNE,
  MAY,
  ODD,
  PLAIN,
} from '../../fixtures/dataset-test.ts';
import { type Keys, makeKeys, signedEvent } from '../../fixtures/events.ts';
import { databaseConfig, silent } from '../../postgres/bigbrotr.ts';
import { testDatabase } from '../../postgres/database.ts';

const ALL = inOrder([...PLAIN, ...ODD]);
const text = (events: typeof ALL) => events.map((event) => `${serializeEvent(event)}\n`).join('');

/** Another archive, empty before each test of it. */
const test = datasetTest
  .extend('second', { scope: 'file' }, async ({ server }, { onCleanup }) => {
    const second = await testDatabase(server);
    onCleanup(() => second.drop());
    return second;
  })
  .extend('empty', async ({ second }) => {
    await second.query('truncate imports, events, sightings, journal, days cascade');
    return second;
  });

describe('an export', () => {
  test('has the events of each month in order, those of the quarantine among them', async ({
    store,
    exportTo,
  }) => {
    await store([...PLAIN, ...ODD]);
    const { folder, manifest } = await exportTo('out', '--format', 'jsonl');
    const may = ALL.filter(({ created_at }) => created_at < JUNE);
    const june = ALL.filter(({ created_at }) => created_at >= JUNE);
    expect(readFileSync(join(folder, 'events/2023-05-0001.jsonl'), 'utf8')).toBe(text(may));
    expect(readFileSync(join(folder, 'events/2023-06-0001.jsonl'), 'utf8')).toBe(text(june));
    expect(manifest.events).toMatchObject({ rows: ALL.length, quarantined: 2, set_aside: 0 });
    expect(manifest.files.map(({ name, rows }) => [name, rows])).toEqual([
      ['DATASHEET.md', 0],
      ['events/2023-05-0001.jsonl', may.length],
      ['events/2023-06-0001.jsonl', june.length],
    ]);
    expect(readManifest(folder)).toEqual(manifest);
    execFileSync('sha256sum', ['-c', '--strict', '--quiet', 'SHA256SUMS'], { cwd: folder });
  });

  test('takes a window and a filter, and leaves out what its authors asked to delete', async ({
    store,
    exportTo,
  }) => {
    const [ours, gone] = makeKeys(2, 7) as [Keys, Keys];
    const at = (created_at: number, more = {}) =>
      signedEvent({ created_at, secretKey: ours.secretKey, ...more });
    const [kept, deleted, late] = [at(JUNE), at(JUNE + 1), at(JUNE + 9)];
    const named = at(JUNE + 2, { kind: 30_023, tags: [['d', 'x']] });
    const request = at(JUNE + 5, {
      kind: 5,
      tags: [
        ['e', deleted.id],
        ['a', `30023:${kept.pubkey}:x`],
      ],
    });
    // Somebody else cannot delete it.
    const other = signedEvent({ created_at: JUNE + 5, kind: 5, tags: [['e', kept.id]] });
    const vanished = [0, 6].map((after) =>
      signedEvent({ created_at: JUNE + after, secretKey: gone.secretKey, content: `${after}` }),
    );
    const vanish = signedEvent({
      ...{ created_at: JUNE + 3, kind: 62, secretKey: gone.secretKey },
      tags: [['relay', 'ALL_RELAYS']],
    });
    await store([kept, deleted, late, named, request, other, vanish, ...vanished]);
    const window = ['--since', String(JUNE), '--until', String(JUNE + 9), '--format', 'jsonl'];
    const { folder, manifest } = await exportTo('out', ...window, '--respect-deletions');
    const lines = readFileSync(join(folder, 'events/2023-06-0001.jsonl'), 'utf8')
      .trim()
      .split('\n');
    expect(lines.map((line) => JSON.parse(line).id)).toEqual(
      inOrder([kept, request, other, vanish, ...vanished.slice(1)]).map(({ id }) => id),
    );
    expect(manifest.left_out).toMatchObject({ deleted: 2, vanished: 1, excluded_authors: 0 });
    const filtered = await exportTo('five', ...window, '--filter', '{"kinds":[5]}');
    expect(filtered.manifest.events.kinds).toEqual({ 5: 2 });
    writeFileSync(join(folder, '..', 'authors'), `# us\n${kept.pubkey}\n`);
    const others = await exportTo('others', '--exclude-authors', join(folder, '..', 'authors'));
    expect(others.manifest).toMatchObject({
      events: { rows: 4 },
      left_out: { excluded_authors: 5 },
    });
  });

  test('writes the same bytes again, goes on where it was broken off, and is brought up to date', async ({
    store,
    exportTo,
    database,
  }) => {
    await store([...PLAIN, ...ODD]);
    const { folder } = await exportTo('out', '--relays', '--coverage', '--observations');
    const first = filesOf(folder);
    expect(
      filesOf((await exportTo('other', '--relays', '--coverage', '--observations')).folder),
    ).toEqual(first);
    await expect(exportTo('out', '--relays', '--coverage', '--observations')).rejects.toThrow(
      'out holds a finished export: --update brings it up to date.',
    );
    await expect(exportTo('out', '--relays')).rejects.toThrow('with other options');
    // As one that was killed after May.
    for (const name of [
      'manifest.json',
      'SHA256SUMS',
      'DATASHEET.md',
      'events/2023-06-0001.jsonl.gz',
    ])
      rmSync(join(folder, name));
    writeFileSync(join(folder, 'events/2023-06-0001.jsonl.gz.part'), 'half');
    const resumed = await exportTo('out', '--relays', '--coverage', '--observations');
    expect(resumed.said[0]).toBe('1 months are unchanged.');
    expect(filesOf(folder)).toEqual(first);
    // One more event in June.
    await store([signedEvent({ created_at: JUNE + 5000 })]);
    const updated = await exportTo('out', '--relays', '--coverage', '--observations', '--update');
    expect(updated.said[0]).toBe('1 months are unchanged.');
    expect(updated.manifest.events.rows).toBe(ALL.length + 1);
    const [before, after] = [first, filesOf(folder)].map(
      (files) => files['events/2023-05-0001.jsonl.gz'],
    );
    expect(after).toBe(before);
    expect(
      filesOf((await exportTo('third', '--relays', '--coverage', '--observations')).folder),
    ).toEqual(filesOf(folder));
    // Without the journal nobody knows what changed.
    await database.query('truncate journal');
    const blind = await exportTo('out', '--relays', '--coverage', '--observations', '--update');
    expect(blind.said[0]).toMatch(/^2 months are written again/);
  });
});

describe.each(['jsonl', 'jsonl.gz', 'jsonl.zst'])('a round trip by %s', (format) => {
  test('gives the same events to the byte', async ({ store, exportTo, folder, empty }) => {
    await store([...PLAIN, ...ODD]);
    const out = await exportTo('out', '--format', format);
    expect(await inspected(out.folder)).toMatchObject({ code: 0 });
    const imported = await importInto(empty, [out.folder]);
    expect(imported).toMatchObject({ code: 0 });
    expect(imported.said.at(-1)).toBe(
      `${PLAIN.length} events are new, 0 were known, 2 set aside; refused: none`,
    );
    const reader = await ArchiveReader.connect(databaseConfig(empty), silent);
    try {
      const back = join(folder, 'back');
      await exportDataset(reader, { ...out.options, folder: back }, () => {});
      const events = (files: Record<string, string>) =>
        Object.entries(files).filter(([name]) => name.startsWith('events/'));
      expect(events(filesOf(back))).toEqual(events(filesOf(out.folder)));
    } finally {
      await reader.close();
    }
    const [tables] = await empty.query(
      `select (select count(*)::int from coverage) as coverage, (select count(*)::int from sightings) as sightings,
              (select count(*)::int from imports where ended_at is not null) as imports`,
    );
    expect(tables).toEqual({ coverage: 0, sightings: 0, imports: 2 });
    const again = await importInto(empty, [out.folder], { again: true });
    expect(again.said.at(-1)).toBe(
      `0 events are new, ${ALL.length} were known, 0 set aside; refused: none`,
    );
  });
});

describe('a file', () => {
  test('is imported but for its bad lines, which are named', async ({ folder, empty }) => {
    const [one, two] = PLAIN as [(typeof PLAIN)[0], (typeof PLAIN)[0]];
    const file = join(folder, 'mixed.jsonl.gz');
    const forged = { ...two, sig: '0'.repeat(128) };
    const lines = [
      Buffer.from(`${JSON.stringify({ ...one, fried: 'ab' })}\n\n{"id":\n`),
      Buffer.from(`${JSON.stringify(forged)}\n`),
      Buffer.from([0x22, 0xff, 0x22, 0x0a]),
      Buffer.from(`${JSON.stringify({ ...one, content: 'changed' })}\n${JSON.stringify(two)}`),
    ];
    writeFileSync(file, gzipSync(Buffer.concat(lines)));
    const bad = ['3: invalid_json', '4: bad_signature', '5: invalid_utf8', '6: id_mismatch'];
    const { code, said } = await importInto(empty, [file]);
    expect(code).toBe(1);
    expect([...said.slice(0, -1)].sort()).toEqual(bad.map((line) => `${file}:${line}`));
    expect(said.at(-1)).toMatch(/^2 events are new, 0 were known, 0 set aside; refused: /);
    const [row] = await empty.query(
      'select source, records::int, refused, sha256 is not null as summed from imports',
    );
    expect(row).toEqual({
      ...{ source: file, records: 7, summed: true },
      refused: { invalid_json: 1, bad_signature: 1, invalid_utf8: 1, id_mismatch: 1 },
    });
    expect((await importInto(empty, [file])).said[0]).toMatch(/was imported before/);
    // One that was broken off after its first line goes on there.
    await empty.query('update imports set ended_at = null, records = 6');
    expect((await importInto(empty, [file])).said).toEqual([
      `${file} goes on after 6 records.`,
      '0 events are new, 1 were known, 0 set aside; refused: none',
    ]);
    const found = await inspected(file);
    expect(found.code).toBe(1);
    expect(found.found.at(-1)).toBe(
      '1 files, wrong: 1 invalid_json, 1 bad_signature, 1 invalid_utf8, 1 id_mismatch.',
    );
  });
});

describe('a damaged dataset is found and refused', () => {
  const MAY_FILE = 'events/2023-05-0001.jsonl.gz';

  const rewrite = (path: string, change: (lines: string[]) => string[]) => {
    const lines = gunzipSync(readFileSync(path)).toString().split('\n').slice(0, -1);
    writeFileSync(path, gzipSync(`${change(lines).join('\n')}\n`));
  };
  /** Makes manifest and sums fit the files, as a forger would. */
  const forge = (folder: string) => {
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

  const CASES: readonly [string, (folder: string) => void, RegExp][] = [
    [
      'a flipped byte',
      (folder) => {
        const bytes = readFileSync(join(folder, MAY_FILE));
        bytes[100] = (bytes[100] ?? 0) ^ 1;
        writeFileSync(join(folder, MAY_FILE), bytes);
      },
      /2023-05-0001.jsonl.gz is damaged: its SHA-256 is not the one of the manifest\./,
    ],
    [
      'a cut file',
      (folder) => truncateSync(join(folder, MAY_FILE), 1000),
      /has 1000 bytes where the manifest says \d+: it is cut off\./,
    ],
    [
      'a missing file',
      (folder) => rmSync(join(folder, MAY_FILE)),
      /events\/2023-05-0001.jsonl.gz is missing\./,
    ],
    [
      'a wrong checksum',
      (folder) => {
        const path = join(folder, 'SHA256SUMS');
        writeFileSync(
          path,
          readFileSync(path, 'utf8').replace(/^.{64}(?= {2}events)/m, '0'.repeat(64)),
        );
      },
      /SHA256SUMS has another checksum for events\/2023-05-0001.jsonl.gz than the manifest\./,
    ],
    [
      'a forged event',
      (folder) => {
        rewrite(join(folder, MAY_FILE), ([first = '', ...rest]) => [
          first.replace(/"sig":"[0-9a-f]{4}/, '"sig":"0000'),
          ...rest,
        ]);
        forge(folder);
      },
      /2023-05-0001.jsonl.gz:1: (bad_signature|the signature of event [0-9a-f]{64} is invalid)/,
    ],
    [
      'an unsorted file',
      (folder) => {
        rewrite(join(folder, MAY_FILE), ([first = '', second = '', ...rest]) => [
          second,
          first,
          ...rest,
        ]);
        forge(folder);
      },
      /2023-05-0001.jsonl.gz:2: the file is not sorted by created_at and id/,
    ],
    [
      'an event that is missing',
      (folder) => {
        rewrite(join(folder, MAY_FILE), (lines) => lines.slice(1));
        forge(folder);
      },
      /2023-05-0001.jsonl.gz has rows \d+ where the manifest says \d+\./,
    ],
  ];

  test.for(CASES)('%s', async ([, damage, sentence], { store, exportTo, empty }) => {
    await store(PLAIN);
    const { folder } = await exportTo('out');
    damage(folder);
    const { code, found } = await inspected(folder);
    expect(code).toBe(1);
    expect(found.join('\n')).toMatch(sentence);
    const imported = await importInto(empty, [folder]).catch((error: unknown) => {
      expect(error).toBeInstanceOf(DatasetError);
      return { code: 1, said: [(error as Error).message] };
    });
    expect(imported.code).toBe(1);
    expect(imported.said.join('\n')).toMatch(sentence);
    expect(existsSync(join(folder, 'manifest.json'))).toBe(true);
  });
});

test('a time before every event gives an empty dataset', async ({ store, exportTo }) => {
  await store(PLAIN);
  const { folder, manifest } = await exportTo('out', '--until', String(MAY));
  expect(manifest.events).toMatchObject({ rows: 0, first_created_at: null });
  expect((await inspected(folder)).code).toBe(0);
});
