import type { Bigbrotr, ImportBatch, ImportCounts } from '../database/bigbrotr.ts';
import { isDataError } from '../database/connection.ts';
import type { IdentifiedEvent } from '../nostr/event.ts';
import { matchesArchived, type VerifiedEvent, type Verifier } from '../nostr/verify.ts';
import { DatasetError } from './dataset-error.ts';
import { FileCheck, PLACE_FAULTS } from './file-check.ts';
import type { Progress } from './progress.ts';
import { type EventFile, recordsOf } from './sources.ts';

/** Events, and bytes of their texts, that are stored together. */
const BATCH_EVENTS = 2000;
const BATCH_BYTES = 8 * 1024 * 1024;

/** What became of the records of all files. */
export interface ImportTotals {
  events: number;
  known: number;
  quarantined: number;
  readonly refused: Record<string, number>;
  /** Refused records so far. */
  named: number;
}

export function newTotals(): ImportTotals {
  return { events: 0, known: 0, quarantined: 0, refused: {}, named: 0 };
}

export interface FileImportParts {
  readonly bigbrotr: Pick<Bigbrotr, 'archivedEvents' | 'storeImported'>;
  readonly verifier: Verifier;
  readonly file: EventFile;
  readonly importId: number;
  readonly totals: ImportTotals;
  readonly progress: Progress;
  /** Receives file, line and reason of each refused record. */
  readonly onRefused: (line: string) => void;
}

interface Pending {
  readonly events: { readonly event: IdentifiedEvent; readonly number: number }[];
  readonly refused: Record<string, number>;
  bytes: number;
  /** The last record that is in it. */
  records: number;
}

const nothing = (): Pending => ({ events: [], refused: {}, bytes: 0, records: 0 });

/** The import of one file: a batch is verified while the one before it is stored. */
export class FileImport {
  readonly #parts: FileImportParts;
  #pending = nothing();
  #storing: Promise<void> = Promise.resolve();

  constructor(parts: FileImportParts) {
    this.#parts = parts;
  }

  /**
   * @param done records that were imported before
   * @throws DatasetError where the file is damaged or not in the order of its dataset: what stands before is stored
   */
  async run(done: number): Promise<void> {
    const { file, progress } = this.#parts;
    const check = new FileCheck();
    try {
      for await (const record of recordsOf(file)) {
        const { number } = record;
        if ('event' in record && file.described !== null) this.#place(check, record.event, number);
        if (number <= done) continue;
        progress.add(1);
        this.#pending.records = number;
        if ('fault' in record) this.#refuse(record.fault, number);
        else this.#take(record.event, number);
        const { events, bytes } = this.#pending;
        if (events.length >= BATCH_EVENTS || bytes >= BATCH_BYTES) await this.#flush();
      }
    } finally {
      await this.#flush();
      await this.#storing;
    }
    const [difference] = file.described ? check.differences(file.described) : [];
    if (difference !== undefined) throw new DatasetError(difference);
  }

  #place(check: FileCheck, event: IdentifiedEvent, number: number): void {
    const fault = check.add(event);
    if (fault !== null)
      throw new DatasetError(`${this.#parts.file.name}:${number}: ${PLACE_FAULTS[fault]}.`);
  }

  #take(event: IdentifiedEvent, number: number): void {
    this.#pending.events.push({ event, number });
    this.#pending.bytes += event.content.length + 100 * event.tags.length;
  }

  #refuse(reason: string, number: number, refused = this.#pending.refused): void {
    refused[reason] = (refused[reason] ?? 0) + 1;
    this.#parts.onRefused(`${this.#parts.file.name}:${number}: ${reason}`);
  }

  /** Verifies what is pending, and begins to store it when the batch before it is stored. */
  async #flush(): Promise<void> {
    const pending = this.#pending;
    this.#pending = nothing();
    if (pending.records === 0) return;
    const { new: events, known } = await this.#verify(pending);
    await this.#storing;
    const { importId } = this.#parts;
    const { records, refused } = pending;
    this.#storing = this.#store({ importId, events, known, refused, records });
    this.#storing.catch(() => {}); // thrown to whom awaits it next
  }

  async #verify({ events, refused }: Pending): Promise<{ new: VerifiedEvent[]; known: number }> {
    const { bigbrotr, verifier } = this.#parts;
    const archived = await bigbrotr.archivedEvents(events.map(({ event }) => event));
    const fresh = new Map<string, VerifiedEvent>();
    let known = 0;
    for (const { event, number } of events) {
      const held = archived.get(event.id);
      if (fresh.has(event.id) || (held && matchesArchived(event, held.sig))) {
        known += 1;
        continue;
      }
      const verified = verifier.verify(event);
      if (!verified) this.#refuse('bad_signature', number, refused);
      else if (held) known += 1;
      else fresh.set(event.id, verified);
    }
    return { new: [...fresh.values()], known };
  }

  async #store(batch: ImportBatch): Promise<void> {
    try {
      this.#count(await this.#parts.bigbrotr.storeImported(batch));
    } catch (error) {
      if (!isDataError((error as Error).cause ?? error)) throw error;
      await this.#storeOneByOne(batch);
    }
  }

  /** After a data error: what cannot be stored is refused alone. */
  async #storeOneByOne(batch: ImportBatch): Promise<void> {
    const rest = { known: 0, refused: {}, records: batch.records };
    this.#count(await this.#parts.bigbrotr.storeImported({ ...batch, events: [] }));
    for (const event of batch.events) {
      const { importId } = batch;
      try {
        this.#count(
          await this.#parts.bigbrotr.storeImported({ ...rest, importId, events: [event] }),
        );
      } catch (error) {
        if (!isDataError((error as Error).cause ?? error)) throw error;
        const refused = { not_storable: 1 };
        this.#parts.onRefused(`${this.#parts.file.name}: event ${event.id} cannot be stored`);
        this.#count(
          await this.#parts.bigbrotr.storeImported({ ...rest, importId, events: [], refused }),
        );
      }
    }
  }

  #count({ events, known, quarantined, refused }: ImportCounts): void {
    const { totals } = this.#parts;
    totals.events += events;
    totals.known += known;
    totals.quarantined += quarantined;
    for (const [reason, count] of Object.entries(refused))
      totals.refused[reason] = (totals.refused[reason] ?? 0) + count;
  }
}
