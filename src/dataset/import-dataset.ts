import type { DatabaseConfig } from '../config/load.ts';
import { Bigbrotr } from '../database/bigbrotr.ts';
import { createVerifier, type Verifier } from '../nostr/verify.ts';
import { createLogger } from '../telemetry/logger.ts';
import { DatasetError } from './dataset-error.ts';
import { FileImport, type ImportTotals, newTotals } from './file-import.ts';
import type { ImportOptions } from './import-options.ts';
import { importObservations, type ObservationTotals } from './observation-import.ts';
import { number, Progress } from './progress.ts';
import { checkFiles, type EventFile, openSource, sha256Of } from './sources.ts';

/** Refused records that are printed one by one; beyond, they are counted. */
const MAX_NAMED = 100;
/** Faults of files that are named when a dataset is refused. */
const MAX_FAULTS = 10;

/**
 * Imports files and datasets. Every event is verified as one from a relay is. Coverage and sightings stay as they are.
 * What was imported before is known, and an import that was broken off goes on where it was.
 *
 * @param print receives refused records, progress and figures
 * @returns the exit code: 1 when something was refused
 * @throws DatasetError, DatabaseError
 */
export async function importDatasets(
  database: DatabaseConfig,
  options: ImportOptions,
  print: (line: string) => void,
): Promise<number> {
  const bigbrotr = await Bigbrotr.connect(database, createLogger('import', 'warn'));
  try {
    const importing: Importing = {
      ...{ bigbrotr, options, print, totals: newTotals() },
      observed: { sightings: 0, refused: 0 },
      verifier: await createVerifier(),
    };
    for (const path of options.paths) await importPath(importing, path);
    const { totals, observed } = importing;
    if (options.trustObservations) print(observationsLine(observed));
    print(totalsLine(totals));
    return Object.keys(totals.refused).length === 0 ? 0 : 1;
  } finally {
    await bigbrotr.close();
  }
}

interface Importing {
  readonly bigbrotr: Bigbrotr;
  readonly options: ImportOptions;
  readonly verifier: Verifier;
  readonly totals: ImportTotals;
  readonly observed: ObservationTotals;
  readonly print: (line: string) => void;
}

async function importPath(importing: Importing, path: string): Promise<void> {
  const { bigbrotr, options, print, totals, verifier } = importing;
  const { dataset, files, observations } = openSource(path);
  if (dataset) {
    const faults = await checkFiles(dataset.folder, dataset.manifest);
    if (faults.length > 0) throw refusal(path, faults);
  }
  const progress = new Progress(print, 'records', dataset ? dataset.manifest.events.rows : null);
  const onRefused = (line: string) => {
    totals.named += 1;
    if (totals.named <= MAX_NAMED) print(line);
    if (totals.named === MAX_NAMED) print('Further refused records are counted only.');
  };
  for (const file of files)
    await importFile(importing, file, (importId, done) =>
      new FileImport({ bigbrotr, verifier, file, importId, totals, progress, onRefused }).run(done),
    );
  if (!options.trustObservations) return;
  const observing = new Progress(print, 'observations', null);
  for (const file of observations)
    await importFile(importing, file, (importId, done) =>
      importObservations(bigbrotr, file, { importId, done }, importing.observed, observing),
    );
}

/** Begins the import of a file, or goes on with it, or leaves it out where it was completed. */
async function importFile(
  { bigbrotr, options, print }: Importing,
  file: EventFile,
  run: (importId: number, done: number) => Promise<void>,
): Promise<void> {
  const sha256 = file.described?.sha256 ?? (file.path === '-' ? null : await sha256Of(file.path));
  const { importId, records, endedAt } = await bigbrotr.imports.begin(file.path, sha256);
  if (endedAt !== null && !options.again) {
    print(`${file.name} was imported before (--again reads it again).`);
    return;
  }
  if (endedAt !== null) await bigbrotr.imports.restart(importId);
  else if (records > 0) print(`${file.name} goes on after ${number(records)} records.`);
  await run(importId, endedAt === null ? records : 0);
  await bigbrotr.imports.end(importId);
}

function refusal(path: string, faults: readonly string[]): DatasetError {
  const more = faults.length - MAX_FAULTS;
  return new DatasetError(
    [
      `${path} is not imported, because its files are not those of its manifest:`,
      ...faults.slice(0, MAX_FAULTS),
      ...(more > 0 ? [`and ${more} more`] : []),
    ].join('\n  - '),
  );
}

/** `1,200 events are new, 40 were known, 2 set aside; refused: 1 bad_signature`. */
export function totalsLine({ events, known, quarantined, refused }: ImportTotals): string {
  const reasons = Object.entries(refused).map(([reason, count]) => `${number(count)} ${reason}`);
  return `${number(events)} events are new, ${number(known)} were known, ${number(quarantined)} set aside; refused: ${reasons.join(', ') || 'none'}`;
}

function observationsLine({ sightings, refused }: ObservationTotals): string {
  return `${number(sightings)} observations are new, ${number(refused)} refused`;
}
