import type { Query } from './connection.ts';

/** Descriptions of one relay, and of the archive: rows of names and values (explain_relay, archive_status in init.sql). */

/** How a value is to be read. `time`: UTC, ISO 8601; `estimate`: a count, about; `share`: 0 to 1. */
export type Unit = 'text' | 'time' | 'count' | 'estimate' | 'share' | 'milliseconds' | 'bytes';

export interface DescribedRow {
  readonly section: string;
  readonly name: string;
  readonly value: string;
  readonly unit: Unit;
  /** Maximum age of the value, in seconds; null: no statistics for an estimate yet. Absent: current. */
  readonly age?: number | null;
}

/** A row; a number becomes the nearest whole one. */
export function describedRow(
  section: string,
  name: string,
  value: number | string,
  unit: Unit,
): DescribedRow {
  const text = typeof value === 'number' ? String(Math.round(value)) : value;
  return { section, name, value: text, unit };
}

/** The settings by which relays are visited, in seconds. */
export interface VisitTimes {
  /** From the start of a visit to the next one. */
  readonly visitIntervalSeconds: number;
  /** An older snapshot does not make a relay readable. */
  readonly readableWithinSeconds: number;
}

/** Describes one relay; for an unknown one returns the most similar known URLs. Reads indexes only. */
export async function explainRelay(
  query: Query,
  url: string,
  { visitIntervalSeconds, readableWithinSeconds }: VisitTimes,
): Promise<DescribedRow[]> {
  const { rows } = await query<DescribedRow & Record<string, unknown>>(
    'select section, name, value, unit from explain_relay($1, $2, $3)',
    [url, visitIntervalSeconds, readableWithinSeconds],
  );
  return rows;
}

/** Describes the state of the archive. Large tables are estimated. */
export async function archiveStatus(query: Query): Promise<DescribedRow[]> {
  const { rows } = await query<DescribedRow & Record<string, unknown>>(
    'select section, name, value, unit, age from archive_status',
  );
  return rows;
}
