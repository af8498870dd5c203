import type { Logger } from 'pino';
import type { DatabaseConfig } from '../config/load.ts';
import type { RelayPolicy } from '../network/relay-policy.ts';
import type { RelayAddress } from '../network/url.ts';
import type { NostrEvent } from '../nostr/event.ts';
import type { EventFilter } from '../nostr/filter.ts';
import type { Window } from '../nostr/window.ts';
import {
  type Batch,
  plus,
  type Stored,
  sortOut,
  storeAtOnce,
  storeBatch,
  storeOneByOne,
} from './batch.ts';
import * as checks from './checks.ts';
import { Database, isDataError, now, type OpenOptions, type Query } from './connection.ts';
import { type ImportBatch, type ImportCounts, storeImported } from './dataset-imports.ts';
import { AddedDays } from './days.ts';
import { ASK_EACH_SHARD, archiveShards } from './distribute.ts';
import { filterId } from './filter-parts.ts';
import type { AddedSnapshots, CheckAges, CheckPicking, SnapshotRow } from './monitor.ts';
import * as monitor from './monitor.ts';
import { countFlaws, type Flaws } from './offences.ts';
import type { Archived, ArchivedId } from './reading.ts';
import * as reading from './reading.ts';
import type { RelayTerms } from './relay-policy.ts';
import * as policy from './relay-policy.ts';
import {
  insertRelays,
  lookUpRelays,
  type Relay,
  relaysOf,
  relaysWithPriority,
  setPriorityRelays,
} from './relays.ts';
import { daysOf } from './sightings.ts';
import { type TableGroups, tableGroups } from './table-groups.ts';
import { type Totals, totals } from './totals.ts';
import { requireCurrent, schemaState } from './version.ts';
import type { Lane, Picking, VisitAges, VisitEnd, VisitGaps, Wanted } from './visits.ts';
import * as visits from './visits.ts';

export type { Batch, Evidence, Refused, Stored } from './batch.ts';
export type { CarriedRow, CheckRow } from './checks.ts';
export type { Claim, ClaimedWork } from './claims.ts';
export type { Import, ImportBatch, ImportCounts } from './dataset-imports.ts';
export type { CheckAges, SnapshotRow } from './monitor.ts';
export type { Flaws, Offence, OffenceReason } from './offences.ts';
export type { Archived } from './reading.ts';
export type { RelayTerms } from './relay-policy.ts';
export type { Relay } from './relays.ts';
export { tagValues } from './sightings.ts';
export type { Totals } from './totals.ts';
export type {
  Lane,
  Picking,
  VisitAges,
  VisitEnd,
  VisitGaps,
  VisitOutcome,
  Wanted,
} from './visits.ts';

type WaitOptions = Pick<OpenOptions, 'signal' | 'onRefused' | 'loginWorked' | 'patience'>;

/** Ages in seconds: of the youngest snapshot that still counts, and of a visit after which the next is due. */
export interface SynchronizeAges {
  readonly snapshotSeconds: number;
  readonly intervalSeconds: number;
}

/** A relay that is due for a check. */
export interface DueCheck extends Relay {
  /** When it was last checked, Unix seconds; null: never. */
  readonly seenAt: number | null;
}

/** A relay that is due for a visit, and its lane. */
export interface DueRelay extends Relay {
  readonly lane: Lane;
  /** When its latest visit began, Unix seconds; null: never. */
  readonly seenAt: number | null;
}

/**
 * The archive as the services share it: one typed method for each query. It composes the functions of the table groups
 * (one file each) with one connection pool and has no SQL of its own. Arguments carry their proof in their type
 * (`VerifiedEvent`, `RelayUrl`). Every method is idempotent, and throws DatabaseError when the database stays
 * unreachable or refuses.
 */
