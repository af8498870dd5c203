/**
 * Applies each seeded mistake to a copy of the working tree and runs the tests that must catch it.
 *
 *   npm run test:mutants              all of them
 *   npm run test:mutants -- timeout   those with the word in their name
 *   npm run test:mutants -- --minutes 4   as many as begin within that time, others each day
 *
 * Prints caught N of N, and exits 1 when a mistake went unnoticed or no longer fits the code.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { MUTANTS } from './mutants.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
const { values: options, positionals: wanted } = parseArgs({
  allowPositionals: true,
  options: { minutes: { type: 'string', default: 'Infinity' } },
});
const named = MUTANTS.filter(({ name }) => wanted.every((word) => name.includes(word)));
const chosen = options.minutes === 'Infinity' ? named : turned(named);
const end = performance.now() + Number(options.minutes) * 60_000;
// Not below /tmp of a private mount: PostgreSQL of the tests runs as another user and must reach init.sql.
const copy = mkdtempSync('/var/tmp/bigbrotr-mutants-');

try {
  copyTree();
  const tried = [];
  const escaped = [];
  for (const mutant of chosen) {
    if (performance.now() > end) break;
    tried.push(mutant);
    if (!isCaught(mutant)) escaped.push(mutant);
  }
  console.log(`\ncaught ${tried.length - escaped.length} of ${tried.length}`);
  if (tried.length < chosen.length)
    console.log(`not tried for want of time: ${chosen.length - tried.length}`);
  for (const { name } of escaped) console.log(`not caught: ${name}`);
  process.exitCode = escaped.length === 0 ? 0 : 1;
} finally {
  rmSync(copy, { recursive: true, force: true });
}

/** Begins at another place each day, a few files' worth further on, so that all have their turn. */
function turned(mutants) {
  const day = Math.floor(Date.now() / 86_400_000);
  const from = (day * 17) % Math.max(1, mutants.length);
  return [...mutants.slice(from), ...mutants.slice(0, from)];
}

/** What git knows of, as it is in the working tree, and the packages that are installed. */
function copyTree() {
  const files = execFileSync('git', ['ls-files', '-z'], { cwd: root, encoding: 'utf8' });
  for (const file of files.split('\0').filter((name) => name && existsSync(join(root, name)))) {
    mkdirSync(dirname(join(copy, file)), { recursive: true });
    copyFileSync(join(root, file), join(copy, file));
  }
  chmodSync(copy, 0o755);
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
}

function isCaught({ name, file, find, replace, tests }) {
  const path = join(copy, file);
  const text = readFileSync(path, 'utf8');
  if (text.split(find).length !== 2) {
    console.log(`no longer fits ${file}: ${name}`);
    return false;
  }
  writeFileSync(
    path,
    text.replace(find, () => replace),
  );
  const started = performance.now();
  const by = tests.find((test) => !passes(test));
  writeFileSync(path, text);
  const seconds = ((performance.now() - started) / 1000).toFixed(0);
  console.log(`${by ? `caught by ${by}` : 'NOT CAUGHT'} (${seconds} s): ${name}`);
  return by !== undefined;
}

function passes(test) {
  const [project, file] = test.split(':');
  const { status } = spawnSync(
    join(root, 'node_modules/.bin/vitest'),
    ['run', '--bail', '1', '--project', project, `tests/${project}/${file}.test.ts`],
    { cwd: copy, stdio: 'ignore', env: { ...process.env, CI: 'true' }, timeout: 300_000 },
  );
  return status === 0;
}
