import pg from 'pg';
import type { Program } from '../processes/programs.ts';

/** The figures of the summary that `--once` ends with; indented ones by their heading, as `events/new in this round`. */
export function summaryOf(program: Program): Record<string, number> {
  const figures: Record<string, number> = {};
  let heading = '';
  for (const line of program.out) {
    const [, indent, name = '', value = ''] = /^( *)(\S.*?) {2,}([\d,.]+)$/.exec(line) ?? [];
    if (!name) continue;
    if (!indent) heading = name;
    figures[indent ? `${heading}/${name}` : name] = Number(value.replaceAll(',', ''));
  }
  return figures;
}

/** The connection string of the line `psql "..."`. */
export function connectionStringOf(program: Program): string {
  const line = program.out.find((text) => text.startsWith('psql "'));
  const [, connectionString] = /"(.+)"/.exec(line ?? '') ?? [];
  if (!connectionString) throw new Error(`no psql line:\n${program.said}`);
  return connectionString;
}

/** The rows of one statement, over a connection of its own. */
export async function ask<Row extends object>(
  database: string | pg.ClientConfig,
  sql: string,
  values: unknown[] = [],
): Promise<Row[]> {
  const client = new pg.Client(database);
  client.on('error', () => {}); // what is asked fails by itself when the server is killed
  await client.connect();
  try {
    return (await client.query<Row>(sql, values)).rows;
  } finally {
    await client.end();
  }
}
