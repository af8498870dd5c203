import { createHash } from 'node:crypto';
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { ConfigError } from '../config/load.ts';
import type { EventFilter } from '../nostr/filter.ts';
import type { Compression } from './compression.ts';
import { parseTime } from './months.ts';

export const EVENT_FORMATS = ['parquet', 'jsonl', 'jsonl.gz', 'jsonl.zst'] as const;
export type EventFormat = (typeof EVENT_FORMATS)[number];

/** What an export writes, and where. */
export interface ExportOptions {
  readonly folder: string;
  readonly format: EventFormat;
  /** Unix seconds: from `since` to before `until`; null: no limit. */
  readonly since: number | null;
  readonly until: number | null;
  readonly filter: EventFilter;
  /** Parts beside the events. */
  readonly observations: boolean;
  readonly relays: boolean;
  readonly coverage: boolean;
  readonly figures: boolean;
  readonly respectDeletions: boolean;
  readonly excludeAuthors: string | null;
  /** Whether a finished export in the folder is brought up to date. */
  readonly update: boolean;
}

export const EXPORT_USAGE = `npm run export -- --out FOLDER [options]
  --format FORMAT           parquet (default), jsonl, jsonl.gz or jsonl.zst
  --since TIME              first second of created_at: Unix seconds, 2023-05-01 or 2023-05-01T12:00:00Z
  --until TIME              the second after the last
  --filter JSON             a NIP-01 filter: ids, authors, kinds and tags
  --[no-]observations --[no-]relays --[no-]coverage --[no-]figures
                            which relay holds which event, what is known of relays, how complete each is, counts by
                            day; on for parquet, else off
  --respect-deletions       leaves out what authors asked to delete (NIP-09, NIP-62)
  --exclude-authors FILE    leaves out the events of these authors, one public key in hex a line
  --update                  brings a finished export in FOLDER up to date`;

const PARTS = ['observations', 'relays', 'coverage', 'figures'] as const;
const hexes = z.array(z.string().regex(/^[0-9a-f]{64}$/, 'takes 64 hex digits each')).min(1);
const filterShape = z
  .strictObject({
    ids: hexes.optional(),
    authors: hexes.optional(),
    kinds: z.array(z.number().int().min(0).max(65_535)).min(1).optional(),
  })
  .catchall(z.array(z.string()).min(1));

/** @throws ConfigError with all that is wrong, and how it is used */
export function parseExportOptions(args: readonly string[]): ExportOptions {
  const problems: string[] = [];
  const values = readArgs(args, problems);
  const folder = typeof values.out === 'string' ? values.out : '';
  if (folder === '') problems.push('--out names no folder');
  const format = (values.format ?? 'parquet') as EventFormat;
  if (!EVENT_FORMATS.includes(format))
    problems.push(`--format is ${format}: it takes ${EVENT_FORMATS.join(', ')}`);
  const time = (name: 'since' | 'until'): number | null => {
    const text = values[name];
    if (typeof text !== 'string') return null;
    const second = parseTime(text);
    if (second === null)
      problems.push(
        `--${name} is ${text}: it takes Unix seconds, 2023-05-01 or 2023-05-01T12:00:00Z`,
      );
    return second;
  };
  const [since, until] = [time('since'), time('until')];
  if (since !== null && until !== null && since >= until)
    problems.push('--since is not before --until: that time holds no second');
  const filter = parseFilter(values.filter, problems);
  const parts = Object.fromEntries(
    PARTS.map((name) => [name, values[name] ?? format === 'parquet']),
  ) as Record<(typeof PARTS)[number], boolean>;
  if (problems.length > 0) throw new ConfigError([...problems, `usage: ${EXPORT_USAGE}`]);
  return {
    ...{ folder, format, since, until, filter, ...parts },
    respectDeletions: values['respect-deletions'] === true,
    excludeAuthors: (values['exclude-authors'] as string | undefined) ?? null,
    update: values.update === true,
  };
}

function readArgs(
  args: readonly string[],
  problems: string[],
): Record<string, string | boolean | undefined> {
  const text = { type: 'string' } as const;
  const flag = { type: 'boolean' } as const;
  try {
    const { values } = parseArgs({
      args: [...args],
      allowNegative: true,
      options: {
        ...{ out: text, format: text, since: text, until: text, filter: text },
        ...{ observations: flag, relays: flag, coverage: flag, figures: flag },
        ...{ 'respect-deletions': flag, 'exclude-authors': text, update: flag },
      },
    });
    return values;
  } catch (error) {
    problems.push((error as Error).message);
    return { out: '-' };
  }
}

function parseFilter(text: unknown, problems: string[]): EventFilter {
  if (typeof text !== 'string') return {};
  try {
    const parsed = filterShape.safeParse(JSON.parse(text));
    const names = parsed.success ? Object.keys(parsed.data) : [];
    const odd = names.find((name) => !/^(ids|authors|kinds|#[A-Za-z])$/.test(name));
    if (parsed.success && odd === undefined) return parsed.data as EventFilter;
    const [issue] = parsed.error?.issues ?? [];
    const why = odd ? `it cannot have ${odd}` : `${issue?.path.join('.')}: ${issue?.message}`;
    problems.push(`--filter is no NIP-01 filter of ids, authors, kinds and tags: ${why}`);
  } catch {
    problems.push('--filter is no JSON');
  }
  return {};
}

/** The compression of JSONL in an export; that of Parquet has JSONL beside it. */
export function jsonlCompression(format: EventFormat): Compression {
  switch (format) {
    case 'jsonl':
      return 'none';
    case 'jsonl.zst':
      return 'zst';
    case 'jsonl.gz':
    case 'parquet':
      return 'gz';
  }
}

/** The same for all exports that write the same files from the same archive. */
export function optionsDigest({ folder: _, update: __, ...rest }: ExportOptions): string {
  return createHash('sha256').update(JSON.stringify(rest)).digest('hex');
}
