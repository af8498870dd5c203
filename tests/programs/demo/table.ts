/** One row of a table by the names of its columns, as a query gives it. */
export type Row = Readonly<Record<string, unknown>>;

/** Rows as lines of aligned text, the names of the columns above them; numbers stand to the right. */
export function table(rows: readonly Row[], indent = '  '): string {
  const names = Object.keys(rows[0] ?? {});
  if (names.length === 0) return `${indent}(no rows)\n`;
  const columns = names.map((name) => {
    const cells = [name, ...rows.map((row) => text(row[name]))];
    const width = Math.max(...cells.map((cell) => cell.length));
    const isNumeric = rows.every((row) => row[name] === null || typeof row[name] === 'number');
    return cells.map((cell) => (isNumeric ? cell.padStart(width) : cell.padEnd(width)));
  });
  const lines = [names, ...rows].map((_, index) => columns.map((cells) => cells[index]).join('  '));
  return lines.map((line) => `${indent}${line.trimEnd()}\n`).join('');
}

function text(value: unknown): string {
  if (value === null || value === undefined) return '-';
  if (typeof value === 'boolean') return value ? 'yes' : 'no';
  return String(value);
}
