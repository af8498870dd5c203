import type { ArchiveReader } from '../database/archive-reader.ts';
import type { Query } from '../database/connection.ts';
import {
  beginSnapshot,
  daysBetween,
  daysWithImported,
  estimateEvents,
  oneAtATime,
} from '../database/dataset-events.ts';
import {
  DATASET_TABLES,
  type DatasetTable,
  relayCompleteness,
  tableRows,
} from '../database/dataset-tables.ts';
import { programVersion } from '../runtime/archive-status.ts';
import { selectionOf } from '../serve/query/event-query.ts';
import { crashPoint } from '../telemetry/crash-point.ts';
import { DATASHEET_NAME, datasheetText } from './datasheet.ts';
import { type Exporting, exportMonth, unchangedMonths } from './export-months.ts';
import { type ExportOptions, optionsDigest } from './export-options.ts';
import {
  type ExportState,
  markUnfinished,
  openExport,
  removeStrays,
  STATE_NAME,
  writeState,
} from './export-state.ts';
import { writeWhole } from './file-writer.ts';
import { writeTable } from './formats.ts';
import {
  MANIFEST_NAME,
  MANIFEST_VERSION,
  type Manifest,
  type ManifestFile,
  manifestText,
  SUMS_NAME,
  sumsText,
} from './manifest.ts';
import { byMonth } from './months.ts';
import { readPolicy } from './policy.ts';
import { number, Progress } from './progress.ts';
import { NO_EVENTS, sumOfCounts } from './tally.ts';

const DAY = 86_400;
/** The last day that an event can have. */
const LAST_DAY = Math.floor((2 ** 39 - 1) / DAY);

/**
 * Writes a dataset, or goes on with one that was broken off. Everything is read in one repeatable-read transaction, and
 * what was written before is taken over where nothing of its days has changed.
 *
 * @param print receives lines for people
 * @returns the manifest of the dataset
 * @throws DatasetError, DatabaseError
 */
export async function exportDataset(
  archive: Pick<ArchiveReader, 'read'>,
  options: ExportOptions,
  print: (line: string) => void,
): Promise<Manifest> {
  const state = openExport(options.folder, optionsDigest(options), options.update);
  const tool = `bigbrotr ${await programVersion()}`;
  // After a lost connection it begins again with another snapshot, and takes over what is written.
  return await archive.read((query) =>
    exportOnce(oneAtATime(query), options, state, { print, tool }),
  );
}

interface Output {
  readonly print: (line: string) => void;
  /** Program and version. */
  readonly tool: string;
}

async function exportOnce(
  query: Query,
  options: ExportOptions,
  state: ExportState,
  { print, tool }: Output,
): Promise<Manifest> {
  const snapshot = await beginSnapshot(query);
  const { folder } = options;
  const { since, until } = options;
  const window = {
    ...(since !== null && { since }),
    ...(until !== null && { until: until - 1 }),
  };
  const selection = selectionOf({ ...options.filter, ...window });
  if (selection === null) throw new Error('the options select nothing');
  const [first, last] = [since ?? 0, (until ?? (LAST_DAY + 1) * DAY) - 1];
  const { days, withAside } = await daysBetween(
    query,
    Math.floor(first / DAY),
    Math.min(LAST_DAY, Math.floor(last / DAY)),
  );
  const policy = await readPolicy(query, options.respectDeletions, options.excludeAuthors);
  const isWhole = since === null && until === null && Object.keys(options.filter).length === 0;
  const months = byMonth(days);
  const progress = new Progress(
    print,
    'events',
    isWhole && Object.keys(state.months).length === 0 ? await estimateEvents(query) : null,
  );
  const exporting: Exporting = {
    ...{ query, options, selection, policy, snapshot, withAside, progress },
    withImported: await daysWithImported(query),
  };
  const { same, unknown } = await unchangedMonths(exporting, months, state);
  if (unknown > 0)
    print(
      `${number(unknown)} months are written again: the journal of the archive does not say what changed in them since.`,
    );
  else if (same.size > 0) print(`${number(same.size)} months are unchanged.`);
  markUnfinished(folder);
  for (const name of Object.keys(state.months)) if (!months.has(name)) delete state.months[name];
  for (const [name, ofMonth] of months) {
    if (same.has(name)) continue;
    state.months[name] = await exportMonth(exporting, name, ofMonth);
    crashPoint('month-exported', '');
    await writeState(folder, state);
  }
  return await finishExport(exporting, state, { print, tool });
}

/** Writes what is of the whole dataset: tables, datasheet, manifest and sums. */
async function finishExport(
  { query, options, snapshot, policy, progress }: Exporting,
  state: ExportState,
  { print, tool }: Output,
): Promise<Manifest> {
  const { folder, since, until } = options;
  const window = { since, until };
  const months = Object.keys(state.months)
    .sort((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10) || (a < b ? -1 : 1))
    .map((name) => state.months[name])
    .filter((month) => month !== undefined);
  const files: ManifestFile[] = months.flatMap((month) => month.files);
  for (const table of DATASET_TABLES.filter((each) => isWanted(each, options)))
    files.push(await writeTable(options, table, tableRows(query, table, window)));
  const sum = (of: 'deleted' | 'vanished' | 'excluded_authors') =>
    months.reduce((total, { leftOut }) => total + leftOut[of], 0);
  const events = files.filter(({ holds }) => holds === 'events' || holds === 'set_aside');
  const { journal, schema } = snapshot;
  const manifest: Manifest = {
    ...{ format: 'bigbrotr-dataset', version: MANIFEST_VERSION },
    tool,
    archive: {
      ...{ schema, read_in: 'one repeatable-read transaction' },
      journal: journal && {
        ...{ xid: journal.xid, batch_id: journal.batchId, written_at: journal.writtenAt },
      },
    },
    ...{ window, filter: { ...options.filter }, event_format: options.format },
    events: {
      ...sumOfCounts(events),
      set_aside: files.reduce(
        (total, { holds, rows }) => total + (holds === 'set_aside' ? rows : 0),
        0,
      ),
      quarantined: months.reduce((total, { quarantined }) => total + quarantined, 0),
    },
    left_out: {
      ...{ deleted: sum('deleted'), vanished: sum('vanished') },
      excluded_authors: sum('excluded_authors'),
      respects_deletions: options.respectDeletions,
      excluded_authors_sha256: policy.excludedAuthorsSha256,
    },
    relays: (await relayCompleteness(query, window)).map((relay) => ({
      ...relay,
      largest_gaps: [...relay.largest_gaps],
    })),
    files,
  };
  await writeEnd(folder, manifest, state);
  print(`${progress.line}. ${number(manifest.events.rows)} events are in ${folder}.`);
  return manifest;
}

/** Writes the datasheet, then the manifest and the sums, which make the dataset whole. */
async function writeEnd(folder: string, manifest: Manifest, state: ExportState): Promise<void> {
  const sheet = await writeWhole(folder, DATASHEET_NAME, datasheetText(manifest));
  manifest.files.push({ ...sheet, holds: 'text', ...NO_EVENTS });
  manifest.files.sort((a, b) => (a.name < b.name ? -1 : 1));
  await writeState(folder, state);
  const kept = manifest.files.map(({ name }) => name);
  removeStrays(folder, new Set([...kept, STATE_NAME]));
  const written = await writeWhole(folder, MANIFEST_NAME, manifestText(manifest));
  await writeWhole(folder, SUMS_NAME, sumsText([...manifest.files, written]));
}

function isWanted({ holds }: DatasetTable, options: ExportOptions): boolean {
  return options[holds];
}
