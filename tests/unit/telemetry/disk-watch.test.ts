import { pino } from 'pino';
import { expect, test } from 'vitest';
import { DiskWatch } from '../../../src/telemetry/disk-watch.ts';

const MIB = 1024 * 1024;

type Line = { readonly level: number; readonly msg: string; readonly freeMib: number };

function watched(free: (path: string) => Promise<number>) {
  const lines: Line[] = [];
  const log = pino({ level: 'info' }, { write: (line) => void lines.push(JSON.parse(line)) });
  return { lines, watch: new DiskWatch('/data/postgres', log, free) };
}

test('warns once before the disk is full, names it when it is, and says when there is space again', async () => {
  const frees = [5000, 2047, 1000, 2500, 63, 10, 500, 2500, 3073, 2500];
  const { lines, watch } = watched(async () => (frees.shift() ?? 0) * MIB);
  while (frees.length > 0) await watch.look();
  expect(lines.map(({ level, freeMib }) => [level, freeMib])).toEqual([
    [40, 2047],
    [50, 63],
    [40, 500],
    [30, 500],
    [30, 3073],
  ]);
  expect(lines[0]?.msg).toMatch(
    /^the disk that holds \/data\/postgres is getting full \(2,047 MiB are free\): free space/,
  );
  expect(lines[1]?.msg).toMatch(
    /^the disk that holds \/data\/postgres is full \(63 MiB are free\): free space on it/,
  );
});

test('shows in /health how much is free, and what to do while it is low', async () => {
  const frees = [5000, 1000];
  const { watch } = watched(async () => (frees.shift() ?? 0) * MIB);
  expect(watch.shown).toEqual({});
  await watch.look();
  expect(watch.shown).toEqual({ disk: 'enough', diskFreeBytes: 5000 * MIB });
  await watch.look();
  expect(watch.shown).toEqual({
    ...{ disk: 'low', diskFreeBytes: 1000 * MIB },
    diskReason: expect.stringMatching(/is getting full \(1,000 MiB are free\): free space on it/),
  });
});

test('says nothing of a disk that cannot be looked at', async () => {
  const { lines, watch } = watched(() => Promise.reject(new Error('ENOENT')));
  await watch.look();
  expect(lines).toEqual([]);
  expect(watch.shown).toEqual({});
});
