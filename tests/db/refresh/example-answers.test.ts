import { readFileSync } from 'node:fs';
import { expect } from 'vitest';
import { Refreshing } from '../../../src/refresh/refreshing.ts';
import { fillExampleArchive } from '../../fixtures/example-archive.ts';
import { silent } from '../../postgres/bigbrotr.ts';
import { archiveTest } from '../../postgres/fixtures.ts';
import { projectFile } from '../../processes/project.ts';

/** Every question of docs/figures.md with its answer: `a | b` lines, the first with the names of the columns. */
const EXAMPLES = [
  ...readFileSync(projectFile('docs/figures.md'), 'utf8').matchAll(
    /^```sql\n([\s\S]*?);\n```\n\n```text\n([\s\S]*?)\n```$/gm,
  ),
].map(([, sql = '', answer = '']) => ({ sql, answer }));

const NO_METRICS = { count: () => {}, figuresWaiting: () => {}, journalLag: () => {} };

const test = archiveTest.extend('example', async ({ bigbrotr, database }) => {
  await database.query(
    "insert into journal_readers (name) values ('refresher') on conflict do nothing",
  );
  await fillExampleArchive(bigbrotr);
  for (const [month, limitation] of [
    ['2025-09', { payment_required: true }],
    ['2025-10', { auth_required: true }],
  ] as const)
    await database.query(
      `select insert_relay_metadata('wss://one.example.com', 'clearnet',
         extract(epoch from ($1 || '-05')::timestamp)::bigint, jsonb_build_object('limitation', $2::jsonb), null)`,
      [month, JSON.stringify(limitation)],
    );
  const service = {
    ...{ bigbrotr, log: silent, signal: new AbortController().signal, metrics: NO_METRICS },
    ...{ detail: () => {}, logRepeated: () => {}, noteStored: () => {}, setBusy: () => {} },
  };
  await new Refreshing(service, 1).finish('all');
  return async (sql: string) => {
    const rows = await database.query<Record<string, unknown>>(sql);
    const lines = rows.map((row) => Object.values(row).map(textOf).join(' | '));
    return [Object.keys(rows[0] ?? {}).join(' | '), ...lines].join('\n');
  };
});

/** Dates come as local midnights, and have no time of their own. */
function textOf(value: unknown): string {
  if (!(value instanceof Date)) return `${value}`;
  const part = (number: number) => `${number}`.padStart(2, '0');
  return `${value.getFullYear()}-${part(value.getMonth() + 1)}-${part(value.getDate())}`;
}

test('every question in docs/figures.md gets the answer that stands there', async ({ example }) => {
  expect(EXAMPLES.length).toBeGreaterThanOrEqual(14);
  for (const { sql, answer } of EXAMPLES) expect(await example(sql), sql).toBe(answer);
});
