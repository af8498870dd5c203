import { setTimeout as sleep } from 'node:timers/promises';
import type { Bigbrotr } from '../database/bigbrotr.ts';
import type { Candidate } from '../database/candidates.ts';
import { type Blocklist, readBlocklist } from '../network/blocklist.ts';
import { parseRelayUrl, type RelayUrl } from '../network/url.ts';
import type { EventFilter } from '../nostr/filter.ts';
import type { Verifier } from '../nostr/verify.ts';
import type { ConnectOptions } from '../relay-client/connection.ts';
import { crashPoint } from '../telemetry/crash-point.ts';
import { MonitorFeed, type OnReports } from './find-monitors.ts';
import { type AnswerOptions, probeCandidate } from './probe-candidate.ts';
import { fetchRelayList } from './relay-list.ts';
import { RelayNames } from './relay-names.ts';

/** A job of a worker of the finder. */
export type FinderJob =
  /** Reads the journal to its end; `waits` for transactions that hold its rows back. */
  | { readonly type: 'scan'; readonly waits: boolean }
  | { readonly type: 'probe'; readonly candidate: Candidate }
  | { readonly type: 'list'; readonly url: RelayUrl }
  /** Reads reports of other monitors; runs until it is stopped if `live` is set. */
  | { readonly type: 'monitors'; readonly url: RelayUrl; readonly live: boolean };

export interface FinderReport {
  /** Why the server did not answer, as one stable word; null when it did. */
  readonly reason: string | null;
  /** Whether the candidate became a new relay of the archive. */
  readonly isNew: boolean;
  /** The pause that the server asked for (`Retry-After`), in seconds; null if it did not. */
  readonly retryAfterSeconds: number | null;
}

/** Increments of counters, by their names. */
export type FinderProgress = Readonly<Record<string, number>>;

type Report = (progress: FinderProgress) => void;

export interface FinderContext {
  readonly finder: Bigbrotr['finder'];
  readonly verifier: Verifier;
  readonly connect: Omit<ConnectOptions, 'signal' | 'maxMessageBytes'>;
  readonly blocklistPath: string | null;
  /** What the synchronizers archive: candidates are probed with it. Default: all events. */
  readonly eventFilter?: EventFilter;
  /** Unix seconds. */
  readonly now: () => number;
}

/** Rows of the journal read in one transaction; those of batches without new events are empty. */
const ROWS_PER_TRANSACTION = 500;
/** Interval of reading again while rows are held back, and how long that is waited for, in milliseconds. */
const HELD_BACK_MS = 200;
const MAX_HELD_BACK_MS = 60_000;
const DONE: FinderReport = { reason: null, isNew: false, retryAfterSeconds: null };

/** Runs the jobs of a worker of the finder. */
export class Finding {
  readonly #context: FinderContext;
  readonly #feed: MonitorFeed;

  constructor(context: FinderContext) {
    this.#context = context;
    this.#feed = new MonitorFeed(context);
  }

  /** @throws DatabaseError, or the signal's reason when it aborts */
  run(job: FinderJob, signal: AbortSignal, report: Report): Promise<FinderReport> {
    switch (job.type) {
      case 'scan':
        return this.#scan(job.waits, signal, report);
      case 'probe':
        return this.#probe(job.candidate, signal);
      case 'list':
        return this.#readList(job.url, signal, report);
      case 'monitors':
        return this.#readMonitors(job.url, job.live, signal, report);
    }
  }

  async #scan(waits: boolean, signal: AbortSignal, report: Report): Promise<FinderReport> {
    const blocklist = await this.#blocklist();
    const gather = () => this.#names(blocklist);
    let waitedMs = 0;
    while (!signal.aborted) {
      const scanned = await this.#context.finder.scan(ROWS_PER_TRANSACTION, gather);
      if (scanned.state === 'rows') {
        const { events, candidates, crowded, refused } = scanned;
        report({ events_scanned: events, ...countersOf({ candidates, crowded }, refused) });
        continue;
      }
      if (scanned.state !== 'held_back' || !waits || waitedMs >= MAX_HELD_BACK_MS) break;
      await sleep(HELD_BACK_MS, undefined, { signal }).catch(() => {});
      waitedMs += HELD_BACK_MS;
    }
    return DONE;
  }

  async #probe(candidate: Candidate, signal: AbortSignal): Promise<FinderReport> {
    const { url } = candidate;
    const { finder, connect, eventFilter = {} } = this.#context;
    let retryAfterSeconds: number | null = null;
    const reason = await this.#failureOf(url, { ...connect, eventFilter, signal }, (seconds) => {
      retryAfterSeconds = seconds;
    });
    crashPoint('answered', url);
    if (reason === null) return { ...DONE, isNew: await finder.promote(candidate) };
    // Our own network failed: the candidate is asked again when that is back.
    if (reason !== 'network_down') await finder.putOff(candidate, reason, retryAfterSeconds);
    return { reason, isNew: false, retryAfterSeconds };
  }

  /** Why a candidate is not a relay; null when it is. It may have been blocked after it was named. */
  async #failureOf(
    text: string,
    options: AnswerOptions,
    onRetryAfter: (seconds: number) => void,
  ): Promise<string | null> {
    const parsed = parseRelayUrl(text);
    if (!parsed.ok) return 'invalid';
    const blocklist = await this.#blocklist();
    return blocklist.blocks(parsed.url)
      ? 'blocked'
      : probeCandidate(parsed.url, options, onRetryAfter);
  }

  async #readList(url: RelayUrl, signal: AbortSignal, report: Report): Promise<FinderReport> {
    const { connect, finder, now } = this.#context;
    const list = await fetchRelayList(url, { ...connect, signal });
    if (!list.ok) {
      const { reason, retryAfterSeconds = null } = list;
      return { reason, isNew: false, retryAfterSeconds };
    }
    const names = this.#names(await this.#blocklist());
    for (const text of list.names) names.addListed(text, now());
    const written = await finder.record(names.named());
    report({ names_listed: list.names.length, ...countersOf(written, names.refused) });
    return DONE;
  }

  async #readMonitors(
    url: RelayUrl,
    live: boolean,
    signal: AbortSignal,
    report: Report,
  ): Promise<FinderReport> {
    let retryAfterSeconds: number | null = null;
    const onReports: OnReports = async (reports) => {
      const names = this.#names(await this.#blocklist());
      for (const event of reports) names.addUncounted(event);
      const written = await this.#context.finder.record(names.named());
      report({ monitor_reports: reports.length, ...countersOf(written, names.refused) });
    };
    const end = await this.#feed.read(url, live, signal, onReports, (seconds) => {
      retryAfterSeconds = seconds;
    });
    const reason = ['eose', 'finish', 'more'].includes(end) ? null : end;
    return { reason, isNew: false, retryAfterSeconds };
  }

  #blocklist(): Promise<Blocklist> {
    return readBlocklist(this.#context.blocklistPath);
  }

  #names(blocklist: Blocklist): RelayNames {
    return new RelayNames({ blocklist, allowPrivate: this.#context.connect.allowPrivate });
  }
}

function countersOf(
  { candidates, crowded }: { readonly candidates: number; readonly crowded: number },
  refused: Readonly<Record<string, number>>,
): FinderProgress {
  const named = Object.entries(refused).map(([reason, times]) => [`names_${reason}`, times]);
  return { candidates, names_crowded: crowded, ...Object.fromEntries(named) };
}
