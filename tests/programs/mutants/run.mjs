/**
 * Applies each seeded mistake to a copy of the working tree and runs the tests that must catch it.
 *
 *   npm run test:mutants              all of them
 *   npm run test:mutants -- timeout   those with the word in their name
 *   npm run test:mutants -- --in database/figures   those in that room
 *   npm run test:mutants -- --minutes 4   as many as begin within that time, others each day
 *
 * A test that caught one runs once more without any mistake: one that fails then has caught nothing. Prints caught N of
 * N, and exits 1 when a mistake went unnoticed or no longer fits the code.
 */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  cpSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { placesOf } from './apply.mjs';
import { MUTANTS } from './mutants.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '../../..');
const { values: options, positionals: wanted } = parseArgs({
  allowPositionals: true,
  options: {
    minutes: { type: 'string', default: 'Infinity' },
    in: { type: 'string', default: '' },
  },
});
const named = MUTANTS.filter(
  ({ name, in: room }) =>
    room.startsWith(options.in) && wanted.every((word) => name.includes(word)),
);
const chosen = options.minutes === 'Infinity' ? named : turned(named);
const end = performance.now() + Number(options.minutes) * 60_000;
// Not below /tmp of a private mount: PostgreSQL of the tests runs as another user and must reach init.sql.
const copy = mkdtempSync('/var/tmp/bigbrotr-mutants-');

const soundTests = new Map();

process.on('exit', () => rmSync(copy, { recursive: true, force: true }));
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

/** Begins at another place each day, a few files' worth further on, so that all have their turn. */
function turned(mutants) {
  const day = Math.floor(Date.now() / 86_400_000);
  const from = (day * 17) % Math.max(1, mutants.length);
  return [...mutants.slice(from), ...mutants.slice(0, from)];
}

/** The working tree without what is made from it, and the packages that are installed. */
function copyTree() {
  const made = /^(\.git|node_modules|data|secrets|dist(-\w+)?)$/;
  cpSync(root, copy, { recursive: true, filter: (path) => !made.test(basename(path)) });
  chmodSync(copy, 0o755);
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
  if (!build()) throw new Error('the project cannot be built');
}

/** Some tests run the services as processes, from dist/. @returns whether there is one now */
function build() {
  return (
    spawnSync('npm', ['run', '--silent', 'build'], { cwd: copy, stdio: 'inherit' }).status === 0
  );
}

/** Whether a test passes without any mistake: one that does not catches nothing, and what it said is shown. */
function isSound(test) {
  if (!soundTests.has(test)) soundTests.set(test, passesAlone(test) || passesAlone(test));
  return soundTests.get(test);
}

function passesAlone(test) {
  const { isPassed, said } = run(test);
  if (!isPassed) console.log(said.split('\n').slice(-60).join('\n'));
  return isPassed;
}

function isCaught(mutant) {
  const { name, tests } = mutant;
  const places = placesOf(copy, mutant);
  if (places.length !== 1) {
    console.log(`fits ${places.length} places of ${mutant.in}, not one: ${name}`);
    return false;
  }
  const [{ file, text: mistaken }] = places;
  const path = join(copy, file);
  const text = readFileSync(path, 'utf8');
  const runsServices = tests.some((test) => !/^(unit|fuzz|db):/.test(test));
  const started = performance.now();
  writeFileSync(path, mistaken);
  const isBuilt = !runsServices || build();
  const failing = isBuilt ? tests.find((test) => !run(test).isPassed) : undefined;
  writeFileSync(path, text);
  if (runsServices) build();
  const by = failing !== undefined && isSound(failing) ? failing : undefined;
  const seconds = ((performance.now() - started) / 1000).toFixed(0);
  const how = isBuilt
    ? failing
      ? `${failing} FAILS WITHOUT IT`
      : 'NOT CAUGHT'
    : 'CANNOT BE BUILT';
  console.log(`${by ? `caught by ${by}` : how} (${seconds} s): ${name}`);
  return by !== undefined;
}

/** Into a file, not a pipe: what a test leaves running would hold a pipe open. */
function run(test) {
  const [project, file] = test.split(':');
  const output = join(copy, 'said.log');
  const said = openSync(output, 'w');
  const { status } = spawnSync(
    join(root, 'node_modules/.bin/vitest'),
    [
      'run',
      '--retry',
      '0',
      '--bail',
      '1',
      '--project',
      project,
      `tests/${project}/${file}.test.ts`,
    ],
    {
      cwd: copy,
      stdio: ['ignore', said, said],
      env: { ...process.env, CI: '' }, // in CI each run would begin to install the foreign relay into the copy
      timeout: 300_000,
    },
  );
  closeSync(said);
  return { isPassed: status === 0, said: readFileSync(output, 'utf8') };
}
