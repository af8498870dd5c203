import type { Bigbrotr, SnapshotRow } from './bigbrotr.ts';
import type { Snapshot } from './probe.ts';

/** Snapshots are written together, at the latest after this many milliseconds. */
const WRITE_AFTER_MS = 1000;

/** Gathers snapshots into chunks, one statement each. */
export class SnapshotWriter {
  readonly #bigbrotr: Bigbrotr;
  readonly #chunkSize: number;
  #waiting: Snapshot[] = [];
  #chunk: Promise<void> | null = null;
  #full: (() => void) | null = null;

  constructor(bigbrotr: Bigbrotr, chunkSize: number) {
    this.#bigbrotr = bigbrotr;
    this.#chunkSize = chunkSize;
  }

  /** Resolves when the snapshot is stored. @throws DatabaseError */
  write(snapshot: Snapshot): Promise<void> {
    this.#waiting.push(snapshot);
    this.#chunk ??= this.#writeChunk();
    if (this.#waiting.length >= this.#chunkSize) this.#full?.();
    return this.#chunk;
  }

  async #writeChunk(): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, WRITE_AFTER_MS);
      this.#full = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    const chunk = this.#waiting;
    this.#waiting = [];
    this.#chunk = null;
    this.#full = null;
    await this.#bigbrotr.insertSnapshots(chunk.map(asRow));
  }
}

function asRow({ relay, generatedAt, nip11, nip66 }: Snapshot): SnapshotRow {
  return { relay: { url: relay.url, network: relay.network }, generatedAt, nip11, nip66 };
}
