import type { Logger } from 'pino';
import {
  type Batch,
  type Relay,
  type Stored,
  sortById,
  storeBatch,
  storeOneByOne,
} from './bigbrotr/batch.ts';
import * as checks from './bigbrotr/checks.ts';
import { FilterParts, filterId } from './bigbrotr/filter-parts.ts';
import { FinderArchive } from './bigbrotr/finder.ts';
import type { RelayTerms } from './bigbrotr/manners.ts';
import * as manners from './bigbrotr/manners.ts';
import type { CheckAges, SnapshotRow } from './bigbrotr/monitor.ts';
import * as monitor from './bigbrotr/monitor.ts';
import { countFlaws, type Flaws } from './bigbrotr/offences.ts';
import type { Archived, StoredEvent } from './bigbrotr/reading.ts';
import * as reading from './bigbrotr/reading.ts';
import { asRelays, insertRelays, relaysOf } from './bigbrotr/relays.ts';
import { RetryTimes } from './bigbrotr/retry-times.ts';
import { requireCurrent, schemaState } from './bigbrotr/version.ts';
import type { Lane, Picking, VisitAges, VisitEnd, VisitGaps, Wanted } from './bigbrotr/visits.ts';
import * as visits from './bigbrotr/visits.ts';
import { WithheldArchive } from './bigbrotr/withheld.ts';
import type { DatabaseConfig } from './config.ts';
import { Database, isDataError, type OpenOptions, type Query } from './database.ts';
import { type IdentifiedEvent, storageObstacle } from './nostr/event.ts';
import type { EventFilter, Window } from './nostr/filter.ts';
import type { Manners } from './relay/manners.ts';
import type { RelayAddress } from './relay/url.ts';

export {
  type Batch,
  type Evidence,
  type Refused,
  type Relay,
  type Stored,
  tagValues,
} from './bigbrotr/batch.ts';
export type { CarriedRow, CheckRow } from './bigbrotr/checks.ts';
export type { RelayTerms } from './bigbrotr/manners.ts';
export type { CheckAges, SnapshotRow } from './bigbrotr/monitor.ts';
export type { Flaws, Offence, OffenceReason } from './bigbrotr/offences.ts';
export type { Archived, StoredEvent } from './bigbrotr/reading.ts';
export type {
  Lane,
  Picking,
  VisitAges,
  VisitEnd,
  VisitGaps,
  VisitOutcome,
  Wanted,
} from './bigbrotr/visits.ts';

type WaitOptions = Pick<OpenOptions, 'signal' | 'onRefused' | 'loginWorked'>;

/** Ages in seconds: of the youngest snapshot that still counts, and of a visit after which the next is due. */
export interface SynchronizeAges {
  readonly snapshotSeconds: number;
  readonly intervalSeconds: number;
}

/** A relay that is due for a visit, and how it stands. */
export interface DueRelay extends Relay {
  readonly lane: Lane;
}

export interface Totals {
  readonly events: number;
  readonly sightings: number;
  readonly quarantined: number;
  readonly relays: number;
  readonly openable: number;
  readonly readable: number;
  readonly writable: number;
  readonly failing: number;
  readonly unchecked: number;
}

/**
 * The archive. Every query of every service is here; what it takes carries its proof in its type
 * (`VerifiedEvent`, `RelayUrl`). All of it may be called again with the same arguments without harm.
 * Each method throws DatabaseError when the database stays away or refuses.
 */
export class Bigbrotr {
  readonly #database: Database;
  /** What the finder asks. */
  readonly finder: FinderArchive;
  readonly retryTimes: RetryTimes;
  /** The filters that a relay is asked with in place of one that it refuses. */
  readonly filterParts: FilterParts;
  /** Ids that relays name and do not serve. */
  readonly withheld: WithheldArchive;

  private constructor(database: Database) {
    this.#database = database;
    this.retryTimes = new RetryTimes(database.query);
    this.finder = new FinderArchive(database.query, (work) => database.transaction(work));
    this.filterParts = new FilterParts(database.query, (work) => database.transaction(work));
    this.withheld = new WithheldArchive(database.query);
  }

