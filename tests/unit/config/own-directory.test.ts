import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { mountSmallDisk } from '../../postgres/small-disk.ts';
import { ownDirectory } from '../../processes/directory.ts';

const directory = ownDirectory();
const { pid } = spawnSync(process.execPath, ['--version']);
const left = join(dirname(directory), `bigbrotr-test-${pid}`);
const disk = mountSmallDisk(join(left, 'disk'), 1);
if (typeof disk === 'string') console.info(`no disk is left behind: ${disk}`);

afterAll(() => {
  if (typeof disk !== 'string') disk.remove();
  for (const path of [left, directory]) rmSync(path, { recursive: true, force: true });
});

test('directories and mounts of a killed test are removed', () => {
  mkdirSync(join(left, 'disk'), { recursive: true });
  writeFileSync(join(left, 'disk', 'file'), 'some data');
  expect(ownDirectory()).toBe(directory);
  expect(existsSync(left)).toBe(false);
});
