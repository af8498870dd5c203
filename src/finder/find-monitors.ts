import { setTimeout as sleep } from 'node:timers/promises';
import { RelayDiscovery } from 'nostr-tools/kinds';
import { asRelayError, retryAfterOf } from '../network/relay-error.ts';
import type { RelayUrl } from '../network/url.ts';
import { parseEvent } from '../nostr/event.ts';
import type { ReqFilter } from '../nostr/filter.ts';
import type { VerifiedEvent, Verifier } from '../nostr/verify.ts';
import { type ConnectOptions, connectRelay } from '../relay-client/connection.ts';
import { type PageEnd, readLive, readPage } from '../relay-client/subscription.ts';

/** Reads the reports of other monitors (NIP-66, kind 30166) from a relay: stored ones, then live ones. */

/** Reports have a few hundred bytes. */
const MAX_MESSAGE_BYTES = 256 * 1024;
/** Bounds of the page of stored reports. Older reports are in the archive, or are published again with the next check. */
const PAGE_EVENTS = 2000;
const PAGE_BYTES = 16 * 1024 * 1024;
/** Pause after each batch of live reports, in milliseconds: the relay is under back-pressure until then. */
const PAUSE_MS = 2000;
/** The connection is closed after this many invalid reports, plus one for each valid report. */
const MAX_INVALID = 1000;
/** Ids of recent reports that are remembered, because every relay sends the same reports. */
const MAX_REMEMBERED = 50_000;
const KEEP_ALIVE_MS = 60_000;

export interface MonitorFeedOptions {
  readonly verifier: Verifier;
  readonly connect: Omit<ConnectOptions, 'signal' | 'maxMessageBytes'>;
}

/** Receives verified reports. @throws DatabaseError */
export type OnReports = (events: readonly VerifiedEvent[]) => Promise<void>;

/** Reads the reports of other monitors from several relays, each report once. */
export class MonitorFeed {
  readonly #options: MonitorFeedOptions;
  readonly #seen = new Set<string>();

  constructor(options: MonitorFeedOptions) {
    this.#options = options;
  }

  /**
   * Reads the stored reports of a relay, then live ones if `live` is set.
   *
   * @param onReports receives each report once, whichever relay sent it
   * @param onRetryAfter called with the pause that the server asked for (`Retry-After`), in seconds
   * @returns how it ended, as one stable word; `eose`: complete
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
      const stored: ReqFilter = { kinds: [RelayDiscovery], limit: PAGE_EVENTS / 2 };
      const end = await this.#consume(
        readPage(connection, stored, bounds, signal),
        onReports,
        signal,
        0,
      );
      if (!live || signal.aborted || !connection.isOpen) return end;
      connection.keepAlive(KEEP_ALIVE_MS);
      const onlyNew: ReqFilter = { kinds: [RelayDiscovery], limit: 0 };
      return await this.#consume(
        readLive(connection, onlyNew, signal),
        onReports,
        signal,
        PAUSE_MS,
      );
    } finally {
      connection.close();
    }
  }

  async #consume(
    page: AsyncGenerator<unknown[], PageEnd>,
    onReports: OnReports,
    signal: AbortSignal,
    pauseMs: number,
  ): Promise<string> {
    let invalid = 0;
    let valid = 0;
    try {
      for (;;) {
        const step = await page.next();
        if (step.done) return step.value.type;
        const reports = step.value.map((value) => this.#verify(value));
        const fresh = new Map<string, VerifiedEvent>(); // a relay may send a report twice in a row
        for (const report of reports)
          if (report !== null && report !== 'known') fresh.set(report.id, report);
        valid += fresh.size;
        invalid += reports.filter((report) => report === null).length;
        await this.#deliver([...fresh.values()], onReports);
        if (invalid > MAX_INVALID + valid) return 'garbled';
        if (pauseMs > 0) await sleep(pauseMs, undefined, { signal }).catch(() => {});
      }
    } finally {
      await page.return({ type: 'aborted' });
    }
  }

  async #deliver(reports: readonly VerifiedEvent[], onReports: OnReports): Promise<void> {
    if (reports.length === 0) return;
    await onReports(reports);
    for (const { id } of reports) this.#seen.add(id);
    for (const id of this.#seen) {
      if (this.#seen.size <= MAX_REMEMBERED) break;
      this.#seen.delete(id); // the oldest: a set keeps insertion order
    }
  }

  /** Null for anything but a valid report. A report seen before is not verified again. */
  #verify(value: unknown): VerifiedEvent | 'known' | null {
    const parsed = parseEvent(value);
    if (!parsed.ok || parsed.event.kind !== RelayDiscovery) return null;
    if (this.#seen.has(parsed.event.id)) return 'known';
    return this.#options.verifier.verify(parsed.event);
  }
}
