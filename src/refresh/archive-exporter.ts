import { setTimeout as sleep } from 'node:timers/promises';
import { DatabaseError } from '../database/error.ts';
import type { Service } from '../runtime/service.ts';
import type { ArchivePart, ArchiveSample } from '../telemetry/archive-metrics.ts';

const PARTS = ['work', 'server', 'size'] as const satisfies readonly ArchivePart[];
/** What takes longer and changes slowly is read in every tenth round. */
const SLOW_PARTS = ['relays', 'coverage'] as const satisfies readonly ArchivePart[];
const SLOW_ROUNDS = 10;

type Needed = Pick<Service, 'logRepeated' | 'signal'> & {
  readonly read: (part: ArchivePart) => Promise<ArchiveSample[]>;
  readonly metrics: Pick<Service['metrics'], 'archiveRead'>;
};

/**
 * Reads figures of the whole archive for Prometheus until the service stops. A part that cannot be read keeps its values and
 * the time at which they were read.
 *
 * @param intervalSeconds from the end of one round to the next
 * @throws what is no failure of the database
 */
export async function exportArchive(service: Needed, intervalSeconds: number): Promise<void> {
  const { signal } = service;
  for (let round = 0; !signal.aborted; round += 1) {
    for (const part of PARTS) await exportPart(service, part);
    if (round % SLOW_ROUNDS === 0) for (const part of SLOW_PARTS) await exportPart(service, part);
    await sleep(intervalSeconds * 1000, undefined, { signal }).catch(() => {});
  }
}

async function exportPart(
  { read, metrics, signal, logRepeated }: Needed,
  part: ArchivePart,
): Promise<void> {
  if (signal.aborted) return;
  try {
    const samples = await read(part);
    metrics.archiveRead(part, samples, Date.now() / 1000);
  } catch (error) {
    if (!(error instanceof DatabaseError)) throw error;
    logRepeated({ part, reason: error.message }, 'metrics of the archive cannot be read');
  }
}
