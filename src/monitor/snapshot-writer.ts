import type { Bigbrotr, CheckRow, SnapshotRow } from '../database/bigbrotr.ts';
import { ClaimLost } from '../database/claims.ts';
import { checkNames } from '../nostr/check-result.ts';
import { crashPoint } from '../telemetry/crash-point.ts';
import type { CarryTerms } from './checks/carried.ts';
import type { Snapshot } from './probe.ts';

/** Maximum time that a snapshot waits for others to be written with it, in milliseconds. */
const WRITE_AFTER_MS = 1000;

/** Writes snapshots in chunks, one statement each. */
export class SnapshotWriter {
  readonly #bigbrotr: Bigbrotr;
  readonly #chunkSize: number;
  readonly #intervalSeconds: number | undefined;
  #waiting: Snapshot[] = [];
  /** URLs of the relays whose claim was lost. */
  #chunk: Promise<ReadonlySet<string>> | null = null;
  #full: (() => void) | null = null;

  /** @param intervalSeconds interval of checks of relays that are up, from which the next check is scheduled */
  constructor(bigbrotr: Bigbrotr, chunkSize: number, intervalSeconds?: number) {
    this.#bigbrotr = bigbrotr;
    this.#chunkSize = chunkSize;
    this.#intervalSeconds = intervalSeconds;
  }

  /** Resolves when the snapshot is stored. @throws DatabaseError, ClaimLost when another process checks the relay now */
  async write(snapshot: Snapshot): Promise<void> {
    crashPoint('checked', snapshot.relay.url);
    this.#waiting.push(snapshot);
    this.#chunk ??= this.#writeChunk();
    if (this.#waiting.length >= this.#chunkSize) this.#full?.();
    const lost = await this.#chunk;
    const { url, relayId } = snapshot.relay;
    if (lost.has(url)) throw new ClaimLost('check', relayId ?? 0);
  }

  async #writeChunk(): Promise<ReadonlySet<string>> {
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
    const { lost } = await this.#bigbrotr.insertSnapshots(chunk.map(asRow), this.#intervalSeconds);
    return new Set(lost);
  }
}

function asRow(snapshot: Snapshot): SnapshotRow {
  const { relay, generatedAt, nip11, nip66 } = snapshot;
  const { url, network, token } = relay;
  const claimed = token === undefined ? { url, network } : { url, network, token };
  return { relay: claimed, generatedAt, nip11, nip66, checks: checkRows(snapshot) };
}

/** The results in the order of `checkNames`; that of nip11 without the document, which has its own columns. */
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
