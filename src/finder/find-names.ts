import type { Candidate } from '../bigbrotr/candidates.ts';
import type { FinderArchive } from '../bigbrotr/finder.ts';
import { crashPoint } from '../crash-point.ts';
import type { EventFilter } from '../nostr/filter.ts';
import type { Verifier } from '../nostr/verify.ts';
import { type Blocklist, readBlocklist } from '../relay/blocklist.ts';
import type { ConnectOptions } from '../relay/connection.ts';
import { fetchRelayList } from '../relay/relay-list.ts';
import { RelayNames } from '../relay/relay-names.ts';
import { parseRelayUrl, type RelayUrl } from '../relay/url.ts';
import { type AnswerOptions, answerOf } from './find-answer.ts';
import { MonitorFeed, type OnReports } from './find-monitors.ts';

/** One thing for a worker of the finder to do. */
export type FinderJob =
  /** Reads the queue until it is empty. */
  | { readonly type: 'scan' }
  | { readonly type: 'ask'; readonly candidate: Candidate }
  | { readonly type: 'list'; readonly url: RelayUrl }
  /** Ends by itself unless it is live. */
  | { readonly type: 'monitors'; readonly url: RelayUrl; readonly live: boolean };

export interface FinderReport {
  /** Why what was asked did not answer, one stable word; null when it did. */
  readonly reason: string | null;
  /** Whether this made a relay known that was not. */
  readonly isNew: boolean;
  /** How long the server asked to be left alone (`Retry-After`), in seconds; null where it did not. */
  readonly retryAfterSeconds: number | null;
}

/** Figures to be added up, by their names. */
export type FinderProgress = Readonly<Record<string, number>>;

type Tell = (progress: FinderProgress) => void;

export interface FinderContext {
  readonly finder: FinderArchive;
  readonly verifier: Verifier;
  readonly connect: Omit<ConnectOptions, 'signal' | 'maxMessageBytes'>;
  readonly blocklistPath: string | null;
  /** What the synchronizers archive: a candidate is asked the same; all events unless told. */
  readonly eventFilter?: EventFilter;
  /** Unix seconds. */
  readonly now: () => number;
}

/** Rows of the queue in one transaction: each holds the events of one batch. */
const ROWS_AT_A_TIME = 10;
const DONE: FinderReport = { reason: null, isNew: false, retryAfterSeconds: null };

/** What a worker of the finder does. Each method throws DatabaseError, and the signal's reason when it aborts. */
export class Finding {
  readonly #context: FinderContext;
  readonly #feed: MonitorFeed;

  constructor(context: FinderContext) {
    this.#context = context;
    this.#feed = new MonitorFeed(context);
  }

  run(job: FinderJob, signal: AbortSignal, tell: Tell): Promise<FinderReport> {
    switch (job.type) {
      case 'scan':
        return this.#scan(signal, tell);
      case 'ask':
        return this.#ask(job.candidate, signal);
      case 'list':
        return this.#readList(job.url, signal, tell);
      case 'monitors':
        return this.#readMonitors(job.url, job.live, signal, tell);
    }
  }

  async #scan(signal: AbortSignal, tell: Tell): Promise<FinderReport> {
    const blocklist = await this.#blocklist();
    while (!signal.aborted) {
      const gather = () => this.#names(blocklist);
      const scanned = await this.#context.finder.scan(ROWS_AT_A_TIME, gather);
      if (scanned.batches === 0) break;
      const { events, candidates, crowded, refused } = scanned;
      tell({ events_scanned: events, ...figures({ candidates, crowded }, refused) });
    }
    return DONE;
  }

  async #ask({ nameId, url }: Candidate, signal: AbortSignal): Promise<FinderReport> {
    const { finder, connect, eventFilter = {} } = this.#context;
    let retryAfterSeconds: number | null = null;
    const reason = await this.#reasonAgainst(
      url,
      { ...connect, eventFilter, signal },
      (seconds) => {
        retryAfterSeconds = seconds;
      },
    );
    crashPoint('answered', url);
    if (reason === null) return { ...DONE, isNew: await finder.promote(nameId) };
    await finder.putOff(nameId, reason, retryAfterSeconds);
    return { reason, isNew: false, retryAfterSeconds };
  }

  /** What was named may have been blocked since. */
  async #reasonAgainst(
    text: string,
    options: AnswerOptions,
    onRetryAfter: (seconds: number) => void,
  ): Promise<string | null> {
    const parsed = parseRelayUrl(text);
    if (!parsed.ok) return 'invalid';
    const blocklist = await this.#blocklist();
    return blocklist.blocks(parsed.url) ? 'blocked' : answerOf(parsed.url, options, onRetryAfter);
  }

  async #readList(url: RelayUrl, signal: AbortSignal, tell: Tell): Promise<FinderReport> {
    const { connect, finder, now } = this.#context;
    const list = await fetchRelayList(url, { ...connect, signal });
    if (!list.ok) {
      const { reason, retryAfterSeconds = null } = list;
      return { reason, isNew: false, retryAfterSeconds };
    }
    const names = this.#names(await this.#blocklist());
    for (const text of list.names) names.addListed(text, now());
    const written = await finder.record(names.named());
    tell({ names_listed: list.names.length, ...figures(written, names.refused) });
    return DONE;
  }

  async #readMonitors(
    url: RelayUrl,
    live: boolean,
    signal: AbortSignal,
    tell: Tell,
  ): Promise<FinderReport> {
    let retryAfterSeconds: number | null = null;
    const onReports: OnReports = async (reports) => {
      const names = this.#names(await this.#blocklist());
      for (const report of reports) names.addHeard(report);
      const written = await this.#context.finder.record(names.named());
      tell({ monitor_reports: reports.length, ...figures(written, names.refused) });
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

function figures(
  { candidates, crowded }: { readonly candidates: number; readonly crowded: number },
  refused: Readonly<Record<string, number>>,
): FinderProgress {
  const named = Object.entries(refused).map(([reason, times]) => [`names_${reason}`, times]);
  return { candidates, names_crowded: crowded, ...Object.fromEntries(named) };
}
