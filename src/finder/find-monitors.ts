import { setTimeout as sleep } from 'node:timers/promises';
import { parseEvent } from '../nostr/event.ts';
import type { ReqFilter } from '../nostr/filter.ts';
import type { VerifiedEvent, Verifier } from '../nostr/verify.ts';
import { asRelayError, type ConnectOptions, connectRelay } from '../relay/connection.ts';
import { retryAfterOf } from '../relay/relay-error.ts';
import { type PageEnd, readLive, readPage } from '../relay/subscription.ts';
import type { RelayUrl } from '../relay/url.ts';

/** Reports of other monitors on relays (NIP-66, kind 30166), from one relay: what it has, and what comes in. */

const RELAY_DISCOVERY = 30_166;
/** Reports have a few hundred bytes. */
const MAX_MESSAGE_BYTES = 256 * 1024;
/** Reports that are asked for at once; those before them have been archived, or come again with the next check. */
const PAGE_EVENTS = 2000;
const PAGE_BYTES = 16 * 1024 * 1024;
/** So long after some reports the next ones are taken, in milliseconds; until then the relay has to wait. */
const PAUSE_MS = 2000;
/** Reports that are of no use, forged ones above all: so many, and one more for each good one, then we leave. */
const MAX_USELESS = 1000;
/** Ids that are remembered, for the same report comes from every relay. */
const MAX_REMEMBERED = 50_000;
const KEEP_ALIVE_MS = 60_000;

export interface MonitorFeedOptions {
  readonly verifier: Verifier;
  readonly connect: Omit<ConnectOptions, 'signal' | 'maxMessageBytes'>;
}

/** Takes sound reports. @throws DatabaseError */
export type OnReports = (events: readonly VerifiedEvent[]) => Promise<void>;

/** Reads the reports of other monitors from several relays, each report once. */
export class MonitorFeed {
  readonly #options: MonitorFeedOptions;
  readonly #seen = new Set<string>();

  constructor(options: MonitorFeedOptions) {
    this.#options = options;
  }

  /**
   * Reads what a relay has, and goes on listening where that is wanted.
   *
   * @param onReports hears of each report once, whichever relay it comes from
   * @param onRetryAfter hears how long the server asked to be left alone (`Retry-After`), in seconds
   * @returns one stable word for how it ended; `eose` is good
   * @throws DatabaseError
   */
  async read(
    url: RelayUrl,
    live: boolean,
    signal: AbortSignal,
    onReports: OnReports,
    onRetryAfter: (seconds: number) => void = () => {},
  ): Promise<string> {
    const { connect } = this.#options;
    const limits = { idleTimeoutMs: connect.timeoutMs, totalTimeoutMs: 10 * connect.timeoutMs };
    let connection: Awaited<ReturnType<typeof connectRelay>>;
    try {
      connection = await connectRelay(url, {
        ...connect,
        signal,
        maxMessageBytes: MAX_MESSAGE_BYTES,
      });
    } catch (error) {
      const seconds = retryAfterOf(error);
      if (seconds !== null) onRetryAfter(seconds);
      return asRelayError(error, url).reason;
    }
    try {
      const bounds = { ...limits, maxEvents: PAGE_EVENTS, maxBytes: PAGE_BYTES };
      const stored: ReqFilter = { kinds: [RELAY_DISCOVERY], limit: PAGE_EVENTS / 2 };
      const end = await this.#take(
        readPage(connection, stored, bounds, signal),
        onReports,
        signal,
        0,
      );
      if (!live || signal.aborted || !connection.isOpen) return end;
      connection.keepAlive(KEEP_ALIVE_MS);
      const coming: ReqFilter = { kinds: [RELAY_DISCOVERY], limit: 0 };
      return await this.#take(readLive(connection, coming, signal), onReports, signal, PAUSE_MS);
    } finally {
      connection.close();
    }
  }

  async #take(
    page: AsyncGenerator<unknown[], PageEnd>,
    onReports: OnReports,
    signal: AbortSignal,
    pauseMs: number,
  ): Promise<string> {
    let useless = 0;
    let useful = 0;
    try {
      for (;;) {
        const step = await page.next();
        if (step.done) return step.value.type;
        const reports = step.value.map((value) => this.#report(value));
        const fresh = new Map<string, VerifiedEvent>(); // a relay may send one twice in a row
        for (const report of reports)
          if (report !== null && report !== 'known') fresh.set(report.id, report);
        useful += fresh.size;
        useless += reports.filter((report) => report === null).length;
        await this.#pass([...fresh.values()], onReports);
        if (useless > MAX_USELESS + useful) return 'garbled';
        if (pauseMs > 0) await sleep(pauseMs, undefined, { signal }).catch(() => {});
      }
    } finally {
      await page.return({ type: 'aborted' });
    }
  }

  async #pass(reports: readonly VerifiedEvent[], onReports: OnReports): Promise<void> {
    if (reports.length === 0) return;
    await onReports(reports);
    for (const { id } of reports) this.#seen.add(id);
    for (const id of this.#seen) {
      if (this.#seen.size <= MAX_REMEMBERED) break;
      this.#seen.delete(id); // the oldest: a set keeps its order
    }
  }

  /** Null for what is no report, or a forged one. One that was had before is not verified again. */
  #report(value: unknown): VerifiedEvent | 'known' | null {
    const parsed = parseEvent(value);
    if (!parsed.ok || parsed.event.kind !== RELAY_DISCOVERY) return null;
    if (this.#seen.has(parsed.event.id)) return 'known';
    return this.#options.verifier.verify(parsed.event);
  }
}