  /** Waits as `Database.connect` does. @throws DatabaseError with one sentence that says what is wrong. */
  static async connect(
    config: DatabaseConfig,
    log: Logger,
    wait: WaitOptions = {},
  ): Promise<Bigbrotr> {
    const check = (query: Query) => requireCurrent(query, config);
    return new Bigbrotr(await Database.connect(config, log, { ...wait, check }));
  }

  /** Makes the archive where there is none, by init.sql. One that an older version made is left as it is. @throws DatabaseError */
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
    return this.#database.isUp(timeoutMs);
  }

  /** What refused us, and how; null when the database answers. Never throws. */
  whyDown(timeoutMs = 2000): Promise<string | null> {
    return this.#database.whyDown(timeoutMs);
  }

  // Relays

  /** Adds relays that are not known yet. @returns how many were new. */
  insertRelays(relays: readonly RelayAddress[]): Promise<number> {
    return insertRelays(this.#database.query, relays);
  }

  /**
   * Relays that are due for a check; those never checked first, then those that were named anew, then the longest overdue.
   * @param limit the most of them, null: all
   * @param except keys of relays that are left out
   */
  async relaysToCheck(
    ages: CheckAges,
    limit: number | null = null,
    except: readonly number[] = [],
  ): Promise<Relay[]> {
    return asRelays(await monitor.relaysToCheck(this.#database.query, ages, limit, except));
  }

  /**
   * Makes relays that were named anew due for a check at once, however long they have been dead; not those whose latest
   * check is younger than eight hours. Relays that are not known are passed over: insertRelays makes them due too.
   * @returns how many are due now that were not
   */
  recheck(relays: readonly RelayAddress[]): Promise<number> {
    return monitor.recheckRelays(this.#database.query, relays);
  }

  /**
   * Relays that were readable in a young enough snapshot and are due for a visit and do not pause, lane by lane.
   * A snapshot that was taken while Tor was down says nothing of its relay: the one before it counts.
   * A visit that stopped before its end is due at once.
   */
  async relaysToSynchronize(
    filterId: number,
    { snapshotSeconds, intervalSeconds }: SynchronizeAges,
    picking: Partial<Picking> = {},
  ): Promise<DueRelay[]> {
    const among = { readableWithin: snapshotSeconds };
    const { query } = this.#database;
    return asRelays(await visits.relaysDue(query, filterId, among, intervalSeconds, picking));
  }

  /** Those of the given relays that are due for a visit, lane by lane. */
  async relaysDue(
    relays: readonly Relay[],
    filterId: number,
    intervalSeconds: number,
    picking: Partial<Picking> = {},
  ): Promise<DueRelay[]> {
    const among = { relayIds: relays.map(({ relayId }) => relayId) };
    const { query } = this.#database;
    return asRelays(await visits.relaysDue(query, filterId, among, intervalSeconds, picking));
  }

  /** The relays of these URLs; those that are not known yet are added. In the order given. */
  relaysOf(addresses: readonly RelayAddress[]): Promise<Relay[]> {
    return relaysOf(this.#database.query, addresses);
  }

  // Health

  /**
   * Adds snapshots, and with each what it says of the state of its relay and of its next check.
   * @param intervalSeconds how often living relays are checked
   * @returns how many were new
   */
  insertSnapshots(snapshots: readonly SnapshotRow[], intervalSeconds?: number): Promise<number> {
    return monitor.insertSnapshots(this.#database.query, snapshots, intervalSeconds);
  }

  /** What the next check of a relay need not measure again. */
  carriedChecks(relay: Relay): Promise<checks.CarriedRow[]> {
    return checks.carriedChecks(this.#database.query, relay);
  }

  // Manners

  /** What is known of how a relay wants to be treated: what its latest NIP-11 says, and what was learnt. */
  relayTerms(relay: Relay): Promise<RelayTerms> {
    return manners.relayTerms(this.#database.query, relay);
  }

  /** Remembers how a relay wants to be treated. */
  setManners(relay: Relay, learnt: Manners): Promise<void> {
    return manners.setManners(this.#database.query, relay, learnt);
  }

  /** Lets every relay be visited again that pauses for this reason. @returns how many do */
  endPauses(reason: string): Promise<number> {
    return manners.endPauses(this.#database.query, reason);
  }

  // Coverage
  /** The key of a filter; the same for every spelling of it. */
  filterId(filter: EventFilter): Promise<number> {
    return filterId(this.#database.query, filter);
  }

  /** Where a visit goes on that wants only what is new, in Unix seconds; 0 at first. */
  resumeFrom(relay: Relay, filterId: number, overlapSeconds: number): Promise<number> {
    return visits.resumeFrom(this.#database.query, relay, filterId, overlapSeconds);
  }

  /** Notes that a visit begins, and gives what to read: what is missing, and what was proven too long ago. */
  beginVisit(relay: Relay, wanted: Wanted, ages: VisitAges, isPart = false): Promise<VisitGaps> {
    return this.#database.transaction((query) =>
      visits.beginVisit(query, relay, wanted, ages, isPart),
    );
  }

  /** Counts what keeps a relay of which everything was asked from being whole. */
  countFlaws(relay: Relay, wanted: Wanted): Promise<Flaws> {
    return countFlaws(this.#database.query, relay, wanted);
  }

  /** Takes back what was proven of these windows, by pages or by NIP-77: the relay has contradicted it since. */
  retractCoverage(
    relay: Relay,
    filterId: number,
    by: 'paging' | 'nip77',
    windows: readonly Window[],
  ): Promise<void> {
    return visits.retractCoverage(this.#database.query, relay, filterId, by, windows);
  }

  /** Notes that the answers for these windows contradict each other: they are holes until old holes are tried again. */
  noteContradicted(relay: Relay, filterId: number, windows: readonly Window[]): Promise<void> {
    return visits.noteContradicted(this.#database.query, relay, filterId, windows);
  }

  /** Notes how a visit ended. Failures in a row are counted, each once. */
  endVisit(relay: Relay, filterId: number, end: VisitEnd): Promise<void> {
    return visits.endVisit(this.#database.query, relay, filterId, end);
  }

  // Events

  /** Which of these events the archive holds, with what it holds: hex id → key and signature. */
  archivedEvents(
    events: readonly Pick<IdentifiedEvent, 'id' | 'created_at'>[],
  ): Promise<Map<string, Archived>> {
    return reading.archivedEvents(this.#database.query, events);
  }

  /** Those of these ids, in hex, that the archive holds, with their `created_at`. */
  archivedIds(ids: readonly string[]): Promise<Map<string, number>> {
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
   * Writes a batch in one transaction: events, sightings, quarantine, coverage and holes, all or nothing.
   * An event that the columns cannot hold exactly is set aside in quarantine; the rest is stored.
   */
  async store(batch: Batch): Promise<Stored> {
    const obstacles = new Map(batch.events.map((event) => [event, storageObstacle(event)]));
    const plain = sortById(batch.events.filter((event) => !obstacles.get(event)));
    const aside = batch.events.flatMap((event) => {
      const reason = obstacles.get(event);
      return reason ? [{ event, reason: reason as string }] : [];
    });
    try {
      return await this.#database.transaction((query) => storeBatch(query, batch, plain, aside));
    } catch (error) {
      if (!isDataError((error as Error).cause ?? error)) throw error;
      return this.#database.transaction((query) => storeOneByOne(query, batch, plain, aside));
    }
  }

  // Reading back

  /** Every archived event in time order, then those in quarantine, in chunks. */
  storedEvents(): AsyncGenerator<StoredEvent[]> {
    return reading.storedEvents(this.#database.query);
  }

  /** So many archived events, each taken at random by its id. */
  sampledEvents(count: number): AsyncGenerator<StoredEvent[]> {
    return reading.sampledEvents(this.#database.query, count);
  }

  // Figures

  /** Counts of the whole archive. Exact, so it reads every row: for summaries, not for metrics. */
  async totals(): Promise<Totals> {
    const { rows } = await this.#database.query<Totals & Record<string, unknown>>(
      `select
           (select count(*) from events) as events,
           (select count(*) from sightings) as sightings,
           (select count(*) from quarantine) as quarantined,
           count(*) as relays,
           count(*) filter (where l.openable) as openable,
           count(*) filter (where l.readable) as readable,
           count(*) filter (where l.writable) as writable,
           count(*) filter (where not l.readable) as failing,
           count(*) filter (where l.relay_url is null) as unchecked
       from relays r
       left join relay_metadata_latest l on l.relay_url = r.url`,
    );
    if (!rows[0]) throw new Error('the totals query gave no row');
    return rows[0];
  }
}
