import type { Observation } from '../database/dataset-events.ts';
import type { DatasetTable } from '../database/dataset-tables.ts';
import type { NostrEvent } from '../nostr/event.ts';
import { type ExportOptions, jsonlCompression } from './export-options.ts';
import {
  jsonlEnding,
  jsonlEvents,
  jsonlObservations,
  type SeriesWriter,
  writeJsonlTable,
} from './jsonl-writer.ts';
import type { ManifestFile } from './manifest.ts';
import { parquetEvents, parquetObservations, writeParquetTable } from './parquet-writer.ts';

/** The writers of each format. */

export function createEventWriter(
  { folder, format }: ExportOptions,
  month: string,
): SeriesWriter<NostrEvent> {
  if (format === 'parquet') return parquetEvents(folder, month);
  const series = { folder, stem: `events/${month}`, holds: 'events' } as const;
  return jsonlEvents(series, jsonlCompression(format));
}

export function createObservationWriter(
  { folder, format }: ExportOptions,
  month: string,
): SeriesWriter<Observation> {
  const series = { folder, stem: `observations/${month}`, holds: 'observations' } as const;
  if (format === 'parquet') return parquetObservations(series);
  return jsonlObservations(series, jsonlCompression(format));
}

/** Writes a table as one file. */
export function writeTable(
  { folder, format }: ExportOptions,
  { name, holds, columns }: DatasetTable,
  rows: AsyncIterable<readonly Record<string, unknown>[]>,
): Promise<ManifestFile> {
  if (format === 'parquet') return writeParquetTable(folder, name, holds, columns, rows);
  const compression = jsonlCompression(format);
  return writeJsonlTable(folder, `${name}${jsonlEnding(compression)}`, compression, holds, rows);
}
