import { type RecordBatch, type Schema, Table, tableToIPC } from 'apache-arrow';
import {
  Compression,
  EnabledStatistics,
  transformParquetStream,
  Table as WasmTable,
  type WriterProperties,
  WriterPropertiesBuilder,
  WriterVersion,
} from 'parquet-wasm';
import { FileWriter, type WrittenFile } from './file-writer.ts';

/** Writes one Parquet file from record batches, a row group at a time, by the Rust implementation of Apache Parquet. */

/** Bytes of a row group as it is written: about 128 MiB before compression. */
const ROW_GROUP_BYTES = 48 * 1024 * 1024;
const ANY_ROWS = 2 ** 30;

/** The key in the footer of files of events, and its value. */
export const PROFILE_KEY = 'nostr.event_archive.version';
export const PROFILE_VERSION = '1';

export interface ParquetFileOptions {
  readonly schema: Schema;
  /** Keys of the footer. */
  readonly metadata?: ReadonlyMap<string, string>;
  /** Columns whose values hardly repeat: they get no dictionary. */
  readonly plain?: readonly string[];
}

function propertiesOf({ metadata, plain = [] }: ParquetFileOptions): WriterProperties {
  let builder = new WriterPropertiesBuilder()
    .setCompression(Compression.ZSTD)
    .setWriterVersion(WriterVersion.V1) // data pages of version 1, PLAIN and dictionaries
    .setMaxRowGroupBytes(ROW_GROUP_BYTES)
    .setMaxRowGroupSize(ANY_ROWS)
    .setStatisticsEnabled(EnabledStatistics.Chunk)
    .setCreatedBy('bigbrotr');
  if (metadata) builder = builder.setKeyValueMetadata(new Map(metadata));
  for (const column of plain) builder = builder.setColumnDictionaryEnabled(column, false);
  return builder.build();
}

/** A Parquet file that is being written. */
export class ParquetFile {
  readonly #file: FileWriter;
  readonly #batches: TransformStream<unknown, unknown>;
  readonly #input: WritableStreamDefaultWriter<unknown>;
  readonly #written: Promise<void>;

  private constructor(file: FileWriter, options: ParquetFileOptions) {
    this.#file = file;
    this.#batches = new TransformStream();
    this.#input = this.#batches.writable.getWriter();
    this.#written = this.#pass(propertiesOf(options));
    this.#written.catch(() => {}); // thrown by add() and finish()
  }

  static async create(
    folder: string,
    name: string,
    options: ParquetFileOptions,
  ): Promise<ParquetFile> {
    return new ParquetFile(await FileWriter.create(folder, name), options);
  }

  async #pass(properties: WriterProperties): Promise<void> {
    try {
      const bytes = await transformParquetStream(this.#batches.readable, properties);
      for await (const chunk of bytes) await this.#file.write(chunk as Uint8Array);
    } catch (error) {
      await this.#input.abort(error).catch(() => {});
      throw error;
    }
  }

  /** Resolves when the batch is taken, so that no more than one waits. */
  async add(batch: RecordBatch): Promise<void> {
    const table = WasmTable.fromIPCStream(tableToIPC(new Table([batch]), 'stream'));
    const parts = table.recordBatches();
    table.free();
    for (const part of parts)
      await Promise.race([this.#input.write(part), this.#written.then(closedEarly)]);
  }

  async finish(): Promise<WrittenFile> {
    await Promise.race([this.#input.close(), this.#written]);
    await this.#written;
    return await this.#file.finish();
  }

  async abandon(): Promise<void> {
    await this.#input.abort(new Error('abandoned')).catch(() => {});
    await this.#written.catch(() => {});
    await this.#file.abandon();
  }
}

function closedEarly(): never {
  throw new Error('a Parquet file ended before its last batch');
}
