import { parseArgs } from 'node:util';
import { ConfigError } from '../config/load.ts';

export interface ImportOptions {
  /** Files, folders or `-`. */
  readonly paths: readonly string[];
  /** Whether files that were imported completely are read again. */
  readonly again: boolean;
  /** Whether the observations of datasets are taken. */
  readonly trustObservations: boolean;
}

const USAGE = `npm run import -- FILE|FOLDER|- … [--again] [--trust-observations]
  FILE    JSONL, plain or compressed by gzip or zstd, or Parquet in the profile of Nostr archives
  FOLDER  a dataset with its manifest.json
  -       JSONL from standard input
  --again reads a file again that was imported completely
  --trust-observations
          takes over which relay is said to hold which event, marked as imported`;

/** @throws ConfigError with how it is used */
export function parseImportOptions(args: readonly string[]): ImportOptions {
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: { again: { type: 'boolean' }, 'trust-observations': { type: 'boolean' } },
    });
    if (positionals.length > 0)
      return {
        ...{ paths: positionals, again: values.again === true },
        trustObservations: values['trust-observations'] === true,
      };
  } catch (error) {
    throw new ConfigError([(error as Error).message, `usage: ${USAGE}`]);
  }
  throw new ConfigError(['no file is named', `usage: ${USAGE}`]);
}

/** The one path of `npm run inspect`. @throws ConfigError with how it is used */
export function parseInspectPath(args: readonly string[]): string {
  const [path, ...more] = args;
  if (path !== undefined && more.length === 0 && (path === '-' || !path.startsWith('-')))
    return path;
  throw new ConfigError([
    'name one file or folder',
    'usage: npm run inspect -- FILE|FOLDER|-: JSONL, plain or compressed by gzip or zstd, Parquet, or a dataset with its manifest.json',
  ]);
}
