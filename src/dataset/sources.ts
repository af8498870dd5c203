import { createHash } from 'node:crypto';
import { createReadStream, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { DatasetError } from './dataset-error.ts';
import { bytesOf, type EventRecord, jsonlRecords } from './event-records.ts';
import {
  MANIFEST_NAME,
  type Manifest,
  type ManifestFile,
  readManifest,
  SUMS_NAME,
} from './manifest.ts';
import { parquetRecords } from './parquet-reader.ts';
import { isParquet } from './parquet-rows.ts';

/** What an import or an inspection was given: files of events, alone or as a dataset. */

/** A file of events or observations. */
export interface EventFile {
  /** As it is named to people. */
  readonly name: string;
  /** `-`: standard input. */
  readonly path: string;
  /** What the manifest says of it; null without a manifest. */
  readonly described: ManifestFile | null;
}

export interface Source {
  /** Null for files that are no dataset. */
  readonly dataset: { readonly folder: string; readonly manifest: Manifest } | null;
  readonly files: readonly EventFile[];
  /** Files of observations, of a dataset that has some. */
  readonly observations: readonly EventFile[];
}

/** @throws DatasetError for a path that does not exist, and a folder without a manifest */
export function openSource(path: string): Source {
  if (path === '-') return alone('standard input', path);
  const stats = statSync(path, { throwIfNoEntry: false });
  if (!stats) throw new DatasetError(`${path} does not exist.`);
  if (!stats.isDirectory()) return alone(path, path);
  const manifest = readManifest(path);
  const holding = (...kinds: readonly ManifestFile['holds'][]): EventFile[] =>
    manifest.files
      .filter(({ holds }) => kinds.includes(holds))
      .map((described) => ({
        ...{ name: described.name, path: join(path, described.name), described },
      }));
  return {
    dataset: { folder: path, manifest },
    files: holding('events', 'set_aside'),
    observations: holding('observations'),
  };
}

function alone(name: string, path: string): Source {
  return { dataset: null, files: [{ name, path, described: null }], observations: [] };
}

/**
 * Compares the files of a dataset with its manifest and with SHA256SUMS.
 * @returns one sentence for each fault
 */
export async function checkFiles(folder: string, manifest: Manifest): Promise<string[]> {
  const faults = checkSums(folder, manifest);
  for (const { name, sha256, bytes } of manifest.files) {
    const path = join(folder, name);
    const stats = statSync(path, { throwIfNoEntry: false });
    if (!stats?.isFile()) faults.push(`${name} is missing.`);
    else if (stats.size !== bytes)
      faults.push(
        `${name} has ${stats.size} bytes where the manifest says ${bytes}: it is ${stats.size < bytes ? 'cut off' : 'another file'}.`,
      );
    else if ((await sha256Of(path)) !== sha256)
      faults.push(`${name} is damaged: its SHA-256 is not the one of the manifest.`);
  }
  return faults;
}

function checkSums(folder: string, manifest: Manifest): string[] {
  let text: string;
  try {
    text = readFileSync(join(folder, SUMS_NAME), 'utf8');
  } catch {
    return [`${SUMS_NAME} is missing.`];
  }
  const sums = new Map<string, string>();
  for (const line of text.split('\n').filter((each) => each !== ''))
    sums.set(line.slice(66), line.slice(0, 64));
  const manifestSum = createHash('sha256')
    .update(readFileSync(join(folder, MANIFEST_NAME)))
    .digest('hex');
  const expected = [...manifest.files, { name: MANIFEST_NAME, sha256: manifestSum }];
  const faults = expected
    .filter(({ name, sha256 }) => sums.get(name) !== sha256)
    .map(({ name }) =>
      sums.has(name)
        ? `${SUMS_NAME} has another checksum for ${name} than ${name === MANIFEST_NAME ? 'it has' : 'the manifest'}.`
        : `${SUMS_NAME} lacks ${name}.`,
    );
  const known = new Set(expected.map(({ name }) => name));
  const more = [...sums.keys()].filter((name) => !known.has(name));
  return [
    ...faults,
    ...more.map((name) => `${SUMS_NAME} names ${name}, and the manifest does not.`),
  ];
}

/** The SHA-256 of a file, in hex. */
export async function sha256Of(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: 1024 * 1024 }))
    hash.update(chunk as Buffer);
  return hash.digest('hex');
}

/** The events of a file: signatures are not checked yet. @throws DatasetError where it is damaged as a whole */
export async function* recordsOf({ path, name }: EventFile): AsyncGenerator<EventRecord> {
  try {
    if (await isParquet(path)) yield* parquetRecords(path);
    else yield* jsonlRecords(bytesOf(path));
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code !== undefined && /^E[A-Z]+$/.test(code))
      throw new DatasetError(`${name} cannot be read: ${message}.`);
    if (error instanceof DatasetError) throw new DatasetError(`${name}: ${message}.`);
    throw error;
  }
}
