/**
 * Tests of the project `db` that are not run against Citus (TEST_CITUS_PORTS), each with its reason: citus-setup.ts skips
 * them. What is not named here holds on Citus as on one server.
 */
export interface CitusException {
  /** Of `tests/db`. */
  readonly file: string;
  /** Beginnings of the names of tests; absent: the whole file. */
  readonly tests?: readonly string[];
  readonly reason: string;
}

const TRIGGER = 'the test makes a trigger on a distributed table, which Citus refuses';
const OWN_SERVER = 'the test knows the login, the plans or the statistics of one server';
const SCHEMA =
  'compares the catalogue of one server: the archive of Citus has its views, settings and replica identity';

const LATEST =
  'the views of current events join them with a table of the coordinator, which is refused (docs/citus.md)';

export const CITUS_EXCEPTIONS: readonly CitusException[] = [
  {
    file: 'database/bigbrotr.test.ts',
    tests: [
      'sets aside the row that breaks the batch',
      'sends the bodies of a batch once, though another writer has stored some of its events',
      'stores two new events that draw the same key',
    ],
    reason: TRIGGER,
  },
  {
    file: 'database/store-races.test.ts',
    tests: ['by eight writers', 'two batches that'],
    reason: TRIGGER,
  },
  {
    file: 'sync/visit-live-connection.test.ts',
    tests: [
      'does not time out while a commit of its live events is slow',
      'stores received events and closes the connections',
      'of the database releases the relay; the next visit closes the gap',
    ],
    reason: TRIGGER,
  },
  {
    file: 'database/database.test.ts',
    tests: ['with a wrong password fails at once'],
    reason: OWN_SERVER,
  },
  {
    file: 'database/init-sql.test.ts',
    tests: [
      'every table, view, column and function has a comment',
      'sightings are found through an index, by event and by relay',
    ],
    reason: OWN_SERVER,
  },
  {
    file: 'database/explain-relay.test.ts',
    tests: ['reads neither events nor sightings as a whole'],
    reason: OWN_SERVER,
  },
  { file: 'monitor/checks.test.ts', tests: ['of one relay uses indexes'], reason: OWN_SERVER },
  {
    file: 'database/archive-status.test.ts',
    tests: ['estimates a large table without reading it', 'estimates the events of a time range'],
    reason: 'the test changes a distributed table by commands that Citus refuses',
  },
  {
    file: 'database/archive-status.test.ts',
    tests: ['counts events and sightings, the proven share, and claims'],
    reason: 'a batch over several shards has a row of the journal for each',
  },
  {
    file: 'database/journal.test.ts',
    tests: ['has the new events of a batch and the days it changed'],
    reason: 'a batch over several shards has a row of the journal for each',
  },
  {
    file: 'database/days.test.ts',
    tests: [
      'change nothing in what is stored and found; each has its own row of the journal',
      'costs two ways to the server',
    ],
    reason: 'the test is of one server; tests/db/citus counts the statements of a batch',
  },
  {
    file: 'database/import-python.test.ts',
    reason: 'the test drops the schema of a database, and with it the extension',
  },
  { file: 'database/migrations.test.ts', reason: SCHEMA },
  {
    file: 'database/migrate-days.test.ts',
    tests: ['an archive gets days in one transaction', 'an archive gets days in steps'],
    reason: SCHEMA,
  },
  {
    file: 'refresh/views.test.ts',
    tests: [
      'events_replaceable_latest shows',
      'events_addressable_latest shows',
      'none of them scans events or sightings',
    ],
    reason: LATEST,
  },
  {
    file: 'database/documents.test.ts',
    tests: [
      'docs/from-python.md: select id, kind, content from events_replaceable_latest',
      'docs/from-python.md: select id, kind, d_tag, content from events_addressable_latest',
    ],
    reason: LATEST,
  },
];
