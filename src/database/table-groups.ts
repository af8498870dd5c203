import { readArchivePart } from './archive-metrics.ts';
import * as candidates from './candidates.ts';
import * as claims from './claims.ts';
import type { Database, Query } from './connection.ts';
import * as datasetImports from './dataset-imports.ts';
import * as dirtyDays from './figures/dirty-days.ts';
import * as figures from './figures/figures.ts';
import * as periods from './figures/periods.ts';
import { recountDay } from './figures/recount-day.ts';
import * as samples from './figures/samples.ts';
import * as filterParts from './filter-parts.ts';
import * as finder from './finder.ts';
import * as imports from './imports.ts';
import * as journal from './journal.ts';
import { latestStateChange } from './relay-states.ts';
import * as retryTimes from './retry-times.ts';
import * as withheld from './withheld.ts';
import * as withheldKinds from './withheld-kinds.ts';

/** The table groups that `Bigbrotr` has as named properties, such as `bigbrotr.withheld.count()`. */

const CLAIMS = {
  take: claims.takeClaims,
  release: claims.releaseClaims,
  forgetOld: claims.forgetOldClaims,
  holdersLike: claims.holdersLike,
  endLeasesOf: claims.endLeasesOf,
};
const FINDER = {
  scan: finder.scanJournal,
  record: finder.recordNames,
  tidy: candidates.tidyNames,
  claim: candidates.claimCandidates,
};
const CANDIDATES = {
  promote: candidates.promoteCandidate,
  putOff: candidates.putOffCandidate,
};
const JOURNAL = {
  trim: journal.trimJournal,
};
const JOURNAL_FIGURES = {
  lag: journal.readerLag,
};
const REPORTS = {
  stateChange: latestStateChange,
};
const REPORTED_FIGURES = {
  archiveMetrics: readArchivePart,
};
const FIGURES = {
  daysToCount: dirtyDays.daysToCount,
  dirtyDays: dirtyDays.dirtyDays,
  periodsToCount: periods.periodsToCount,
  countRecent: figures.countRecent,
};
const FIGURE_CHANGES = {
  followJournal: figures.followJournal,
  countPeriod: periods.countPeriod,
  countReferences: samples.countReferences,
  rankRelays: samples.rankRelays,
  startRebuild: figures.startRebuild,
};
const RETRY_TIMES = {
  set: retryTimes.setRetryTimes,
  setRelay: retryTimes.setRelayRetry,
  document: retryTimes.documentRetry,
};
const FILTER_PARTS = {
  of: filterParts.partsOf,
  archivedKinds: filterParts.archivedKinds,
  shownEvents: filterParts.shownEvents,
  hasSightings: filterParts.hasSightings,
};
const FILTER_DIVISIONS = {
  divide: filterParts.divideFilter,
  join: filterParts.joinFilter,
  record: filterParts.recordParts,
};
const WITHHELD = {
  count: withheld.countWithheld,
  in: withheld.withheldIn,
  among: withheld.withheldAmong,
  due: withheld.dueWithheld,
  held: withheld.heldAmong,
  note: withheld.noteWithheld,
  place: withheld.placeWithheld,
  forget: withheld.forgetWithheld,
  pagedAround: withheld.pagedAround,
};
const WITHHELD_KINDS = {
  withoutKind: withheldKinds.withheldWithoutKind,
  setKind: withheldKinds.setWithheldKind,
  samples: withheldKinds.kindSamples,
  noteAll: withheldKinds.noteKindWithheld,
  forgetKind: withheldKinds.forgetWithheldKind,
};
const IMPORTS = {
  insertRelays: imports.insertDatedRelays,
  begin: datasetImports.beginImport,
  restart: datasetImports.restartImport,
  end: datasetImports.endImport,
};
const IMPORTED_TIMES = {
  setEarlierSeenAt: imports.setEarlierSeenAt,
  storeSightings: datasetImports.storeImportedSightings,
};

/** Composes the groups with one connection pool. Functions that write several tables, or names and the journal cursor, run in a transaction. */
export function tableGroups(database: Database) {
  const { query } = database;
  const transaction: Transaction = (work) => database.transaction(work);
  return {
    claims: {
      ...bind(query, CLAIMS),
      /** As `renewClaims`, once. @param withinMs an answer that comes later is of no use, in milliseconds */
      renew: (held: readonly claims.Claim[], leaseSeconds: number, withinMs: number) =>
        claims.renewClaims(database.queryWithin(withinMs), held, leaseSeconds),
    },
    finder: { ...bind(query, CANDIDATES), ...bindTransactions(transaction, FINDER) },
    journal: { ...bind(query, JOURNAL_FIGURES), ...bindTransactions(transaction, JOURNAL) },
    reports: { ...bind(query, REPORTS), ...bindTransactions(transaction, REPORTED_FIGURES) },
    figures: {
      ...bind(query, FIGURES),
      ...bindTransactions(transaction, FIGURE_CHANGES),
      /** Recounts a dirty day, over two connections. */
      recountDay: (day: number) => recountDay({ query, transaction }, day),
    },
    retryTimes: bind(query, RETRY_TIMES),
    filterParts: {
      ...bind(query, FILTER_PARTS),
      ...bindTransactions(transaction, FILTER_DIVISIONS),
    },
    withheld: bind(query, WITHHELD),
    withheldKinds: bind(query, WITHHELD_KINDS),
    imports: { ...bind(query, IMPORTS), ...bindTransactions(transaction, IMPORTED_TIMES) },
  };
}

export type TableGroups = ReturnType<typeof tableGroups>;

type Transaction = <T>(work: (query: Query) => Promise<T>) => Promise<T>;

/** A function of a table group: its first argument is the `Query` that it sends its statements through. */
type TableFunction = (query: Query, ...args: never[]) => unknown;

/** The same function with its `Query` given. */
type Bound<Work> = Work extends (query: Query, ...args: infer Args) => infer Result
  ? (...args: Args) => Result
  : never;

/** Functions of a table group with their `Query` given. */
type BoundGroup<Group> = { readonly [Name in keyof Group]: Bound<Group[Name]> };

/** Gives every function of a group the same `Query`. */
function bind<Group extends Readonly<Record<string, TableFunction>>>(
  query: Query,
  group: Group,
): BoundGroup<Group> {
  return mapGroup(group, (work) => work.bind(null, query));
}

/** Runs every function of a group in a transaction of its own. */
function bindTransactions<Group extends Readonly<Record<string, TableFunction>>>(
  transaction: Transaction,
  group: Group,
): BoundGroup<Group> {
  return mapGroup(
    group,
    (work) =>
      (...args: never[]) =>
        transaction(async (query) => work(query, ...args)),
  );
}

function mapGroup<Group extends Readonly<Record<string, TableFunction>>>(
  group: Group,
  wrap: (work: TableFunction) => (...args: never[]) => unknown,
): BoundGroup<Group> {
  const bound = Object.entries(group).map(([name, work]) => [name, wrap(work)]);
  return Object.fromEntries(bound) as BoundGroup<Group>;
}
