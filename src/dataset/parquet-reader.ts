import type { Table, Vector } from 'apache-arrow';
import { type NostrEvent, parseEvent } from '../nostr/event.ts';
import { DatasetError } from './dataset-error.ts';
import type { EventRecord } from './event-records.ts';
import { parquetBatches } from './parquet-batches.ts';
import { profileFaults, readFooter } from './parquet-profile.ts';

/**
 * The events of a Parquet file: signatures are not checked yet.
 * @throws DatasetError where the file is not of the profile, or damaged
 */
export async function* parquetRecords(path: string): AsyncGenerator<EventRecord> {
  const footer = await readFooter(path);
  const [fault] = profileFaults(footer);
  if (fault !== undefined) throw new DatasetError(fault);
  let number = 0;
  for await (const batch of parquetBatches(path))
    for (const event of eventsOf(batch)) {
      number += 1;
      const parsed = parseEvent(event);
      yield parsed.ok ? { number, event: parsed.event } : { number, fault: parsed.reason };
    }
  if (number !== Number(footer.num_rows))
    throw new DatasetError(`it has ${number} rows where its footer says ${footer.num_rows}`);
}

/** The rows of a batch, column by column. */
function eventsOf(batch: Table): NostrEvent[] {
  const column = (name: string): Vector => {
    const vector = batch.getChild(name);
    if (!vector) throw new DatasetError(`it has no column ${name}`);
    return vector;
  };
  const [ids, pubkeys, sigs] = [column('id'), column('pubkey'), column('sig')];
  const [times, kinds, tags] = [column('created_at'), column('kind'), column('tags')];
  const contents = column('content');
  return Array.from({ length: batch.numRows }, (_, row) => ({
    ...{ id: hexOf(ids.get(row)), pubkey: hexOf(pubkeys.get(row)) },
    ...{ created_at: Number(times.get(row)), kind: kinds.get(row), tags: tagsOf(tags.get(row)) },
    ...{ content: contents.get(row), sig: hexOf(sigs.get(row)) },
  }));
}

function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
}

function tagsOf(list: Vector): string[][] {
  return Array.from({ length: list.length }, (_, at) => [...(list.get(at) as Vector)]);
}
