import { openAsBlob } from 'node:fs';
import { open } from 'node:fs/promises';
import { type Table, tableFromIPC } from 'apache-arrow';
import { type RecordBatch as WasmBatch, ParquetFile as WasmParquetFile } from 'parquet-wasm';
import { DatasetError } from './dataset-error.ts';

/** Rows decoded at a time. */
const BATCH_ROWS = 1024;

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

/** The rows of a Parquet file, some at a time. @throws DatasetError where it is damaged */
export async function* parquetBatches(path: string): AsyncGenerator<Table> {
  let rows = 0;
  try {
    const file = await WasmParquetFile.fromFile(await openAsBlob(path));
    const stream = await file.stream({ batchSize: BATCH_ROWS, concurrency: 1 });
    for await (const batch of stream) {
      const table = tableFromIPC((batch as WasmBatch).intoIPCStream());
      rows += table.numRows;
      yield table;
    }
  } catch (error) {
    if (error instanceof DatasetError) throw error;
    const why = String((error as Error)?.message ?? error).slice(0, 200);
    throw new DatasetError(`its Parquet data is damaged after row ${rows} (${why})`);
  }
}
