import { parseEvent } from '../nostr/event.ts';
import type { Verifier } from '../nostr/verify.ts';
import type { ArchiveReader } from './archive-reader.ts';
import type { StoredEvent } from './reading.ts';

const PROGRESS_MS = 2000;
/** Maximum number of differences reported one by one; the rest is counted. */
const MAX_NAMED = 100;

export interface VerifyOptions {
  /** Events to take at random; null for all. */
  readonly sample: number | null;
  /** Receives a line for each difference, and the figures at the end. */
  readonly onResult: (line: string) => void;
  /** Receives the figures so far, every two seconds. */
  readonly onProgress: (line: string) => void;
}

/**
 * Reads events back and checks their ids and signatures again.
 *
 * @returns how many events differ from what was stored
 * @throws DatabaseError
 */
export async function verifyArchive(
  archive: Pick<ArchiveReader, 'storedEvents' | 'sampledEvents'>,
  verifier: Verifier,
  { sample, onResult, onProgress }: VerifyOptions,
): Promise<number> {
  const startedMs = performance.now();
  let checked = 0;
  let different = 0;
  let reportedMs = startedMs;
  const events = sample === null ? archive.storedEvents() : archive.sampledEvents(sample);
  for await (const chunk of events) {
    for (const stored of chunk) {
      checked += 1;
      const difference = differenceOf(stored, verifier);
      if (difference === null) continue;
      different += 1;
      if (different <= MAX_NAMED) onResult(`${stored.id}  ${stored.place}  ${difference}`);
    }
    if (performance.now() - reportedMs > PROGRESS_MS) {
      reportedMs = performance.now();
      onProgress(figuresOf(checked, different, startedMs));
    }
  }
  onResult(figuresOf(checked, different, startedMs));
  return different;
}

/** The difference between an event as read back and as stored; null when it verifies. */
function differenceOf(stored: StoredEvent, verifier: Verifier): string | null {
  const parsed = parseEvent(stored.event);
  if (!parsed.ok) return parsed.reason;
  if (parsed.event.id !== stored.id) return 'stands under another id';
  return verifier.verify(parsed.event) ? null : 'bad_signature';
}

function figuresOf(checked: number, different: number, startedMs: number): string {
  const seconds = (performance.now() - startedMs) / 1000;
  const rate = Math.round(checked / Math.max(seconds, 0.001));
  return `${checked} events read back, ${different} different, ${seconds.toFixed(1)} s, ${rate} events/s`;
}
