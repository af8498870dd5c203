import { type FileHandle, open } from 'node:fs/promises';
import { decompress } from 'fzstd';
import { type AsyncBuffer, type FileMetaData, parquetReadObjects } from 'hyparquet';
import { DatasetError } from './dataset-error.ts';
import { readFooter } from './parquet-profile.ts';

/** Reads the rows of Parquet files, by another implementation than the one that writes them. */

/** Bytes of columns that are decoded at a time, where the file says where its pages are. */
const DECODED_BYTES = 8 * 1024 * 1024;
const COMPRESSORS = {
  ZSTD: (input: Uint8Array, length: number) => decompress(input, new Uint8Array(length)),
};

/** Whether a file begins as Parquet does. */
export async function isParquet(path: string): Promise<boolean> {
  if (path === '-') return false;
  const handle = await open(path);
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(4), 0, 4, 0);
    return bytesRead === 4 && buffer.toString('latin1') === 'PAR1';
  } finally {
    await handle.close();
  }
}

type Rows = Record<string, unknown>[];

/**
 * The rows of a Parquet file, some at a time.
 * @throws DatasetError where it is damaged
 */
export async function* parquetRows(path: string, footer?: FileMetaData): AsyncGenerator<Rows> {
  const metadata = footer ?? (await readFooter(path));
  const handle = await open(path);
  let done = 0;
  try {
    const file = await bufferOf(handle);
    for (const [rowStart, rowEnd] of rangesOf(metadata)) {
      const rows = await parquetReadObjects({
        ...{ file, metadata, rowStart, rowEnd },
        ...{ compressors: COMPRESSORS, useOffsetIndex: true },
      });
      if (rows.length !== rowEnd - rowStart)
        throw new Error(`${rows.length} rows where its footer says ${rowEnd - rowStart}`);
      yield rows;
      done = rowEnd;
    }
  } catch (error) {
    if (error instanceof DatasetError) throw error;
    const why = String((error as Error)?.message ?? error).slice(0, 200);
    throw new DatasetError(`its Parquet data is damaged after row ${done} (${why})`);
  } finally {
    await handle.close();
  }
}

async function bufferOf(handle: FileHandle): Promise<AsyncBuffer> {
  const { size } = await handle.stat();
  return {
    byteLength: size,
    slice: async (start, end = size) => {
      const buffer = new Uint8Array(Math.max(0, end - start));
      await handle.read(buffer, 0, buffer.length, start);
      return buffer.buffer;
    },
  };
}

/** Ranges of rows that are read together: pages of a row group where they can be found, else all of it. */
function* rangesOf({ row_groups }: FileMetaData): Generator<[start: number, end: number]> {
  let start = 0;
  for (const { columns, num_rows, total_byte_size } of row_groups) {
    const end = start + Number(num_rows);
    const isIndexed = columns.every(({ offset_index_offset }) => offset_index_offset !== undefined);
    const share = isIndexed ? DECODED_BYTES / Math.max(1, Number(total_byte_size)) : 1;
    const step = Math.max(1, Math.ceil(Number(num_rows) * Math.min(1, share)));
    for (; start < end; start += step) yield [start, Math.min(end, start + step)];
    start = end;
  }
}
