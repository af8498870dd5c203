import type { Observation } from '../database/dataset-events.ts';
import { type NostrEvent, serializeEvent } from '../nostr/event.ts';
import { type Compression, type Compressor, createCompressor } from './compression.ts';
import { FileWriter } from './file-writer.ts';
import type { ManifestFile } from './manifest.ts';
import { EventTally, NO_EVENTS } from './tally.ts';

/** A file ends with the line that reaches this many bytes before compression. */
export const JSONL_FILE_BYTES = 512 * 1024 * 1024;

/** Writes records of one month to files; the next file begins when one is large enough. */
export interface SeriesWriter<T> {
  add(records: readonly T[]): Promise<void>;
  /** @returns the files, whole */
  finish(): Promise<ManifestFile[]>;
  /** Stops writing. Files that are not whole keep their temporary names. */
  abandon(): Promise<void>;
}

/** The files of a month and what is in them. */
export interface Series {
  readonly folder: string;
  /** The names of the files are this, a number and an ending: `events/2023-05`. */
  readonly stem: string;
  readonly holds: ManifestFile['holds'];
}

/** One file of lines. */
class LineFile {
  readonly #file: FileWriter;
  readonly #compressor: Compressor;
  /** Before compression. */
  bytes = 0;

  constructor(file: FileWriter, compressor: Compressor) {
    this.#file = file;
    this.#compressor = compressor;
  }

  static async create(folder: string, name: string, compression: Compression): Promise<LineFile> {
    const compressor = await createCompressor(compression);
    return new LineFile(await FileWriter.create(folder, name), compressor);
  }

  async write(lines: Buffer): Promise<void> {
    this.bytes += lines.length;
    for (const chunk of await this.#compressor.write(lines)) await this.#file.write(chunk);
  }

  async finish() {
    for (const chunk of await this.#compressor.end()) await this.#file.write(chunk);
    return await this.#file.finish();
  }

  abandon(): Promise<void> {
    return this.#file.abandon();
  }
}

/** The ending of JSONL files. */
export function jsonlEnding(compression: Compression): string {
  return compression === 'none' ? '.jsonl' : `.jsonl.${compression}`;
}

/** Records as lines of JSON. */
class JsonlSeries<T> implements SeriesWriter<T> {
  readonly #series: Series;
  readonly #compression: Compression;
  readonly #lineOf: (record: T, tally: EventTally) => string;
  readonly #maxBytes: number;
  readonly #files: ManifestFile[] = [];
  #open: LineFile | null = null;
  #tally = new EventTally();

  constructor(
    series: Series,
    compression: Compression,
    lineOf: (record: T, tally: EventTally) => string,
    maxBytes: number,
  ) {
    this.#series = series;
    this.#compression = compression;
    this.#lineOf = lineOf;
    this.#maxBytes = maxBytes;
  }

  async add(records: readonly T[]): Promise<void> {
    let lines: string[] = [];
    let bytes = this.#open?.bytes ?? 0;
    for (const record of records) {
      const line = `${this.#lineOf(record, this.#tally)}\n`;
      lines.push(line);
      bytes += Buffer.byteLength(line);
      if (bytes < this.#maxBytes) continue;
      await this.#write(lines);
      await this.#endFile();
      lines = [];
      bytes = 0;
    }
    if (lines.length > 0) await this.#write(lines);
  }

  async #write(lines: readonly string[]): Promise<void> {
    const { folder, stem } = this.#series;
    const name = fileName(stem, this.#files.length, jsonlEnding(this.#compression));
    this.#open ??= await LineFile.create(folder, name, this.#compression);
    await this.#open.write(Buffer.from(lines.join('')));
  }

  async #endFile(): Promise<void> {
    if (!this.#open) return;
    const written = await this.#open.finish();
    this.#open = null;
    this.#files.push({ ...written, holds: this.#series.holds, ...this.#tally.counts });
    this.#tally = new EventTally();
  }

  async finish(): Promise<ManifestFile[]> {
    await this.#endFile();
    return this.#files;
  }

  async abandon(): Promise<void> {
    await this.#open?.abandon();
  }
}

/** Events as lines of JSON, with the fields in the order of NIP-01. */
export function jsonlEvents(
  series: Series,
  compression: Compression,
  maxBytes = JSONL_FILE_BYTES,
): SeriesWriter<NostrEvent> {
  const lineOf = (event: NostrEvent, tally: EventTally) => {
    tally.add(event);
    return serializeEvent(event);
  };
  return new JsonlSeries(series, compression, lineOf, maxBytes);
}

/** Observations as lines of JSON. */
export function jsonlObservations(
  series: Series,
  compression: Compression,
): SeriesWriter<Observation> {
  const lineOf = (observation: Observation, tally: EventTally) => {
    tally.rows += 1;
    const { id, relay_url, seen_at, imported } = observation;
    return JSON.stringify({ id, relay_url, seen_at, imported });
  };
  return new JsonlSeries(series, compression, lineOf, JSONL_FILE_BYTES);
}

/** `events/2023-05-0001.parquet`; `before`: how many files of this stem there are. */
export function fileName(stem: string, before: number, ending: string): string {
  return `${stem}-${String(before + 1).padStart(4, '0')}${ending}`;
}

/** Writes a table as one file of JSON lines. */
export async function writeJsonlTable(
  folder: string,
  name: string,
  compression: Compression,
  holds: ManifestFile['holds'],
  chunks: AsyncIterable<readonly object[]>,
): Promise<ManifestFile> {
  const file = await LineFile.create(folder, name, compression);
  let rows = 0;
  try {
    for await (const chunk of chunks) {
      rows += chunk.length;
      await file.write(Buffer.from(chunk.map((row) => `${JSON.stringify(row)}\n`).join('')));
    }
    return { ...(await file.finish()), holds, ...NO_EVENTS, rows };
  } catch (error) {
    await file.abandon();
    throw error;
  }
}
