import type pg from 'pg';

/** Names of migrations of the unreleased version before they were folded into `0001_baseline`. */

/** The baseline is the schema after these migrations. */
const FOLDED = [
  '0001_manners-and-holes',
  '0002_sightings',
  '0003_checks',
  '0004_uptime',
  '0005_finder',
  '0006_tagvalues',
  '0007_page-limit-at',
  '0008_grants',
  '0009_events-by-time',
];
const BASELINE = '0001_baseline';

/** The migrations after these, with their present names. */
const RENAMED: Readonly<Record<string, string>> = {
  '0010_visit-reasons': '0002_visit-reasons',
  '0011_withheld': '0003_withheld',
  '0012_request-shape': '0004_request-shape',
  '0013_retry-after': '0005_retry-after',
  '0014_schedule': '0006_schedule',
  '0015_unanswered': '0007_unanswered',
  '0016_withheld-kinds': '0008_withheld-kinds',
  '0017_network-down': '0009_network-down',
};

/** All earlier names, in the order in which the migrations were applied. */
export const EARLIER_MIGRATIONS: readonly string[] = [...FOLDED, ...Object.keys(RENAMED)];

export function isEarlier(name: string): boolean {
  return EARLIER_MIGRATIONS.includes(name);
}

/** Whether an archive with these earlier migrations has the baseline: all folded ones, and no gap in those after it. */
export function hasBaseline(earlier: ReadonlySet<string>): boolean {
  const prefix = EARLIER_MIGRATIONS.slice(0, earlier.size);
  return earlier.size >= FOLDED.length && prefix.every((name) => earlier.has(name));
}

/** How many of the migrations that the baseline folds are among these names, as `5 of 9`. */
export function foldedShare(names: Iterable<string>): string {
  return `${[...names].filter((name) => FOLDED.includes(name)).length} of ${FOLDED.length}`;
}

/**
 * Renames the earlier migrations of an archive that has the baseline, in the transaction of its caller.
 * @returns how many there were
 */
export async function renameEarlier(client: pg.ClientBase): Promise<number> {
  const { rowCount } = await client.query('select from schema_migrations where name = any ($1)', [
    EARLIER_MIGRATIONS,
  ]);
  if (!rowCount) return 0;
  const [first, ...folded] = FOLDED;
  await client.query('delete from schema_migrations where name = any ($1)', [folded]);
  await client.query(
    `update schema_migrations m set name = t.name
     from unnest($1::text[], $2::text[]) as t (earlier, name)
     where m.name = t.earlier`,
    [
      [first, ...Object.keys(RENAMED)],
      [BASELINE, ...Object.values(RENAMED)],
    ],
  );
  return rowCount;
}
