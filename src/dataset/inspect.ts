import { existsSync } from 'node:fs';
import { createVerifier, type Verifier } from '../nostr/verify.ts';
import { DatasetError } from './dataset-error.ts';
import { FileCheck, PLACE_FAULTS } from './file-check.ts';
import { utcTime } from './months.ts';
import { number, Progress } from './progress.ts';
import { checkFiles, type EventFile, openSource, recordsOf } from './sources.ts';
import { type EventCounts, sumOfCounts } from './tally.ts';

/** Faults that are printed one by one; beyond, they are counted. */
const MAX_NAMED = 100;
const KINDS_NAMED = 10;

export interface InspectOutput {
  /** Receives what was found. */
  readonly onResult: (line: string) => void;
  readonly onProgress: (line: string) => void;
}

/** Faults by reason, the first of them one by one. */
class Faults {
  readonly #print: (line: string) => void;
  readonly #counts = new Map<string, number>();
  total = 0;

  constructor(print: (line: string) => void) {
    this.#print = print;
  }

  add(sentence: string, reason = 'file'): void {
    this.total += 1;
    this.#counts.set(reason, (this.#counts.get(reason) ?? 0) + 1);
    if (this.total <= MAX_NAMED) this.#print(sentence);
    if (this.total === MAX_NAMED) this.#print('Further faults are counted only.');
  }

  get line(): string {
    const reasons = [...this.#counts].map(([reason, count]) => `${number(count)} ${reason}`);
    return reasons.length > 0 ? `wrong: ${reasons.join(', ')}` : 'nothing is wrong';
  }
}

/**
 * Reads files or a dataset, without a database: counts, ranges, kinds, checksums, order, ids and signatures.
 *
 * @returns the exit code: 1 when something is wrong
 * @throws DatasetError where nothing can be inspected
 */
export async function inspect(path: string, output: InspectOutput): Promise<number> {
  const { dataset, files } = openSource(path);
  const faults = new Faults(output.onResult);
  if (dataset)
    for (const fault of await checkFiles(dataset.folder, dataset.manifest)) faults.add(fault);
  const total = dataset ? dataset.manifest.events.rows : null;
  const progress = new Progress(output.onProgress, 'events', total);
  const verifier = await createVerifier();
  const counts: EventCounts[] = [];
  for (const file of files) counts.push(await inspectFile(file, verifier, faults, progress));
  for (const line of summary(sumOfCounts(counts))) output.onResult(line);
  if (dataset) output.onResult(completeness(dataset.manifest.relays));
  output.onResult(`${number(files.length)} files, ${faults.line}.`);
  return faults.total === 0 ? 0 : 1;
}

async function inspectFile(
  file: EventFile,
  verifier: Verifier,
  faults: Faults,
  progress: Progress,
): Promise<EventCounts> {
  const check = new FileCheck();
  if (file.described && !existsSync(file.path)) return check.tally.counts; // named by checkFiles
  try {
    for await (const record of recordsOf(file)) {
      progress.add(1);
      const where = `${file.name}:${record.number}`;
      if ('fault' in record) {
        faults.add(`${where}: ${record.fault}`, record.fault);
        continue;
      }
      const { event } = record;
      const place = check.add(event);
      if (place !== null && file.described !== null)
        faults.add(`${where}: ${PLACE_FAULTS[place]}`, place);
      if (!verifier.verify(event))
        faults.add(`${where}: the signature of event ${event.id} is invalid`, 'bad_signature');
    }
  } catch (error) {
    if (!(error instanceof DatasetError)) throw error;
    faults.add(error.message);
    return check.tally.counts;
  }
  if (file.described)
    for (const difference of check.differences(file.described)) faults.add(difference);
  return check.tally.counts;
}

function summary({ rows, first_created_at, last_created_at, kinds }: EventCounts): string[] {
  if (first_created_at === null || last_created_at === null) return ['no events'];
  const most = Object.entries(kinds)
    .sort(([, a], [, b]) => b - a)
    .slice(0, KINDS_NAMED)
    .map(([kind, count]) => `${kind}: ${number(count)}`);
  const more = Object.keys(kinds).length - most.length;
  return [
    `${number(rows)} events from ${utcTime(first_created_at)} to ${utcTime(last_created_at)}`,
    `kinds: ${most.join(', ')}${more > 0 ? ` and ${number(more)} more` : ''}`,
  ];
}

function completeness(
  relays: readonly { wanted_seconds: number; proven_seconds: number }[],
): string {
  const whole = relays.filter((relay) => relay.proven_seconds === relay.wanted_seconds).length;
  return `${number(relays.length)} relays were read; all that was wanted is proven complete of ${number(whole)}`;
}
