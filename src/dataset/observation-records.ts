import { z } from 'zod';
import { decompressed } from './compression.ts';
import { DatasetError } from './dataset-error.ts';
import { bytesOf } from './event-records.ts';
import { linesOf } from './lines.ts';
import { hexOf } from './parquet-reader.ts';
import { isParquet, parquetRows } from './parquet-rows.ts';
import type { EventFile } from './sources.ts';

/** The earliest second that an observation can have: sightings begin with 2020. */
const EARLIEST = 1_577_836_800;

const shape = z.object({
  id: z.string().regex(/^[0-9a-f]{64}$/),
  relay_url: z.string().min(1).max(255),
  seen_at: z
    .number()
    .int()
    .min(EARLIEST)
    .max(2 ** 32),
});

/** A record of a file of observations, counted from 1; without an observation where it is none. */
export interface ObservationRecord {
  readonly number: number;
  readonly observation: z.infer<typeof shape> | null;
}

/** @throws DatasetError where the file is damaged as a whole */
export async function* observationRecords({
  path,
  name,
}: EventFile): AsyncGenerator<ObservationRecord> {
  try {
    let number = 0;
    for await (const value of (await isParquet(path)) ? rowsOf(path) : linesOfFile(path)) {
      number += 1;
      const parsed = shape.safeParse(value);
      yield { number, observation: parsed.success ? parsed.data : null };
    }
  } catch (error) {
    if (!(error instanceof DatasetError)) throw error;
    throw new DatasetError(`${name}: ${error.message}.`);
  }
}

async function* linesOfFile(path: string): AsyncGenerator<unknown> {
  for await (const line of linesOf(decompressed(bytesOf(path)))) {
    try {
      yield 'text' in line ? JSON.parse(line.text) : null;
    } catch {
      yield null;
    }
  }
}

async function* rowsOf(path: string): AsyncGenerator<unknown> {
  for await (const rows of parquetRows(path))
    for (const { id, relay_url, seen_at } of rows)
      yield {
        id: id instanceof Uint8Array ? hexOf(id) : id,
        ...{ relay_url, seen_at: Number(seen_at) },
      };
}