export class Bigbrotr {
  readonly #database: Database;
  /** Number of shards of `events`. */
  readonly #shards: number;
  /** Whether they are on several servers. */
  readonly #isDistributed: boolean;
  readonly #days = new AddedDays();
  /** Which process works on which relay. */
  readonly claims: TableGroups['claims'];
  readonly finder: TableGroups['finder'];
  /** What each transaction stored or deleted. */
  readonly journal: TableGroups['journal'];
  /** Figures that are kept: days that are counted anew when they change. */
  readonly figures: TableGroups['figures'];
  /** When relays asked to be contacted again (`Retry-After`). */
  readonly retryTimes: TableGroups['retryTimes'];
  /** The filters that a relay is asked with in place of one that it refuses. */
  readonly filterParts: TableGroups['filterParts'];
  /** Ids that relays list (NIP-77) and do not serve. */
  readonly withheld: TableGroups['withheld'];
  /** The kinds of withheld events. */
  readonly withheldKinds: TableGroups['withheldKinds'];
  /** What other archives knew earlier. */
  readonly imports: TableGroups['imports'];

  private constructor(database: Database, config: DatabaseConfig, shards: number) {
    this.#database = database;
    this.#isDistributed = shards > 1;
    this.#shards = shards > 1 ? shards : (config.shards ?? 1);
    const groups = tableGroups(database);
    this.claims = groups.claims;
    this.finder = groups.finder;
    this.journal = groups.journal;
    this.figures = groups.figures;
    this.retryTimes = groups.retryTimes;
    this.filterParts = groups.filterParts;
    this.withheld = groups.withheld;
    this.withheldKinds = groups.withheldKinds;
    this.imports = groups.imports;
  }

  /** Waits as `Database.connect` does. @throws DatabaseError with one sentence that says what is wrong. */
  static async connect(
    config: DatabaseConfig,
    log: Logger,
    wait: WaitOptions = {},
  ): Promise<Bigbrotr> {
    let shards = 1;
    const check = async (query: Query) => {
      await requireCurrent(query, config);
      shards = await archiveShards(query);
    };
    const database = await Database.connect(config, log, { ...wait, check });
    return new Bigbrotr(database, config, shards);
  }

  /** Creates the archive by init.sql if there is none. An archive of an older version is unchanged. @throws DatabaseError */
  static async load(config: DatabaseConfig, initSql: string, log: Logger, wait: WaitOptions = {}) {
    const check = async (query: Query) => {
      if ((await schemaState(query)).state === 'missing') await query(initSql);
    };
    const database = await Database.connect(config, log, { ...wait, check });
    await database.close();
  }

  close(): Promise<void> {
    return this.#database.close();
  }

  isUp(timeoutMs = 2000): Promise<boolean> {
    return this.#database.isUp(timeoutMs, this.#ping);
  }

  /** Why the database, or a server over which it is distributed, cannot be used; null when all answer. Never throws. */
  whyDown(timeoutMs = 2000): Promise<string | null> {
    return this.#database.whyDown(timeoutMs, this.#ping);
  }

