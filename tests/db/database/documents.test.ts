import { readdirSync, readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type TestDatabase, testDatabase } from '../../postgres/database.ts';
import { projectFile } from '../../processes/project.ts';

/** Every SQL example in the documents is run, so that none of them can go stale. */
const documents = [
  'README.md',
  ...markdownIn('docs'),
  ...markdownIn('docs/decisions'),
  ...markdownIn('docs/operations'),
];

function markdownIn(folder: string): string[] {
  return readdirSync(projectFile(folder))
    .filter((name) => name.endsWith('.md'))
    .map((name) => `${folder}/${name}`);
}

/** The statements of the sql blocks of a document; blocks inside lists are indented. */
function examplesIn(document: string): string[] {
  const text = readFileSync(projectFile(document), 'utf8');
  const blocks = [...text.matchAll(/^ *```sql\n([\s\S]*?)^ *```$/gm)].map(
    ([, block = '']) => block,
  );
  return blocks.flatMap((block) => statementsIn(block));
}

function statementsIn(block: string): string[] {
  return block
    .split(/;\s*$/m)
    .map((statement) => statement.trim())
    .filter((statement) => statement.replace(/^--.*$/gm, '').trim() !== '');
}

const examples = documents.flatMap((document) =>
  examplesIn(document).map((statement) => [document, statement] as const),
);

let database: TestDatabase;

beforeAll(async () => {
  database = await testDatabase();
});

afterAll(() => database?.drop());

describe('the SQL in the documents', () => {
  test('the README has at least ten examples', () => {
    expect(examples.filter(([document]) => document === 'README.md').length).toBeGreaterThanOrEqual(
      10,
    );
  });

  test.each(examples)('%s: %s', async (_document, statement) => {
    await expect(database.query(statement)).resolves.toBeInstanceOf(Array);
  });
});
