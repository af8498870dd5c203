import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { projectFile } from '../../processes/project.ts';

/** Migrations are left out: they are not edited, and what they name may have moved since. */
const FILES = [
  ...['init.sql', 'pgbouncer.ini', 'dockerfiles/postgres/roles.sql', 'docs/queries.md'],
  'docs/code-map.md',
  ...readdirSync(projectFile('src/database')).map((name) => `src/database/${name}`),
].filter((file) => /\.\w+$/.test(file));

test('every file that the SQL, its documentation and src/database name exists', () => {
  const named = FILES.flatMap((file) => {
    const text = readFileSync(projectFile(file), 'utf8');
    return [
      ...text.matchAll(/\b(?:src|docs|tests|dockerfiles)\/[\w./-]*\.(?:ts|sql|md|ini)\b/g),
    ].map(([path]) => ({ file, path }));
  });
  expect(named.length).toBeGreaterThan(3);
  expect(named.filter(({ path }) => !existsSync(projectFile(path)))).toEqual([]);
});

test('the contents of init.sql name its sections, in their order', () => {
  const text = readFileSync(projectFile('init.sql'), 'utf8');
  const [, contents = ''] = /^-- Contents,.*\n((?:--.*\n)+)/m.exec(text) ?? [];
  const listed = [...contents.matchAll(/^-- {3}(\S.*?) {2,}/gm)].map(([, title]) => title);
  const sections = [...text.matchAll(/^-- -{20,}\n-- ([^:.\n(]*\w)/gm)].map(([, title]) => title);
  expect(sections.length).toBeGreaterThan(10);
  expect(listed).toEqual([...sections, 'Last']);
  expect(text).toMatch(/^-- Last, /m);
});
