import { describe, expect, test } from 'vitest';
import { createCompressor, decompressed } from '../../../src/dataset/compression.ts';
import { DatasetError } from '../../../src/dataset/dataset-error.ts';
import { type Line, linesOf, MAX_LINE_BYTES } from '../../../src/dataset/lines.ts';

async function* chunks(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function collected<T>(all: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const one of all) list.push(one);
  return list;
}

const lines = (bytes: Uint8Array, size: number): Promise<Line[]> =>
  collected(linesOf(chunks(bytes, size)));

test.each([1, 3, 1000])(
  'lines are numbered from 1, whatever the chunks of %i bytes divide',
  async (size) => {
    const bytes = Buffer.concat([
      Buffer.from('one\r\n\n  \nfour é😀\n'),
      Buffer.from([0xff, 0x0a]),
      Buffer.from('last'),
    ]);
    expect(await lines(bytes, size)).toEqual([
      { number: 1, text: 'one' },
      { number: 4, text: 'four é😀' },
      { number: 5, refused: 'invalid_utf8' },
      { number: 6, text: 'last' },
    ]);
  },
);

test('a line that is too long is skipped, and the next one is read', async () => {
  const long = Buffer.alloc(MAX_LINE_BYTES + 1, 'x');
  expect(await lines(Buffer.concat([long, Buffer.from('\nnext\n')]), 1 << 20)).toEqual([
    { number: 1, refused: 'too_large' },
    { number: 2, text: 'next' },
  ]);
});

/** Compressible bytes, more than two frames of zstd. */
const INPUT = Buffer.from(
  'a line of some events that repeat themselves, number 12345\n'.repeat(160_000),
);

async function compress(compression: 'none' | 'gz' | 'zst', size: number): Promise<Buffer> {
  const compressor = await createCompressor(compression);
  const out: Uint8Array[] = [];
  for await (const chunk of chunks(INPUT, size)) out.push(...(await compressor.write(chunk)));
  out.push(...(await compressor.end()));
  return Buffer.concat(out);
}

describe.each(['none', 'gz', 'zst'] as const)('compression %s', (compression) => {
  test('gives the same bytes for the same input, however it is divided, and the input back', async () => {
    const [one, other] = await Promise.all([
      compress(compression, 1e6),
      compress(compression, 333_333),
    ]);
    expect(one.equals(other)).toBe(true);
    const back = Buffer.concat(await collected(decompressed(chunks(one, 10_000))));
    expect(back.equals(INPUT)).toBe(true);
  });
});

describe.each(['gz', 'zst'] as const)('damaged %s', (compression) => {
  test('that is cut off is refused', async () => {
    const bytes = await compress(compression, 1e6);
    await expect(
      collected(decompressed(chunks(bytes.subarray(0, bytes.length - 9), 10_000))),
    ).rejects.toThrow(
      new DatasetError(`its ${compression === 'gz' ? 'gzip' : 'zstd'} data is cut off`),
    );
  });

  test('with a broken header is refused', async () => {
    const bytes = await compress(compression, 1e6);
    const magic = Buffer.from('28b52ffd', 'hex'); // of the second frame of zstd
    bytes[compression === 'gz' ? 2 : bytes.indexOf(magic, 4)] = 0xff;
    await expect(collected(decompressed(chunks(bytes, 10_000)))).rejects.toThrow(/data is damaged/);
  });
});

test('nothing gives nothing', async () => {
  expect(await collected(decompressed(chunks(Buffer.alloc(0), 1)))).toEqual([]);
});
