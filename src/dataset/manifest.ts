import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { DatasetError } from './dataset-error.ts';

/** `manifest.json`: what is in a dataset, what is missing of it, and what its files have to be. */

export const MANIFEST_NAME = 'manifest.json';
export const SUMS_NAME = 'SHA256SUMS';
/** Version of the manifest; a change that an older program would misread raises it. */
export const MANIFEST_VERSION = 1;

const count = z.number().int().min(0);
const seconds = z.number().int().describe('Unix seconds');
const hex64 = z.string().regex(/^[0-9a-f]{64}$/);
const kinds = z.record(z.string().regex(/^\d{1,5}$/), count).describe('events by kind');

const fileShape = z.strictObject({
  name: z
    .string()
    .regex(/^(?!\/)(?!(.*\/)?\.\.?(\/|$))[^\\\0]+$/)
    .describe('path in the dataset, with slashes'),
  holds: z.enum(['events', 'set_aside', 'observations', 'relays', 'coverage', 'figures', 'text']),
  sha256: hex64,
  bytes: count,
  rows: count.describe('lines or rows; 0 of a text'),
  first_created_at: seconds.nullable(),
  last_created_at: seconds.nullable(),
  kinds,
});

const gapShape = z.strictObject({
  since: seconds,
  until: seconds.describe('Unix seconds, exclusive'),
});

const relayShape = z.strictObject({
  url: z.string(),
  filter: z.string().describe('the filter with which it is read, as JSON; {}: every event'),
  wanted_seconds: count.describe('seconds of the window that were wanted of it'),
  proven_seconds: count.describe('those that are proven complete'),
  gaps: count.describe('stretches that are not proven'),
  largest_gaps: z.array(gapShape).describe('the largest of them, at most ten, in order of time'),
});

export const manifestShape = z.strictObject({
  format: z.literal('bigbrotr-dataset'),
  version: z.literal(MANIFEST_VERSION),
  tool: z.string().describe('program and version that wrote it'),
  archive: z.strictObject({
    schema: z.string().describe('newest migration of the archive'),
    read_in: z.literal('one repeatable-read transaction'),
    journal: z
      .strictObject({ xid: z.string(), batch_id: z.string(), written_at: seconds })
      .nullable()
      .describe('latest row of the journal that it includes; null: the journal was empty'),
  }),
  window: z.strictObject({
    since: seconds.nullable().describe('Unix seconds, inclusive; null: no limit'),
    until: seconds.nullable().describe('Unix seconds, exclusive; null: no limit'),
  }),
  filter: z.record(z.string(), z.unknown()).describe('NIP-01 filter; {}: every event'),
  event_format: z.enum(['parquet', 'jsonl', 'jsonl.gz', 'jsonl.zst']),
  events: z.strictObject({
    rows: count,
    set_aside: count.describe(
      'those of them that Parquet cannot hold: they are in JSONL beside it',
    ),
    quarantined: count.describe('those of them that PostgreSQL cannot hold in its columns'),
    first_created_at: seconds.nullable(),
    last_created_at: seconds.nullable(),
    kinds,
  }),
  left_out: z
    .strictObject({
      deleted: count.describe('events whose author asked to delete them (NIP-09)'),
      vanished: count.describe('events whose author asked to vanish (NIP-62)'),
      excluded_authors: count.describe('events of authors that were excluded by a list'),
      respects_deletions: z.boolean(),
      excluded_authors_sha256: hex64.nullable().describe('of that list'),
    })
    .describe('what is archived and was left out on purpose'),
  relays: z.array(relayShape).describe('how complete each relay is in the window'),
  files: z.array(fileShape),
});

export type Manifest = z.infer<typeof manifestShape>;
export type ManifestFile = Manifest['files'][number];
export type ManifestRelay = Manifest['relays'][number];

/** The JSON Schema of `manifest.json` (draft 2020-12), as docs/dataset-manifest.schema.json publishes it. */
export function manifestJsonSchema(): object {
  return {
    $id: 'urn:bigbrotr:dataset-manifest:1',
    title: 'manifest.json of a Bigbrotr dataset',
    ...z.toJSONSchema(manifestShape),
  };
}

/** The manifest as it is written: keys and files in a fixed order, one line for each file and relay. */
export function manifestText(manifest: Manifest): string {
  const { relays, files, ...rest } = manifest;
  const lines = (list: readonly object[]) =>
    list.length === 0
      ? '[]'
      : `[\n    ${list.map((item) => JSON.stringify(item)).join(',\n    ')}\n  ]`;
  const head = JSON.stringify(rest, null, 2).replace(/\n\}$/, '');
  return `${head},\n  "relays": ${lines(relays)},\n  "files": ${lines(files)}\n}\n`;
}

/** `SHA256SUMS` as `sha256sum -c` reads it: every file of the manifest, and the manifest. */
export function sumsText(files: readonly { name: string; sha256: string }[]): string {
  return [...files]
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .map(({ name, sha256 }) => `${sha256}  ${name}\n`)
    .join('');
}

/** @throws DatasetError where a folder has no manifest, or one that this version does not understand */
export function readManifest(folder: string): Manifest {
  const path = join(folder, MANIFEST_NAME);
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw new DatasetError(
      code === 'ENOENT'
        ? `${folder} has no ${MANIFEST_NAME}: it is no dataset, or its export did not end.`
        : `${path} cannot be read: ${message}.`,
    );
  }
  const version = (value as { version?: unknown } | null)?.version;
  if (typeof version === 'number' && version > MANIFEST_VERSION)
    throw new DatasetError(
      `${path} has version ${version}, and this program knows ${MANIFEST_VERSION}: use a newer Bigbrotr.`,
    );
  const parsed = manifestShape.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new DatasetError(
    `${path} is no manifest of a dataset: ${issue?.path.join('.') || 'it'}: ${issue?.message ?? 'invalid'}.`,
  );
}
