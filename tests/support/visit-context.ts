import { type VisitReport, visitRelay } from '../../src/archive.ts';
import type { Bigbrotr, Relay, SnapshotRow } from '../../src/bigbrotr.ts';
import { createVerifier } from '../../src/nostr/verify.ts';
import type { LiveRelays } from '../../src/visit/live.ts';
import type { Progress, VisitContext } from '../../src/visit/visit.ts';
import { openBigbrotr, silent } from './bigbrotr.ts';
import { type TestDatabase, testDatabase } from './database.ts';
import { relayAddress } from './relays.ts';

const verifier = await createVerifier();

/** How a visit differs from an ordinary one. */
export type VisitOptions = Partial<VisitContext> & { readonly live?: LiveRelays | null };

/** An archive of its own, and visits to relays from it. */
export interface TestArchive {
  readonly db: TestDatabase;
  readonly bigbrotr: Bigbrotr;
  /** What was told while visits went on, live ones too. */
  readonly told: readonly Progress[];
  context(options?: Partial<VisitContext>): Promise<VisitContext>;
  /** The relay of that URL, known to the archive. */
  relay(url: string): Promise<Relay>;
  /** Visits a relay as a worker does: 500 events a page, no overlap, coverage that does not grow stale. */
  visit(url: string, options?: VisitOptions): Promise<VisitReport>;
  /** Hex ids of the events that were seen on that relay, sorted. */
  ids(url: string): Promise<string[]>;
  /** Hex ids of all events, sorted. */
  allIds(): Promise<string[]>;
  /** Stretches that are proven, as PostgreSQL writes them. */
  covered(url: string): Promise<string>;
  /** A check that found the relay readable now; `nip11` is laid over an empty document. */
  snapshot(url: string, nip11?: object | null): Promise<void>;
  /** Forgets every relay and event, and what was told. */
  clear(): Promise<void>;
  /** Another pool on the same database, as after a restart. Closed with the archive. */
  again(): Promise<Bigbrotr>;
  close(): Promise<void>;
}

/** Opens an archive on a fresh database. `on` takes over a database that is there already, which is dropped in the end. */
export async function testArchive(on?: TestDatabase): Promise<TestArchive> {
  const db = on ?? (await testDatabase());
  return new Archive(db, await openBigbrotr(db));
}

class Archive implements TestArchive {
  readonly db: TestDatabase;
  readonly bigbrotr: Bigbrotr;
  readonly told: Progress[] = [];
  readonly #others: Bigbrotr[] = [];

  constructor(db: TestDatabase, bigbrotr: Bigbrotr) {
    this.db = db;
    this.bigbrotr = bigbrotr;
  }

  async context(options: Partial<VisitContext> = {}): Promise<VisitContext> {
    const { filter = {}, bigbrotr = this.bigbrotr } = options;
    return {
      bigbrotr,
      verifier,
      connect: { timeoutMs: 5000, allowPrivate: true, torProxy: null },
      secretKey: null,
      filter,
      filterId: options.filterId ?? (await bigbrotr.filterId(filter)),
      startTimestamp: 0,
      stopTimestamp: 'now',
      overlapSeconds: 0,
      reproveSeconds: 86_400,
      batchSize: 500,
      requestTimeoutMs: 5000,
      lingerMs: 20,
      visitMs: 60_000,
      log: silent,
      signal: new AbortController().signal,
      now: () => Math.floor(Date.now() / 1000),
      onProgress: (progress) => void this.told.push(progress),
      ...options,
    };
  }

  async relay(url: string): Promise<Relay> {
    const [relay] = await this.bigbrotr.relaysOf([relayAddress(url)]);
    if (!relay) throw new Error(`the archive does not give back ${url}`);
    return relay;
  }

  async visit(url: string, { live = null, ...options }: VisitOptions = {}): Promise<VisitReport> {
    return visitRelay(await this.relay(url), await this.context(options), live);
  }

  async ids(url: string): Promise<string[]> {
    const rows = await this.db.query<{ id: string }>(
      `select encode(event_id, 'hex') as id from events_relays where relay_url = $1 order by 1`,
      [relayAddress(url).url],
    );
    return rows.map(({ id }) => id);
  }

  async allIds(): Promise<string[]> {
    const rows = await this.db.query<{ id: string }>('select id from events_hex order by 1');
    return rows.map(({ id }) => id);
  }

  async covered(url: string): Promise<string> {
    const [row] = await this.db.query<{ covered: string }>(
      `select coalesce(range_agg(covered), '{}')::text as covered
       from coverage join relays using (relay_id) where url = $1`,
      [relayAddress(url).url],
    );
    return row?.covered ?? '{}';
  }

  async snapshot(url: string, nip11: object | null = null): Promise<void> {
    const row: SnapshotRow = {
      relay: relayAddress(url),
      generatedAt: Math.floor(Date.now() / 1000),
      nip11,
      nip66: { openable: true, readable: true, writable: false },
    };
    await this.bigbrotr.insertSnapshots([row]);
  }

  async clear(): Promise<void> {
    await this.db.query('truncate relays, events, sightings cascade');
    this.told.length = 0;
  }

  async again(): Promise<Bigbrotr> {
    const bigbrotr = await openBigbrotr(this.db);
    this.#others.push(bigbrotr);
    return bigbrotr;
  }

  async close(): Promise<void> {
    await Promise.all([this.bigbrotr, ...this.#others].map((bigbrotr) => bigbrotr.close()));
    await this.db.drop();
  }
}
