/** `npm run export`, `inspect` and `import` as people run them. */
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { readManifest } from '../../src/dataset/manifest.ts';
import { signedEvents } from '../fixtures/events.ts';
import { batchOf, knownRelay } from '../postgres/bigbrotr.ts';
import { Program } from '../processes/programs.ts';
import { projectFile } from '../processes/project.ts';
import { sharedStackTest } from '../processes/stack-test.ts';

const MAY = 1_682_899_200;
const EVENTS = signedEvents(300, { from: MAY, to: MAY + 86_400 });

const test = sharedStackTest.extend(
  'run',
  ({ stack, database: _used }) =>
    async (name: string, args: readonly string[], code = 0): Promise<Program> => {
      const program = new Program(process.execPath, [projectFile(`dist/${name}.js`), ...args], {
        ...{ cwd: stack.folder, env: stack.env },
      });
      expect(await program.ended, program.said).toEqual({ code, signal: null });
      return program;
    },
);

test('a dataset is written, checked, taken in again, and refused where it is damaged', async ({
  stack,
  database,
  bigbrotr,
  run,
}) => {
  const relay = await knownRelay(bigbrotr, 'one');
  await bigbrotr.store(batchOf({ relay, filterId: await bigbrotr.filterId({}), events: EVENTS }));
  const out = join(stack.folder, 'may');
  const args = ['--out', out, '--since', '2023-05-01', '--until', '2023-06-01'];
  const exported = await run('export', args);
  expect(exported.err.at(-1)).toMatch(/^300 events, .* a second\. 300 events are in /);
  expect(readManifest(out).events.rows).toBe(300);
  expect(readFileSync(join(out, 'DATASHEET.md'), 'utf8')).toContain(
    '300 events of the Nostr network',
  );
  const again = await run('export', args, 1);
  expect(again.err.at(-1)).toMatch(/may holds a finished export: --update brings it up to date\.$/);

  const inspected = await run('inspect', [out]);
  expect(inspected.out.at(-1)).toBe('1 files, nothing is wrong.');
  await database.query('truncate events, sightings');
  const imported = await run('import', [out]);
  expect(imported.err.at(-1)).toBe('300 events are new, 0 were known, 0 set aside; refused: none');
  const verified = await run('verify', []);
  expect(verified.out.at(-1)).toMatch(/^300 events read back, 0 different/);

  rmSync(join(out, 'relays.parquet'));
  expect((await run('inspect', [out], 1)).out).toContain('relays.parquet is missing.');
  expect((await run('import', [out, '--again'], 1)).err.join('\n')).toMatch(
    /may is not imported, because its files are not those of its manifest:\n {2}- relays\.parquet is missing\./,
  );
  expect((await run('inspect', [join(out, 'nowhere')], 2)).err.at(-1)).toMatch(/does not exist\.$/);
});

test('an export that is killed goes on, and its files are those of one that was not', async ({
  stack,
  database,
  bigbrotr,
  run,
}) => {
  await database.query('truncate events, sightings, journal');
  const relay = await knownRelay(bigbrotr, 'one');
  const months = Array.from({ length: 12 }, (_, month) => Date.UTC(2022, month, 3) / 1000);
  const events = months.flatMap((at, seed) => signedEvents(20, { from: at, to: at + 1000, seed }));
  await bigbrotr.store(batchOf({ relay, filterId: await bigbrotr.filterId({}), events }));
  const [whole, killed] = ['whole', 'killed'].map((name) => join(stack.folder, name));
  if (!whole || !killed) throw new Error('two folders');
  mkdirSync(killed);
  const args = (out: string) => ['--out', out, '--format', 'jsonl'];
  const program = new Program(process.execPath, [projectFile('dist/export.js'), ...args(killed)], {
    cwd: stack.folder,
    env: { ...stack.env, BIGBROTR_CRASH_AT: 'month-exported:5' },
  });
  expect(await program.ended, program.said).toEqual({ code: null, signal: 'SIGKILL' });
  expect(existsSync(join(killed, 'manifest.json'))).toBe(false);
  const resumed = await run('export', args(killed));
  expect(resumed.err[0]).toBe('4 months are unchanged.');
  await run('export', args(whole));
  const read = (folder: string, name: string) => readFileSync(join(folder, name), 'utf8');
  expect(read(killed, 'SHA256SUMS')).toBe(read(whole, 'SHA256SUMS'));
});
