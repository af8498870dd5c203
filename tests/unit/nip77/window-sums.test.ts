import { hash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import {
  LocalSetBuilder,
  RECORD_BYTES,
  timeBound,
  writeTime,
} from '../../../src/nip77/local-set.ts';
import { fingerprint } from '../../../src/nip77/message.ts';
import { MAX_PARTS, type WindowPart, WindowSums } from '../../../src/nip77/window-sums.ts';

const FROM = 1_700_000_000;
/** A chunk of the archive. */
const CHUNK = 1000;

/** Records of 40 bytes: `perSecond` to a second, in another order within it than that of their ids. */
function records(count: number, perSecond: number): Buffer {
  const all = Buffer.alloc(count * RECORD_BYTES);
  for (let at = 0; at < count; at += 1) {
    writeTime(all, at * RECORD_BYTES, FROM + Math.floor(at / perSecond));
    hash('sha256', `id ${at}`, 'buffer').copy(all, at * RECORD_BYTES + 8);
  }
  return all;
}

function add(sums: WindowSums, all: Buffer): boolean {
  for (let at = 0; at < all.length; at += CHUNK * RECORD_BYTES)
    if (!sums.addRecords(all.subarray(at, at + CHUNK * RECORD_BYTES))) return false;
  return true;
}

/** The fingerprints of the same parts, of a set that is held as a whole. */
function expected(all: Buffer, parts: readonly WindowPart[]) {
  const builder = new LocalSetBuilder(all.length / RECORD_BYTES);
  builder.addRecords(all);
  const set = builder.build();
  const from = (since: number) => set.indexOf(timeBound(since));
  return parts.map(({ since }, at) => {
    const begin = at === 0 ? 0 : from(since);
    const end = at + 1 < parts.length ? from(parts[at + 1]?.since ?? 0) : set.size;
    return {
      since,
      ids: end - begin,
      fingerprint: fingerprint(set.sumWords(begin, end), end - begin),
    };
  });
}

describe('fingerprints of a window', () => {
  test.for([
    [0, 1],
    [1, 1],
    [300, 1],
    [50_000, 1],
    [50_000, 7],
    [50_000, 40_000],
  ] as const)('%i ids, %i a second: each part has that of its ids', ([count, perSecond]) => {
    const all = records(count, perSecond);
    const sums = new WindowSums(FROM, 0);
    expect(add(sums, all)).toBe(true);
    const parts = sums.build();
    expect(parts.length).toBeLessThanOrEqual(MAX_PARTS);
    expect(parts).toEqual(expected(all, parts));
    expect(parts[0]?.since).toBe(FROM);
    // Parts are of about the same size, but for what is in one second.
    const most = Math.max(512, perSecond, (4 * count) / MAX_PARTS + perSecond);
    expect(Math.max(...parts.map(({ ids }) => ids))).toBeLessThanOrEqual(most);
  });

  test('ids out of the order of time are counted in their parts, up to a limit', () => {
    const all = records(20_000, 2);
    const late = all.subarray(4000 * RECORD_BYTES, 4010 * RECORD_BYTES);
    const ordered = Buffer.concat([
      all.subarray(0, 4000 * RECORD_BYTES),
      all.subarray(4010 * RECORD_BYTES),
    ]);
    const sums = new WindowSums(FROM, 10);
    expect(add(sums, ordered)).toBe(true);
    expect(sums.addRecords(late)).toBe(true);
    const parts = sums.build();
    expect(parts.length).toBeGreaterThan(1);
    expect(parts).toEqual(expected(all, parts));
    const strict = new WindowSums(FROM, 9);
    add(strict, ordered);
    expect(strict.addRecords(late)).toBe(false);
  });

  test('no part begins where an id with an unknown time may lie before or after it', () => {
    const all = records(20_000, 1);
    const unplaced = { id: 'ab'.repeat(32), since: FROM + 3000, until: FROM + 9000 };
    const sums = new WindowSums(FROM, 10);
    add(sums, all);
    expect(sums.addUnplaced(unplaced)).toBe(true);
    const parts = sums.build();
    expect(parts.length).toBeGreaterThan(2);
    expect(parts.filter(({ since }) => since > unplaced.since && since <= unplaced.until)).toEqual(
      [],
    );
    expect(parts.reduce((sum, { ids }) => sum + ids, 0)).toBe(20_001);
  });
});
