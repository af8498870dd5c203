import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import type { Database, Query } from '../../../src/database/connection.ts';
import { tableGroups } from '../../../src/database/table-groups.ts';
import { projectFile } from '../../processes/project.ts';

const SQL =
  /[`'"]\s*(select|insert into|update \w+|delete from|with (recursive )?\w+ as|truncate|create)\b/i;

/** TypeScript files below a folder of src, by their path. */
function sources(folder: string): string[] {
  return readdirSync(projectFile(folder), { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => `${entry.parentPath}/${entry.name}`);
}

describe('SQL', () => {
  test('occurs only in src/database, and where databases and logins of the embedded server are made', () => {
    const others = /\/src\/(database\/|local\/postgres\.ts$)/;
    const files = sources('src').filter((path) => !others.test(path));
    expect(files.length).toBeGreaterThan(50);
    expect(files.filter((path) => SQL.test(readFileSync(path, 'utf8')))).toEqual([]);
  });

  test('occurs in the files of the table groups, not in Bigbrotr or its composition', () => {
    const holdsSql = (name: string) =>
      SQL.test(readFileSync(projectFile(`src/database/${name}.ts`), 'utf8'));
    expect(['batch', 'visits', 'withheld', 'finder'].filter(holdsSql)).toHaveLength(4);
    expect(['bigbrotr', 'archive-reader', 'table-groups'].filter(holdsSql)).toEqual([]);
  });
});

test('functions of a group get the query of the pool, those that write several tables the query of a transaction', async () => {
  const log: string[] = [];
  const through =
    (name: string): Query =>
    async (text) => {
      log.push(`${name}: ${text.trim().split(/\s+/, 2).join(' ')}`);
      return { rows: [], rowCount: 0 } as never;
    };
  const database = {
    query: through('pool'),
    queryWithin: (ms: number) => through(`within ${ms} ms`),
    transaction: (work: (query: Query) => Promise<unknown>) => work(through('transaction')),
  } as unknown as Database;
  const groups = tableGroups(database);
  await groups.claims.renew([{ work: 'visit', key: 1, token: 1 }], 60, 20);
  await groups.claims.forgetOld();
  await groups.filterParts.record({ relayId: 1 } as never, 2);
  expect(log).toEqual([
    'within 20 ms: update claims',
    'pool: delete from',
    'transaction: select record_parts_coverage($1,',
  ]);
});
