import { createHash, type Hash } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { type FileHandle, open, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { DatasetError } from './dataset-error.ts';

/** A file that is whole. */
export interface WrittenFile {
  /** Relative to the folder of the dataset, with slashes. */
  readonly name: string;
  /** Hex. */
  readonly sha256: string;
  readonly bytes: number;
}

/** Files that are not whole yet have this ending. */
export const PARTIAL = '.part';

/** Writes a file under a temporary name, and renames it when it is whole and on the disk. */
export class FileWriter {
  readonly #folder: string;
  readonly #name: string;
  readonly #handle: FileHandle;
  readonly #hash: Hash = createHash('sha256');
  #bytes = 0;

  private constructor(folder: string, name: string, handle: FileHandle) {
    this.#folder = folder;
    this.#name = name;
    this.#handle = handle;
  }

  /** @param name relative to the folder; a file of that name is replaced in the end */
  static async create(folder: string, name: string): Promise<FileWriter> {
    const path = join(folder, name);
    return await written(name, async () => {
      mkdirSync(dirname(path), { recursive: true });
      return new FileWriter(folder, name, await open(`${path}${PARTIAL}`, 'w'));
    });
  }

  /** Bytes written so far. */
  get bytes(): number {
    return this.#bytes;
  }

  async write(chunk: Uint8Array): Promise<void> {
    this.#hash.update(chunk);
    this.#bytes += chunk.length;
    await written(this.#name, () => this.#handle.writeFile(chunk));
  }

  /** Makes the file appear under its name. */
  async finish(): Promise<WrittenFile> {
    const path = join(this.#folder, this.#name);
    await written(this.#name, async () => {
      await this.#handle.sync();
      await this.#handle.close();
      await rename(`${path}${PARTIAL}`, path);
    });
    return { name: this.#name, sha256: this.#hash.digest('hex'), bytes: this.#bytes };
  }

  /** Closes the file, and leaves what was written under its temporary name. */
  async abandon(): Promise<void> {
    await this.#handle.close().catch(() => {});
  }
}

/** Names the file in an error: without, one of the disk would pass for one of the database in whose transaction it is. */
async function written<T>(name: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw new DatasetError(`${name} cannot be written: ${(error as Error).message}.`);
  }
}

/** Writes a small file at once, whole or not at all. */
export async function writeWhole(folder: string, name: string, text: string): Promise<WrittenFile> {
  const writer = await FileWriter.create(folder, name);
  await writer.write(Buffer.from(text));
  return await writer.finish();
}
