import { type Row, table } from '../demo/table.ts';
import { type Result, rounded } from './measure.ts';

/** The rows as a table, and below it what helps to understand each. */
export function report(results: readonly Result[]): string {
  const rows: Row[] = results.map(({ row, what, unit, reference, ours, ratio, goal, met }) => ({
    row,
    what,
    unit,
    reference: reference ? rounded(reference.median) : null,
    ours: rounded(ours.median),
    ratio: ratio === null ? null : rounded(ratio),
    goal,
    met,
  }));
  const details = results.map(({ row, reference, ours, details }) => {
    const lines = Object.entries(details).map(([name, value]) => `    ${name}: ${value}`);
    const against = reference ? `, against "${reference.name}"` : '';
    return [`  ${row}: ours is "${ours.name}"${against}`, ...lines].join('\n');
  });
  return `${table(rows)}\n${details.join('\n')}\n`;
}
