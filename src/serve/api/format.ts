import { Problem } from './problem.ts';

/** The formats of lists. */
export const formats = ['json', 'ndjson', 'csv'] as const;
export type Format = (typeof formats)[number];

export const MEDIA_TYPES = {
  json: 'application/json',
  ndjson: 'application/x-ndjson',
  csv: 'text/csv',
} as const satisfies Record<Format, string>;

const CONTENT_TYPES: Record<Format, string> = {
  json: 'application/json; charset=utf-8',
  ndjson: 'application/x-ndjson; charset=utf-8',
  csv: 'text/csv; charset=utf-8; header=present',
};

export function contentTypeOf(format: Format): string {
  return CONTENT_TYPES[format];
}

/**
 * The format asked for: by the parameter, else the first one in `Accept` that there is, else JSON.
 * @throws Problem where `Accept` names others only
 */
export function formatOf(parameter: Format | undefined, accept: string | undefined): Format {
  if (parameter) return parameter;
  if (!accept) return 'json';
  for (const part of accept.toLowerCase().split(',')) {
    const [type = '', ...settings] = part.split(';').map((text) => text.trim());
    if (settings.some((text) => /^q=0(\.0*)?$/.test(text))) continue;
    const named = formats.find((format) => MEDIA_TYPES[format] === type);
    if (named) return named;
    if (type === '*/*' || type === 'application/*') return 'json';
    if (type === 'text/*') return 'csv';
  }
  throw new Problem(
    'not-acceptable',
    `Accept must allow ${Object.values(MEDIA_TYPES).join(', ')} or */*.`,
    { parameter: 'format' },
  );
}

/** A record of CSV (RFC 4180); arrays and objects as JSON, null as nothing. */
export function csvLine(values: readonly unknown[]): string {
  return `${values.map(csvField).join(',')}\r\n`;
}

function csvField(value: unknown): string {
  if (value === null || value === undefined) return '';
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
