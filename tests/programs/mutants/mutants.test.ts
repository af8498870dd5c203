import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { projectFile } from '../../processes/project.ts';
import { placesOf } from './apply.mjs';
import { MUTANTS } from './mutants.mjs';

const root = projectFile('.');

describe('seeded mistakes', () => {
  test.each(MUTANTS)('$name: fits one place of the code', (mutant) => {
    expect(placesOf(root, mutant).map(({ file }) => file)).toHaveLength(1);
    expect(mutant.replace).not.toBe(mutant.find);
  });

  test.each(MUTANTS)('$name: names tests that exist', ({ tests }) => {
    expect(tests.length).toBeGreaterThan(0);
    for (const name of tests) {
      const [project, file] = name.split(':');
      expect(existsSync(projectFile(`tests/${project}/${file}.test.ts`)), name).toBe(true);
    }
  });

  test('have different names', () => {
    const names = MUTANTS.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
  });
});

describe('placesOf', () => {
  test('finds a place in any file of the room, whatever its line breaks, quotes, comments and trailing commas', () => {
    const folder = projectOf({
      'src/sync.ts': 'export const other = 1;',
      'src/sync/paging/pager.ts': "return hole(\n  'dense', // why\n  /* how */ 0,\n);\n",
      'src/nostr/event.ts': 'return hole("dense", 0);',
    });
    const places = placesOf(folder, { in: 'sync', find: 'hole("dense", 0)', replace: 'null' });
    expect(places).toEqual([{ file: 'src/sync/paging/pager.ts', text: 'return null;\n' }]);
  });

  test('lets a wildcard stand for an operand, and for the same one wherever it is named', () => {
    const folder = projectOf({
      'src/sync.ts': 'f(this.#page.oldest, a, a); f(this.#page.oldest, a, b); f(g(), a, a);',
    });
    const places = placesOf(folder, { in: 'sync', find: 'f($x, $y, $y)', replace: '$y + $x' });
    expect(places.map(({ text }) => text)).toEqual([
      'a + this.#page.oldest; f(this.#page.oldest, a, b); f(g(), a, a);',
    ]);
  });

  test('finds each of several places, and none where the code is another', () => {
    const folder = projectOf({ 'init.sql': 'select a -- select a\nfrom b; select a from c' });
    const found = (find: string) => placesOf(folder, { in: 'init.sql', find, replace: '' }).length;
    expect([found('select a from'), found('a from c'), found('a from d')]).toEqual([2, 1, 0]);
  });
});

/** A folder with these files. */
function projectOf(files: Record<string, string>): string {
  const folder = mkdtempSync(join(tmpdir(), 'mutants-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  for (const [file, text] of Object.entries(files)) {
    mkdirSync(join(folder, file, '..'), { recursive: true });
    writeFileSync(join(folder, file), text);
  }
  return folder;
}
