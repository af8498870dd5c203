import type { Logger } from 'pino';
import { BatchWriter } from './batch-writer.ts';
import type { Bigbrotr, Relay, Stored, VisitEnd, Wanted } from './bigbrotr.ts';
import { createdAtOf, parseEvent } from './nostr/event.ts';
import { type EventFilter, matchesFilter, type ReqFilter } from './nostr/filter.ts';
import { refusalOf } from './nostr/message.ts';
import type { Verifier } from './nostr/verify.ts';
import {
  type ConnectOptions,
  connectRelay,
  type RelayConnection,
  RelayError,
} from './relay/connection.ts';
import { type PageRequest, Pager, PageTally } from './relay/paging.ts';
import { type PageEnd, readPage } from './relay/subscription.ts';

/** What every visit of a worker shares. */
export interface VisitContext {
  readonly bigbrotr: Bigbrotr;
  readonly verifier: Verifier;
  readonly connect: Omit<ConnectOptions, 'signal'>;
  readonly filter: EventFilter;
  readonly filterId: number;
  /** The first second wanted, or `resume`: only what is newer than the newest second proven. */
  readonly startTimestamp: number | 'resume';
  /** The last second wanted, or `now`. */
  readonly stopTimestamp: number | 'now';
  readonly overlapSeconds: number;
  /** Events asked for in a page, and in a batch. */
  readonly batchSize: number;
  /** Longest silence of a relay, in milliseconds. */
  readonly requestTimeoutMs: number;
  /** A visit stops after this, in milliseconds, and goes on another time, so that no relay starves another. */
  readonly visitMs: number;
  readonly log: Logger;
  readonly signal: AbortSignal;
  /** Unix seconds. */
  readonly now: () => number;
  /** Hears of each batch that was stored. */
  readonly onStored: (stored: Stored) => void;
}

/** What a visit did; plain data, for the thread that schedules. */
export interface VisitReport extends VisitEnd {
  readonly events: number;
  readonly sightings: number;
  readonly quarantined: number;
  /** What was refused, by reason. */
  readonly invalid: Record<string, number>;
  readonly bytes: number;
}

/** One page may keep us waiting this many times the longest silence. */
const PAGE_TIMEOUTS = 10;
/** Bounds of one page, for relays that ignore `limit`. */
const MAX_PAGE_EVENTS = 20_000;
const MAX_PAGE_BYTES = 64 * 1024 * 1024;

/**
 * Visits one relay: reads every gap in its coverage, newest first, page by page, and archives what verifies.
 * It can stop anywhere and goes on from what is proven. A relay that fails is a report, not an exception.
 *
 * @throws DatabaseError when the archive cannot be written; nothing is claimed then that is not stored.
 */
export async function visitRelay(relay: Relay, context: VisitContext): Promise<VisitReport> {
  const visit = new Visit(relay, context);
  const report = await visit.run();
  await context.bigbrotr.endVisit(relay, context.filterId, report);
  return report;
}

class Visit {
  readonly #relay: Relay;
  readonly #context: VisitContext;
  readonly #writer: BatchWriter;
  readonly #deadline: number;
  readonly #invalid = new Map<string, number>();
  #stored: Stored = { events: 0, sightings: 0, quarantined: 0 };
  #pages = 0;
  #holes = 0;
  #proved = false;
  #bytes = 0;

