import { parseEvent } from '../nostr/event.ts';
import { DatasetError } from './dataset-error.ts';
import type { EventRecord } from './event-records.ts';
import { profileFaults, readFooter } from './parquet-profile.ts';
import { parquetRows } from './parquet-rows.ts';

/**
 * The events of a Parquet file: signatures are not checked yet.
 * @throws DatasetError where the file is not of the profile, or damaged
 */
export async function* parquetRecords(path: string): AsyncGenerator<EventRecord> {
  const footer = await readFooter(path);
  const [fault] = profileFaults(footer);
  if (fault !== undefined) throw new DatasetError(fault);
  let number = 0;
  for await (const rows of parquetRows(path, footer))
    for (const row of rows) {
      number += 1;
      const parsed = parseEvent(asEvent(row));
      yield parsed.ok ? { number, event: parsed.event } : { number, fault: parsed.reason };
    }
}

/** The fields as JSON has them. */
function asEvent({ id, pubkey, created_at, sig, ...rest }: Record<string, unknown>): unknown {
  return {
    ...{ id: hexOf(id), pubkey: hexOf(pubkey), created_at: Number(created_at) },
    ...rest,
    sig: hexOf(sig),
  };
}

/** Bytes of a row in hex. */
export function hexOf(value: unknown): string {
  const bytes = value as Uint8Array;
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex');
}
