import { describe, expect, test } from 'vitest';
import { EARLIER_MIGRATIONS } from '../../../src/database/earlier-migrations.ts';
import { SCHEMA_VERSION, schemaOf } from '../../../src/database/version.ts';

const EIGHT = EARLIER_MIGRATIONS.slice(0, 8);

describe('schemaOf()', () => {
  test.for([
    ['this version', ['0001_baseline', SCHEMA_VERSION], 'current', SCHEMA_VERSION],
    ['the baseline alone', ['0001_baseline'], 'older', '0001_baseline'],
    ['nothing', [], 'older', null],
    ['a later version', [SCHEMA_VERSION, '9999_x'], 'newer', '9999_x'],
    ['the nine that the baseline folds', EARLIER_MIGRATIONS.slice(0, 9), 'older', null],
    ['all earlier ones', EARLIER_MIGRATIONS, 'older', null],
    ['earlier ones and a later one', [...EARLIER_MIGRATIONS, '9999_x'], 'newer', '9999_x'],
    ['eight earlier ones', EIGHT, 'too_old', null],
    ['a gap in the first nine', [...EIGHT, EARLIER_MIGRATIONS[9] ?? ''], 'too_old', null],
    ['a gap after them', EARLIER_MIGRATIONS.filter((_, at) => at !== 10), 'too_old', null],
  ] as const)('an archive with %s', ([, names, state, newest]) => {
    expect(schemaOf(names)).toEqual({ state, newest, names });
  });
});
