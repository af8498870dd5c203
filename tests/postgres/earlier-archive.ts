import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { EARLIER_MIGRATIONS } from '../../src/database/earlier-migrations.ts';
import { projectFile } from '../processes/project.ts';

export const MIGRATIONS_FOLDER = projectFile('src/database/migrations');
/** The files of the migrations, in their order. */
export const MIGRATION_FILES: readonly string[] = readdirSync(MIGRATIONS_FOLDER).sort();
/** Their names, as they are recorded. */
export const MIGRATION_NAMES: readonly string[] = MIGRATION_FILES.map((file) =>
  file.replace(/\.sql$/, ''),
);
/** How many migrations of the unreleased version the baseline holds. */
export const FOLDED_COUNT = 9;

/** SQL of the first `count` migrations, the baseline among them. */
export function migrationsSql(count: number): string {
  const files = MIGRATION_FILES.slice(0, count);
  return files.map((file) => readFileSync(join(MIGRATIONS_FOLDER, file), 'utf8')).join('\n');
}

/** SQL that makes an archive as the unreleased version left it after `count` of its 17 migrations, 9 at least. */
export function earlierArchiveSql(count = FOLDED_COUNT): string {
  const names = EARLIER_MIGRATIONS.slice(0, count).map((name) => `('${name}')`);
  return `${migrationsSql(1 + count - FOLDED_COUNT)}
    insert into schema_migrations (name) values ${names.join(', ')};`;
}
