import { createReadStream } from 'node:fs';
import type { Readable } from 'node:stream';
import { type IdentifiedEvent, type InvalidReason, parseEvent } from '../nostr/event.ts';
import { decompressed } from './compression.ts';
import { linesOf } from './lines.ts';

/** Why a record of a file is not taken as an event. */
export type RecordFault = InvalidReason | 'invalid_json' | 'invalid_utf8';

/** A record of a file: a line of JSONL or a row of Parquet, counted from 1. */
export type EventRecord =
  | { readonly number: number; readonly event: IdentifiedEvent }
  | { readonly number: number; readonly fault: RecordFault };

/**
 * The events of JSONL, plain or compressed, one a line: signatures are not checked yet.
 * @throws DatasetError where its compression is damaged
 */
export async function* jsonlRecords(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<EventRecord> {
  for await (const line of linesOf(decompressed(bytes))) {
    const { number } = line;
    if ('refused' in line) yield { number, fault: line.refused };
    else yield { number, ...eventOf(line.text) };
  }
}

function eventOf(text: string): { event: IdentifiedEvent } | { fault: RecordFault } {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { fault: 'invalid_json' };
  }
  const parsed = parseEvent(value);
  return parsed.ok ? { event: parsed.event } : { fault: parsed.reason };
}

/** The bytes of a file, or of standard input for `-`. */
export function bytesOf(path: string, stdin: Readable = process.stdin): Readable {
  return path === '-' ? stdin : createReadStream(path, { highWaterMark: 256 * 1024 });
}