  constructor(relay: Relay, context: VisitContext) {
    this.#relay = relay;
    this.#context = context;
    this.#deadline = performance.now() + context.visitMs;
    this.#writer = new BatchWriter({
      bigbrotr: context.bigbrotr,
      verifier: context.verifier,
      relay,
      filterId: context.filterId,
      batchSize: context.batchSize,
      onStored: (stored) => this.#count(stored),
      onInvalid: (reason) => this.#countInvalid(reason),
      now: context.now,
    });
  }

  async run(): Promise<VisitReport> {
    const { bigbrotr, connect, signal, overlapSeconds } = this.#context;
    const wanted = await this.#wanted();
    const gaps = wanted ? await bigbrotr.beginVisit(this.#relay, wanted, overlapSeconds) : [];
    if (gaps.length === 0) return this.#report('complete', null);
    let connection: RelayConnection;
    try {
      connection = await connectRelay(this.#relay.url, { ...connect, signal });
    } catch (error) {
      if (!(error instanceof RelayError)) throw error;
      return this.#report(error.reason === 'aborted' ? 'unfinished' : 'failed', error.reason);
    }
    try {
      const pager = new Pager(gaps, { limit: this.#context.batchSize });
      const interrupted = await this.#readPages(connection, pager);
      await this.#writer.flush();
      this.#bytes = connection.bytesReceived;
      return this.#conclude(pager, interrupted);
    } finally {
      connection.close();
    }
  }

  /** The stretch of time that this visit should cover; null when it is empty. */
  async #wanted(): Promise<Wanted | null> {
    const { bigbrotr, filterId, startTimestamp, stopTimestamp, now } = this.#context;
    const until = stopTimestamp === 'now' ? now() : stopTimestamp;
    const since =
      startTimestamp === 'resume'
        ? ((await bigbrotr.newestCovered(this.#relay, filterId)) ?? 0)
        : startTimestamp;
    return since <= until ? { filterId, since, until } : null;
  }

  /** @returns why reading was interrupted, or null when the pager had nothing more to ask. */
  async #readPages(connection: RelayConnection, pager: Pager): Promise<string | null> {
    for (let request = pager.next(); request; request = pager.next()) {
      if (this.#context.signal.aborted) return 'stopped';
      if (performance.now() > this.#deadline) return 'time is up';
      const { tally, end } = await this.#readPage(connection, request);
      if (end.type === 'aborted') return 'stopped';
      if (end.type === 'closed' && !['limit', 'other'].includes(refusalOf(end.text))) {
        pager.stopped = `${refusalOf(end.text)}: ${end.text}`;
        return null;
      }
      const verdict = pager.accept(tally, end);
      this.#proved ||= verdict.proven.length > 0;
      this.#holes += verdict.holes.length;
      await this.#writer.endPage(verdict);
    }
    return null;
  }

  async #readPage(
    connection: RelayConnection,
    request: PageRequest,
  ): Promise<{ tally: PageTally; end: PageEnd }> {
    const { requestTimeoutMs, signal } = this.#context;
    this.#pages += 1;
    const tally = new PageTally(request);
    const limits = {
      idleTimeoutMs: requestTimeoutMs,
      totalTimeoutMs: requestTimeoutMs * PAGE_TIMEOUTS,
      maxEvents: MAX_PAGE_EVENTS,
      maxBytes: MAX_PAGE_BYTES,
    };
    const pages = readPage(connection, this.#reqFilter(request), limits, signal);
    for (;;) {
      const step = await pages.next();
      if (step.done) return { tally, end: step.value };
      for (const value of step.value) await this.#receive(value, tally);
    }
  }

  #reqFilter({ since, until, limit }: PageRequest): ReqFilter {
    const { filter } = this.#context;
    return since > 0 ? { ...filter, since, until, limit } : { ...filter, until, limit };
  }

  /** Every well-formed event counts for progress; only what is whole and was asked for goes on. */
  async #receive(value: unknown, tally: PageTally): Promise<void> {
    const parsed = parseEvent(value);
    if (!parsed.ok) {
      this.#countInvalid(parsed.reason);
      const createdAt = createdAtOf(value);
      if (createdAt !== null) tally.add(claimedId(value, tally), createdAt);
      return;
    }
    const { event } = parsed;
    if (!tally.add(event.id, event.created_at)) return;
    if (matchesFilter(event, this.#context.filter)) await this.#writer.add(event);
    else this.#countInvalid('filter_mismatch');
  }

  #conclude(pager: Pager, interrupted: string | null): VisitReport {
    if (interrupted) return this.#report('unfinished', interrupted);
    if (pager.stopped) return this.#report(this.#proved ? 'partial' : 'failed', pager.stopped);
    if (this.#holes > 0)
      return this.#report('partial', `${this.#holes} stretches cannot be proven`);
    return this.#report('complete', null);
  }

  #count(stored: Stored): void {
    this.#context.onStored(stored);
    this.#stored = {
      events: this.#stored.events + stored.events,
      sightings: this.#stored.sightings + stored.sightings,
      quarantined: this.#stored.quarantined + stored.quarantined,
    };
  }

  #countInvalid(reason: string): void {
    this.#invalid.set(reason, (this.#invalid.get(reason) ?? 0) + 1);
  }

  #report(outcome: VisitEnd['outcome'], detail: string | null): VisitReport {
    const invalid = Object.fromEntries(this.#invalid);
    return { outcome, detail, pages: this.#pages, ...this.#stored, invalid, bytes: this.#bytes };
  }
}

/** The id that a broken event claims, so that a repeat of it is not counted twice. */
function claimedId(value: unknown, tally: PageTally): string {
  const id = typeof value === 'object' && value !== null && 'id' in value ? value.id : undefined;
  return typeof id === 'string'
    ? id.slice(0, 64)
    : `unnamed ${tally.inside + tally.above + tally.below}`;
}
