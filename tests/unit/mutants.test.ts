import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { MUTANTS } from '../mutants/mutants.mjs';
import { projectFile } from '../support/project.ts';

// The seeded mistakes are applied by a command of their own (npm run test:mutants). Code that moves on must not leave
// them behind: one that fits no longer is nothing that a test could catch.
describe.each(MUTANTS)('the seeded mistake "$name"', ({ file, find, replace, tests }) => {
  test('fits the code in one place, changes it, and has tests to notice it', () => {
    expect(readFileSync(projectFile(file), 'utf8').split(find)).toHaveLength(2);
    expect(replace).not.toBe(find);
    expect(tests.length).toBeGreaterThan(0);
    for (const name of tests) {
      const [project, test] = name.split(':');
      expect(existsSync(projectFile(`tests/${project}/${test}.test.ts`)), name).toBe(true);
    }
  });
});

test('no two of them have one name', () => {
  const names = MUTANTS.map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);
});
