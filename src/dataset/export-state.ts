import { existsSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { EarlierSnapshot } from '../database/dataset-events.ts';
import { DatasetError } from './dataset-error.ts';
import { PARTIAL, writeWhole } from './file-writer.ts';
import { MANIFEST_NAME, type ManifestFile, SUMS_NAME } from './manifest.ts';
import type { LeftOutCounts } from './policy.ts';

/** What of an export is written, so that one that was broken off goes on, and a finished one is brought up to date. */

/** The file that says so. It is no part of the dataset. */
export const STATE_NAME = '.export.json';

/** The files of a month that are whole. */
export interface ExportedMonth {
  /** The archive as they show it. */
  readonly snapshot: EarlierSnapshot;
  /** `ExportPolicy.digest`. */
  readonly policy: string;
  readonly files: readonly ManifestFile[];
  readonly quarantined: number;
  readonly leftOut: Readonly<LeftOutCounts>;
}

export interface ExportState {
  readonly version: 1;
  /** `optionsDigest` */
  readonly options: string;
  readonly months: Record<string, ExportedMonth>;
}

/**
 * Opens the folder of an export.
 *
 * @throws DatasetError where the folder has something else, an export with other options, or a finished one that is not to
 * be brought up to date
 */
export function openExport(folder: string, options: string, update: boolean): ExportState {
  const names = existsSync(folder) ? readdirSync(folder) : [];
  if (names.length === 0) return { version: 1, options, months: {} };
  if (!names.includes(STATE_NAME))
    throw new DatasetError(
      `${folder} is not empty and holds no export of this program: name a new folder by --out.`,
    );
  const state = readState(join(folder, STATE_NAME));
  if (state.options !== options)
    throw new DatasetError(
      `${folder} holds an export with other options: name another folder by --out, or give the same options.`,
    );
  if (names.includes(MANIFEST_NAME) && !update)
    throw new DatasetError(`${folder} holds a finished export: --update brings it up to date.`);
  return state;
}

function readState(path: string): ExportState {
  try {
    const state = JSON.parse(readFileSync(path, 'utf8')) as ExportState;
    if (state.version === 1) return state;
  } catch {
    // as one of another version
  }
  throw new DatasetError(
    `${path} is not what this version of the program writes: name a new folder by --out.`,
  );
}

export async function writeState(folder: string, state: ExportState): Promise<void> {
  await writeWhole(folder, STATE_NAME, JSON.stringify(state));
}

/** Takes back that the dataset is whole: files of it are about to change. */
export function markUnfinished(folder: string): void {
  for (const name of [MANIFEST_NAME, SUMS_NAME]) rmSync(join(folder, name), { force: true });
}

/** Whether the files are there with the size that they had when they were whole. */
export function areThere(folder: string, files: readonly ManifestFile[]): boolean {
  return files.every(({ name, bytes }) => {
    const stats = statSync(join(folder, name), { throwIfNoEntry: false });
    return stats?.size === bytes;
  });
}

/** Deletes files of the folder that are no part of the dataset: of months that changed, and broken-off ones. */
export function removeStrays(folder: string, kept: ReadonlySet<string>): void {
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' });
  for (const name of names.map((each) => each.replaceAll('\\', '/'))) {
    const path = join(folder, name);
    if (kept.has(name) || statSync(path).isDirectory()) continue;
    if (isOurs(name)) rmSync(path);
  }
}

/** Whether an export could have written a file of this name. */
function isOurs(name: string): boolean {
  return (
    name.endsWith(PARTIAL) ||
    /^(events|set-aside|observations|figures)\/[\w-]+\.(parquet|jsonl(\.gz|\.zst)?)$/.test(name) ||
    /^(relays|coverage)\.(parquet|jsonl(\.gz|\.zst)?)$/.test(name)
  );
}
