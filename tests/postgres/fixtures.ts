import { ArchiveReader } from '../../src/database/archive-reader.ts';
import { relayTest } from '../relay/relay-test.ts';
import { databaseConfig, knownRelay, openBigbrotr, silent } from './bigbrotr.ts';
import { testDatabase, testServer } from './database.ts';

/** The tables that no other refers to, and those that go with them: all but what init.sql filled. */
const CLEAR = `truncate runs, imports, claims, relays, filters, events, sightings, quarantine, nip11, nip66, check_results, snapshots,
  journal, named_relays, authors, dirty_days, daily_counts, daily_scopes, scope_stats, scope_kinds,
  scope_authors, daily_kinds, daily_replication, replication_totals, day_sums, recent_events, current_events,
  follow_edges, relay_list_edges, relay_list_totals, zaps, daily_zaps, dirty_periods, period_users,
  cohorts, daily_samples, cover_ranks, daily_references, reference_totals restart identity cascade`;

/** Tests with an archive in a database of their file: `database`, emptied before each of them, and a `reader` of it. */
export const databaseTest = relayTest
  .extend('server', { scope: 'file' }, () => testServer())
  .extend('databaseOfFile', { scope: 'file' }, async ({ server }, { onCleanup }) => {
    const database = await testDatabase(server);
    onCleanup(() => database.drop());
    return database;
  })
  .extend('database', async ({ databaseOfFile }) => {
    await databaseOfFile.query(CLEAR);
    return databaseOfFile;
  })
  .extend('reader', { scope: 'file' }, async ({ databaseOfFile }, { onCleanup }) => {
    const reader = await ArchiveReader.connect(databaseConfig(databaseOfFile), silent);
    onCleanup(() => reader.close());
    return reader;
  });

/** The same through `bigbrotr`, with a `relay`, an `other` one and a filter for all events (`filterId`) on demand. */
export const archiveTest = databaseTest
  .extend('poolOfFile', { scope: 'file' }, async ({ databaseOfFile }, { onCleanup }) => {
    const bigbrotr = await openBigbrotr(databaseOfFile);
    onCleanup(() => bigbrotr.close());
    return bigbrotr;
  })
  .extend('bigbrotr', ({ database: _emptied, poolOfFile }) => poolOfFile)
  .extend('relay', ({ bigbrotr }) => knownRelay(bigbrotr, 'one'))
  .extend('other', ({ bigbrotr, relay: _first }) => knownRelay(bigbrotr, 'two'))
  .extend('filterId', ({ bigbrotr }) => bigbrotr.filterId({}));
