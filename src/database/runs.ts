import type { Query } from './connection.ts';
import type { DescribedRow } from './descriptions.ts';

/** When commands that protect the archive ran last, and what they came to (the table runs). */

export interface CommandRun {
  readonly command: 'backup' | 'verify';
  /** Unix seconds. */
  readonly startedAt: number;
  readonly succeeded: boolean;
  /** What it came to, as a sentence. */
  readonly detail: string;
}

/** Records a run that has just ended. */
export async function recordRun(
  query: Query,
  { command, startedAt, succeeded, detail }: CommandRun,
): Promise<void> {
  await query('insert into runs (command, started_at, succeeded, detail) values ($1, $2, $3, $4)', [
    command,
    startedAt,
    succeeded,
    detail,
  ]);
}

const NAMES = [
  { command: 'backup', name: 'backup' },
  { command: 'verify', name: 'verification' },
] as const;

/** The latest runs as rows of the status; of one that failed also the latest that succeeded. */
export async function runRows(query: Query): Promise<DescribedRow[]> {
  const { rows } = await query<{
    command: string;
    succeeded: boolean;
    detail: string;
    ended: string;
    seconds: number;
    succeededAt: string | null;
  }>(
    `select r.command, r.succeeded, r.detail, utc_time(r.ended_at) as ended, r.ended_at - r.started_at as seconds,
            (select utc_time(s.ended_at) from runs s where s.command = r.command and s.succeeded order by s.run_id desc limit 1)
                as "succeededAt"
     from unnest($1::text[]) c (command)
     cross join lateral (select * from runs where command = c.command order by run_id desc limit 1) r`,
    [NAMES.map(({ command }) => command)],
  );
  return NAMES.flatMap(({ command, name }) => {
    const latest = rows.find((row) => row.command === command);
    if (!latest) return [row(`latest ${name}`, 'none is recorded', 'text')];
    const { succeeded, detail, ended, seconds, succeededAt } = latest;
    const outcome = `${succeeded ? 'succeeded' : 'failed'}: ${detail}, in ${seconds} s`;
    const earlier = succeeded
      ? []
      : [row(`latest ${name} that succeeded`, succeededAt ?? 'none is recorded', 'time')];
    return [
      row(`latest ${name}`, ended, 'time'),
      row(`${name} outcome`, outcome, 'text'),
      ...earlier,
    ];
  });
}

function row(name: string, value: string, unit: DescribedRow['unit']): DescribedRow {
  return { section: 'backups', name, value, unit };
}
