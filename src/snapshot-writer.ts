import type { Bigbrotr, CheckRow, SnapshotRow } from './bigbrotr.ts';
import type { CarryTerms } from './checks/carried.ts';
import { crashPoint } from './crash-point.ts';
import { checkNames } from './nostr/check-result.ts';
import type { Snapshot } from './probe.ts';

/** Snapshots are written together, at the latest after this many milliseconds. */
const WRITE_AFTER_MS = 1000;

/** Gathers snapshots into chunks, one statement each. */
export class SnapshotWriter {
  readonly #bigbrotr: Bigbrotr;
  readonly #chunkSize: number;
  readonly #intervalSeconds: number | undefined;
  #waiting: Snapshot[] = [];
  #chunk: Promise<void> | null = null;
  #full: (() => void) | null = null;

  /** @param intervalSeconds how often living relays are checked, which decides when a relay is due again */
  constructor(bigbrotr: Bigbrotr, chunkSize: number, intervalSeconds?: number) {
    this.#bigbrotr = bigbrotr;
    this.#chunkSize = chunkSize;
    this.#intervalSeconds = intervalSeconds;
  }

  /** Resolves when the snapshot is stored. @throws DatabaseError */
  write(snapshot: Snapshot): Promise<void> {
    crashPoint('checked', snapshot.relay.url);
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
    await this.#bigbrotr.insertSnapshots(chunk.map(asRow), this.#intervalSeconds);
  }
}

function asRow(snapshot: Snapshot): SnapshotRow {
  const { relay, generatedAt, nip11, nip66 } = snapshot;
  const { url, network } = relay;
  return { relay: { url, network }, generatedAt, nip11, nip66, checks: checkRows(snapshot) };
}

/** The results in the order of their names; of nip11 without the document, which the row has in columns of its own. */
function checkRows({ checks, carry }: Snapshot): CheckRow[] {
  return checkNames.flatMap((name): CheckRow[] => {
    const result = checks[name];
    if (!result) return [];
    const { success, durationMs } = result;
    const row = { name, success, duration_ms: Math.round(durationMs) };
    if (!result.success) return [{ ...row, reason: result.reason, data: null }];
    const { document: _, ...data } = { document: null, ...result.data };
    const terms = name === 'nip11' || name === 'capabilities' ? carry[name] : undefined;
    return [{ ...row, reason: null, data, ...(terms && { carried: asColumns(terms) }) }];
  });
}

function asColumns({ freshUntil, etag, lastModified }: CarryTerms) {
  return { fresh_until: freshUntil, etag, last_modified: lastModified };
}
