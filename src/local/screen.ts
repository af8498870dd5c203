import type { DescribedRow } from '../database/descriptions.ts';

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const YEAR = 365.25 * DAY;
const SPANS: readonly (readonly [seconds: number, unit: string])[] = [
  [YEAR, 'y'],
  [DAY, 'd'],
  [HOUR, 'h'],
  [MINUTE, 'min'],
  [1, 's'],
];
const BYTE_UNITS = ['bytes', 'kB', 'MB', 'GB', 'TB'];

/**
 * Rows as one readable screen: a paragraph a section, names and values in columns. A name that comes twice in a section
 * begins a paragraph of its own. Values may hold words of relays: control characters are replaced.
 *
 * @param nowMs the current time, for ages
 */
export function screenOf(rows: readonly DescribedRow[], nowMs = Date.now()): string {
  const sectionWidth = widthOf(rows.map(({ section }) => section));
  const nameWidth = widthOf(rows.map(({ name }) => name));
  const seen = new Set<string>();
  let last = '';
  const lines = rows.flatMap((row) => {
    const isNew = row.section !== last || (isMain(row) && seen.has(row.name));
    if (isNew) seen.clear();
    seen.add(row.name);
    last = row.section;
    const section = (isNew ? row.section : '').padEnd(sectionWidth);
    const line = `${section}  ${row.name.padEnd(nameWidth)}  ${shown(row, nowMs)}`;
    return isNew ? ['', line] : [line];
  });
  return `${lines.map(printable).join('\n').trimStart()}\n`;
}

/** The rows as JSON for programs. */
export function jsonOf(facts: Readonly<Record<string, unknown>>): string {
  return `${JSON.stringify(facts, null, 2)}\n`;
}

/** Whether a row stands once in its paragraph: some have several (parts, holes by reason). */
function isMain({ name }: DescribedRow): boolean {
  return name === 'filter' || name === 'latest visit';
}

const widthOf = (texts: readonly string[]) => Math.max(0, ...texts.map(({ length }) => length));

function shown({ value, unit, age }: DescribedRow, nowMs: number): string {
  const text = readable(value, unit, nowMs);
  if (age === null) return `${text} (no statistics yet)`;
  return age ? `${text} (by statistics of ${spanOf(age)} ago)` : text;
}

function readable(value: string, unit: DescribedRow['unit'], nowMs: number): string {
  if (unit === 'text') return value;
  if (unit === 'time') return timeOf(value, nowMs);
  if (unit === 'milliseconds') return `${Number(value).toLocaleString('en-US')} ms`;
  if (unit === 'share') return percentOf(Number(value));
  if (unit === 'bytes') return bytesOf(Number(value));
  const count = Number(value).toLocaleString('en-US');
  return unit === 'estimate' ? `about ${count}` : count;
}

function timeOf(iso: string, nowMs: number): string {
  const seconds = Math.round((Date.parse(iso) - nowMs) / 1000);
  if (Number.isNaN(seconds)) return iso; // a year beyond those that Date knows
  const span = seconds > 0 ? `in ${spanOf(seconds)}` : `${spanOf(-seconds)} ago`;
  return `${iso.slice(0, 10)} ${iso.slice(11, 19)} UTC (${span})`;
}

/** A length of time by its largest unit: 90 s are 1 min. */
function spanOf(seconds: number): string {
  const [size, unit] = SPANS.find(([length]) => seconds >= length) ?? [1, 's'];
  return `${Math.floor(seconds / size)} ${unit}`;
}

/** Rounded down: 100 % only where all is. */
function percentOf(share: number): string {
  return `${Math.floor(share * 10_000 + 1e-6) / 100} %`;
}

function bytesOf(bytes: number): string {
  const power = Math.min(Math.floor(Math.log10(Math.max(bytes, 1)) / 3), BYTE_UNITS.length - 1);
  const value = bytes / 1000 ** power;
  return `${power === 0 ? value : value.toFixed(1)} ${BYTE_UNITS[power]}`;
}

function printable(line: string): string {
  return line.replace(/\p{C}/gu, '\ufffd');
}
