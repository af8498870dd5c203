import type { RecordBatch } from 'apache-arrow';
import type { Observation } from '../database/dataset-events.ts';
import type { NostrEvent } from '../nostr/event.ts';
import { EVENT_SCHEMA, EventBatch } from './arrow-events.ts';
import { type ColumnTypes, RowBatch, schemaOf } from './arrow-rows.ts';
import { fileName, jsonlEvents, type Series, type SeriesWriter } from './jsonl-writer.ts';
import type { ManifestFile } from './manifest.ts';
import {
  ParquetFile,
  type ParquetFileOptions,
  PROFILE_KEY,
  PROFILE_VERSION,
} from './parquet-file.ts';
import { EventTally, NO_EVENTS } from './tally.ts';

/** A file ends with the batch that reaches this many bytes before compression: 400 to 700 MiB compressed. */
export const PARQUET_FILE_BYTES = 1536 * 1024 * 1024;
const BATCH_ROWS = 4096;
const BATCH_BYTES = 4 * 1024 * 1024;
const ENDING = '.parquet';

const EVENT_FILE: ParquetFileOptions = {
  schema: EVENT_SCHEMA,
  metadata: new Map([[PROFILE_KEY, PROFILE_VERSION]]),
  plain: ['id', 'sig', 'content'],
};

interface Batch<T> {
  add(record: T): void;
  readonly rows: number;
  readonly bytes: number;
  recordBatch(): RecordBatch;
}

/** Records of one month as Parquet. */
class ParquetSeries<T> implements SeriesWriter<T> {
  readonly #series: Series;
  readonly #options: ParquetFileOptions;
  readonly #newBatch: () => Batch<T>;
  readonly #count: (record: T, tally: EventTally) => void;
  readonly #maxBytes: number;
  readonly #files: ManifestFile[] = [];
  #open: ParquetFile | null = null;
  #batch: Batch<T>;
  #bytes = 0;
  #tally = new EventTally();

  constructor(
    series: Series,
    options: ParquetFileOptions,
    newBatch: () => Batch<T>,
    count: (record: T, tally: EventTally) => void,
    maxBytes: number,
  ) {
    this.#series = series;
    this.#options = options;
    this.#newBatch = newBatch;
    this.#count = count;
    this.#maxBytes = maxBytes;
    this.#batch = newBatch();
  }

  async add(records: readonly T[]): Promise<void> {
    for (const record of records) {
      this.#batch.add(record);
      this.#count(record, this.#tally);
      if (this.#batch.rows >= BATCH_ROWS || this.#batch.bytes >= BATCH_BYTES) await this.#flush();
    }
  }

  async #flush(): Promise<void> {
    const batch = this.#batch;
    if (batch.rows === 0) return;
    this.#batch = this.#newBatch();
    const { folder, stem } = this.#series;
    const name = fileName(stem, this.#files.length, ENDING);
    this.#open ??= await ParquetFile.create(folder, name, this.#options);
    await this.#open.add(batch.recordBatch());
    this.#bytes += batch.bytes;
    if (this.#bytes >= this.#maxBytes) await this.#endFile();
  }

  async #endFile(): Promise<void> {
    if (!this.#open) return;
    const written = await this.#open.finish();
    this.#open = null;
    this.#bytes = 0;
    this.#files.push({ ...written, holds: this.#series.holds, ...this.#tally.counts });
    this.#tally = new EventTally();
  }

  async finish(): Promise<ManifestFile[]> {
    await this.#flush();
    await this.#endFile();
    return this.#files;
  }

  async abandon(): Promise<void> {
    await this.#open?.abandon();
  }
}

/** Events in the Parquet profile of Nostr archives; those that it cannot hold are in JSON lines beside it. */
class ParquetEvents implements SeriesWriter<NostrEvent> {
  readonly #inside: SeriesWriter<NostrEvent>;
  readonly #beside: SeriesWriter<NostrEvent>;

  constructor(folder: string, month: string, maxBytes: number) {
    const series = { folder, stem: `events/${month}`, holds: 'events' } as const;
    const count = (event: NostrEvent, tally: EventTally) => tally.add(event);
    this.#inside = new ParquetSeries(series, EVENT_FILE, () => new EventBatch(), count, maxBytes);
    const aside = { folder, stem: `set-aside/${month}`, holds: 'set_aside' } as const;
    this.#beside = jsonlEvents(aside, 'gz');
  }

  async add(events: readonly NostrEvent[]): Promise<void> {
    const beside = events.filter((event) => !fitsProfile(event));
    if (beside.length === 0) return await this.#inside.add(events);
    await this.#inside.add(events.filter(fitsProfile));
    await this.#beside.add(beside);
  }

  async finish(): Promise<ManifestFile[]> {
    return [...(await this.#inside.finish()), ...(await this.#beside.finish())];
  }

  async abandon(): Promise<void> {
    await Promise.all([this.#inside.abandon(), this.#beside.abandon()]);
  }
}

/** Whether the profile can hold an event: UTF-8 has no lone surrogates, and the profile no empty tags. */
export function fitsProfile({ content, tags }: NostrEvent): boolean {
  return (
    content.isWellFormed() &&
    tags.every((tag) => tag.length > 0 && tag.every((text) => text.isWellFormed()))
  );
}

export function parquetEvents(
  folder: string,
  month: string,
  maxBytes = PARQUET_FILE_BYTES,
): SeriesWriter<NostrEvent> {
  return new ParquetEvents(folder, month, maxBytes);
}

const OBSERVATION: ColumnTypes = {
  ...{ id: 'bytes32', relay_url: 'string', seen_at: 'int64', imported: 'boolean' },
};

export function parquetObservations(series: Series): SeriesWriter<Observation> {
  const schema = schemaOf(OBSERVATION, false);
  const newBatch = () => new RowBatch<Observation>(schema, OBSERVATION);
  const count = (_: Observation, tally: EventTally) => {
    tally.rows += 1;
  };
  const options = { schema, plain: ['id'] };
  return new ParquetSeries(series, options, newBatch, count, PARQUET_FILE_BYTES);
}

/** Writes a table as one file of Parquet. */
export async function writeParquetTable(
  folder: string,
  name: string,
  holds: ManifestFile['holds'],
  columns: ColumnTypes,
  chunks: AsyncIterable<readonly Record<string, unknown>[]>,
): Promise<ManifestFile> {
  const schema = schemaOf(columns, true);
  const file = await ParquetFile.create(folder, `${name}${ENDING}`, { schema });
  let rows = 0;
  try {
    const flush = async (records: readonly Record<string, unknown>[]) => {
      const batch = new RowBatch<Record<string, unknown>>(schema, columns);
      for (const record of records) batch.add(record);
      rows += batch.rows;
      await file.add(batch.recordBatch());
    };
    for await (const chunk of chunks) await flush(chunk);
    if (rows === 0) await flush([]); // a file needs its columns
    return { ...(await file.finish()), holds, ...NO_EVENTS, rows };
  } catch (error) {
    await file.abandon();
    throw error;
  }
}
