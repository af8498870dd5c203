/** Months of UTC, in which datasets are divided: `2023-05`, of the year 10000 and later `12345-05`. */

const DAY = 86_400;

/** Days since 1970-01-01 of a month: from the first to the one after its last. */
export interface Month {
  readonly name: string;
  readonly firstDay: number;
  readonly endDay: number;
}

/** The month of a day, in days since 1970-01-01. */
export function monthOfDay(day: number): Month {
  const date = new Date(day * DAY * 1000);
  const [year, month] = [date.getUTCFullYear(), date.getUTCMonth()];
  const first = (index: number) => Date.UTC(year, index, 1) / (DAY * 1000);
  const name = `${String(year).padStart(4, '0')}-${String(month + 1).padStart(2, '0')}`;
  return { name, firstDay: first(month), endDay: first(month + 1) };
}

/** Days by their month, in their order. */
export function byMonth(days: readonly number[]): Map<string, number[]> {
  const months = new Map<string, number[]>();
  for (const day of days) {
    const { name } = monthOfDay(day);
    const of = months.get(name);
    if (of) of.push(day);
    else months.set(name, [day]);
  }
  return months;
}

/**
 * Seconds of a time that an operator writes: Unix seconds, `2023-05-01`, or `2023-05-01T12:00:00Z`. Null for anything else.
 */
export function parseTime(text: string): number | null {
  if (/^\d{1,12}$/.test(text)) return Number(text);
  if (!/^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d)?Z)?$/.test(text)) return null;
  const ms = Date.parse(text);
  return Number.isNaN(ms) ? null : Math.floor(ms / 1000);
}

/** `2023-05-01T12:00:00Z` of Unix seconds. */
export function utcTime(seconds: number): string {
  return new Date(seconds * 1000).toISOString().replace('.000Z', 'Z');
}
