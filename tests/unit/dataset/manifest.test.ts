import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseExportOptions } from '../../../src/dataset/export-options.ts';
import { parseImportOptions, parseInspectPath } from '../../../src/dataset/import-options.ts';
import { manifestJsonSchema, readManifest } from '../../../src/dataset/manifest.ts';
import { byMonth, monthOfDay, parseTime } from '../../../src/dataset/months.ts';
import { projectFile } from '../../processes/project.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'bigbrotr-manifest-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

test('the JSON Schema of the manifest is published as it is', () => {
  const published = readFileSync(projectFile('docs/dataset-manifest.schema.json'), 'utf8');
  expect(JSON.parse(published)).toEqual(manifestJsonSchema());
});

describe('a manifest is refused', () => {
  test.for([
    [null, /has no manifest\.json: it is no dataset, or its export did not end\./],
    ['{', /manifest\.json cannot be read: /],
    ['{"version":2}', /has version 2, and this program knows 1: use a newer Bigbrotr\./],
    ['{"version":1}', /is no manifest of a dataset: /],
  ] as const)('%s', ([text, sentence]) => {
    if (text !== null) writeFileSync(join(folder, 'manifest.json'), text);
    expect(() => readManifest(folder)).toThrow(sentence);
  });
});

test('months begin and end with their days', () => {
  const day = (text: string) => Date.parse(text) / 86_400_000;
  expect(monthOfDay(day('2024-02-29'))).toEqual({
    ...{ name: '2024-02', firstDay: day('2024-02-01'), endDay: day('2024-03-01') },
  });
  expect(monthOfDay(0).name).toBe('1970-01');
  expect(monthOfDay(Math.floor((2 ** 39 - 1) / 86_400)).name).toBe('19391-01');
  expect([...byMonth([0, 30, 31])]).toEqual([
    ['1970-01', [0, 30]],
    ['1970-02', [31]],
  ]);
});

test.each([
  ['1683000000', 1_683_000_000],
  ['2023-05-01', 1_682_899_200],
  ['2023-05-01T00:00:10Z', 1_682_899_210],
  ['2023-05-01T00:00', null],
  ['yesterday', null],
  ['2023-13-01', null],
])('the time %s is %s', (text, seconds) => {
  expect(parseTime(text)).toBe(seconds);
});

describe('arguments', () => {
  const problem = (work: () => unknown): string => {
    try {
      work();
    } catch (error) {
      return (error as Error).message;
    }
    return '';
  };

  test.each([
    [[], '--out names no folder'],
    [
      ['--out', 'x', '--format', 'csv'],
      '--format is csv: it takes parquet, jsonl, jsonl.gz, jsonl.zst',
    ],
    [['--out', 'x', '--since', '2', '--until', '2'], '--since is not before --until'],
    [['--out', 'x', '--until', 'soon'], '--until is soon: it takes Unix seconds'],
    [['--out', 'x', '--filter', '{'], '--filter is no JSON'],
    [['--out', 'x', '--filter', '{"authors":["a"]}'], 'authors.0: takes 64 hex digits each'],
    [['--out', 'x', '--filter', '{"search":["a"]}'], 'it cannot have search'],
    [['--out', 'x', '--everything'], "Unknown option '--everything'"],
  ])('of export: %j', (args, sentence) => {
    expect(problem(() => parseExportOptions(args))).toContain(sentence);
  });

  test('of import and inspect', () => {
    expect(problem(() => parseImportOptions([]))).toContain('no file is named');
    expect(problem(() => parseImportOptions(['x', '--trust']))).toContain(
      "Unknown option '--trust'",
    );
    expect(parseImportOptions(['-', '--again'])).toEqual({
      ...{ paths: ['-'], again: true, trustObservations: false },
    });
    expect(problem(() => parseInspectPath(['a', 'b']))).toContain('name one file or folder');
    expect(parseInspectPath(['-'])).toBe('-');
  });
});