  get #ping(): string | undefined {
    return this.#isDistributed ? ASK_EACH_SHARD : undefined;
  }

  // Relays

  /** Adds relays that are not known yet. @returns how many were new. */
  insertRelays(relays: readonly RelayAddress[]): Promise<number> {
    return insertRelays(this.#database.query, relays);
  }

  /**
   * Relays that are due for a check: those never checked first, then those named again, then the longest overdue.
   */
  relaysToCheck(ages: CheckAges, picking: Partial<CheckPicking> = {}): Promise<DueCheck[]> {
    const { query } = this.#database;
    return lookUpRelays(picking.except ?? [], (except) =>
      monitor.relaysToCheck(query, ages, { ...picking, except }),
    );
  }

  /**
   * Relays that were readable in a recent snapshot, are due for a visit and do not pause, lane by lane. Ignores
   * snapshots taken while Tor was down. A relay whose visit was stopped early is due at once. Leaves out
   * the priority list.
   */
  relaysToSynchronize(
    filterId: number,
    { snapshotSeconds, intervalSeconds }: SynchronizeAges,
    picking: Partial<Picking> = {},
  ): Promise<DueRelay[]> {
    return this.#relaysDue({ readableWithin: snapshotSeconds }, filterId, intervalSeconds, picking);
  }

  /** Those of the priority list, or of the given relays, that are due for a visit, lane by lane. */
  relaysDue(
    relays: readonly Relay[] | 'priority',
    filterId: number,
    intervalSeconds: number,
    picking: Partial<Picking> = {},
  ): Promise<DueRelay[]> {
    const among =
      relays === 'priority' ? relays : { relayIds: relays.map(({ relayId }) => relayId) };
    return this.#relaysDue(among, filterId, intervalSeconds, picking);
  }

  #relaysDue(
    among: Parameters<typeof visits.relaysDue>[2],
    filterId: number,
    intervalSeconds: number,
    picking: Partial<Picking>,
  ): Promise<DueRelay[]> {
    const { query } = this.#database;
    return lookUpRelays(picking.except ?? [], (except) =>
      visits.relaysDue(query, filterId, among, intervalSeconds, { ...picking, except }),
    );
  }

  /** The relays of these URLs; those that are not known yet are added. In the order given. */
  relaysOf(addresses: readonly RelayAddress[]): Promise<Relay[]> {
    return relaysOf(this.#database.query, addresses);
  }

  /** Makes these the relays of the priority list, and no others; those that are not known yet are added. */
  setPriorityRelays(relays: readonly RelayAddress[]): Promise<void> {
    return setPriorityRelays(this.#database.query, relays);
  }

  /** Keys of those of these relays that are on the priority list, or of those that are not. */
  relaysWithPriority(relayIds: readonly number[], priority: boolean): Promise<number[]> {
    return relaysWithPriority(this.#database.query, relayIds, priority);
  }

  /** The time by the clock of the database, Unix seconds. */
  now(): Promise<number> {
    return now(this.#database.query);
  }

  // Health

  /**
   * Adds snapshots, and updates the state and the schedule of their relays.
   * @param intervalSeconds check interval of living relays
   */
  insertSnapshots(
    snapshots: readonly SnapshotRow[],
    intervalSeconds?: number,
  ): Promise<AddedSnapshots> {
    return monitor.insertSnapshots(this.#database.query, snapshots, intervalSeconds);
  }

  /** Results that the next check of a relay may repeat without measuring. */
  carriedChecks(relay: Relay): Promise<checks.CarriedRow[]> {
    return checks.carriedChecks(this.#database.query, relay);
  }

  // Relay policy

  /** The claims of a relay's latest NIP-11 document, and its policy as learnt so far. */
  relayTerms(relay: Relay): Promise<RelayTerms> {
    return policy.relayTerms(this.#database.query, relay);
  }

  /** Stores the policy of a relay. */
  setRelayPolicy(relay: Relay, learnt: RelayPolicy): Promise<void> {
    return policy.setRelayPolicy(this.#database.query, relay, learnt);
  }

  /** Ends the pause of every relay that pauses for this reason. @returns how many relays */
  endPauses(reason: string): Promise<number> {
    return policy.endPauses(this.#database.query, reason);
  }

  // Coverage

  /** The key of a filter; the same for every spelling of it. */
  filterId(filter: EventFilter): Promise<number> {
    return filterId(this.#database.query, filter);
  }

  /** Where a visit for new events continues, in Unix seconds; 0 at first. */
  resumeFrom(relay: Relay, filterId: number, overlapSeconds: number): Promise<number> {
    return visits.resumeFrom(this.#database.query, relay, filterId, overlapSeconds);
  }

  /** Records the start of a visit and returns what to read: what is missing, and what was proven too long ago. */
  beginVisit(relay: Relay, wanted: Wanted, ages: VisitAges, isPart = false): Promise<VisitGaps> {
    return visits.beginVisit(this.#database.query, relay, wanted, ages, isPart);
  }

  /** Counts the flaws that remain after everything was asked for: holes, and relays that sent only broken events. */
  countFlaws(relay: Relay, wanted: Wanted): Promise<Flaws> {
    return countFlaws(this.#database.query, relay, wanted);
  }

  /** Retracts what pages or NIP-77 have proven of these windows, because the relay contradicted it. */
  retractCoverage(
    relay: Relay,
    filterId: number,
    by: 'paging' | 'nip77',
    windows: readonly Window[],
  ): Promise<void> {
    return this.#database.transaction((query) =>
      visits.retractCoverage(query, relay, filterId, by, windows),
    );
  }

  /** Records windows with contradicting answers as holes, until old holes are tried again. */
  noteContradicted(relay: Relay, filterId: number, windows: readonly Window[]): Promise<void> {
    return this.#database.transaction((query) =>
      visits.noteContradicted(query, relay, filterId, windows),
    );
  }

  /** Deletes `unanswered` holes in a window whose list (NIP-77) was read again. */
  forgetUnanswered(relay: Relay, filterId: number, window: Window): Promise<void> {
    return this.#database.transaction((query) =>
      visits.forgetUnanswered(query, relay, filterId, window),
    );
  }

  /** Records how a visit ended. Counts failures in a row, each visit once. */
  endVisit(relay: Relay, filterId: number, end: VisitEnd): Promise<void> {
    return visits.endVisit(this.#database.query, relay, filterId, end);
  }

  // Events

  /** Those of these events that the archive holds: hex id → key and signature. */
  archivedEvents(
    events: readonly Pick<NostrEvent, 'id' | 'created_at'>[],
  ): Promise<Map<string, Archived>> {
    return reading.archivedEvents(this.#database.query, events, this.#shards);
  }

  /** Those of these ids, in hex, that the archive holds, with their `created_at` and their keys. */
  archivedIds(ids: readonly string[]): Promise<Map<string, ArchivedId>> {
    return reading.archivedIds(this.#database.query, ids);
  }

  /** The smallest `created_at` among events of these ids that are archived, or set aside from this relay. */
  oldestOf(relay: Relay, ids: readonly string[]): Promise<number | null> {
    return reading.oldestOf(this.#database.query, relay, ids);
  }

  /** The events of a window that were seen on a relay, in packed records of 40 bytes, a bounded number at a time. */
  sightedRecords(relay: Relay, filter: EventFilter, window: Window): AsyncGenerator<Buffer> {
    return reading.sightedRecords(this.#database.query, relay, filter, window);
  }

  /**
   * Writes a batch: events, sightings, quarantine, coverage and holes, all or nothing.
   * Events that the columns cannot hold exactly go to quarantine.
   */
  async store(batch: Batch): Promise<Stored> {
    const sorted = sortOut(batch.events);
    await this.#days.add(this.#database.query, daysOf(sorted.plain));
    const store = (work: typeof storeBatch) =>
      this.#database.transaction((query) => work(query, batch, sorted, this.#shards));
    try {
      const first = await storeAtOnce(this.#database.query, batch, sorted, this.#shards);
      if (!first) return await store(storeBatch);
      const { isWhole, ...stored } = first;
      return isWhole ? stored : plus(stored, await store(storeBatch));
    } catch (error) {
      if (!isDataError((error as Error).cause ?? error)) throw error;
      return store(storeOneByOne);
    }
  }

  /**
   * Writes events of a file in one transaction, with how far the file is read. They have no sighting, and prove nothing.
   * Events that the columns cannot hold exactly go to the quarantine of the import.
   */
  async storeImported(batch: ImportBatch): Promise<ImportCounts> {
    const { plain, aside } = sortOut(batch.events);
    await this.#days.add(this.#database.query, daysOf(plain));
    return this.#database.transaction((query) =>
      storeImported(query, batch, plain, aside, this.#shards),
    );
  }

  /** Counts of the whole archive. Exact, so it reads every row: for summaries, not for metrics. */
  totals(): Promise<Totals> {
    return totals(this.#database.query);
  }
}
