import { setTimeout as sleep } from 'node:timers/promises';
import type { ArchiveReader } from '../../database/archive-reader.ts';
import { type ChangeCursor, changesAfter, journalHead } from '../../database/changes.ts';
import type { Logger } from '../../telemetry/logger.ts';
import type { LiveSubscriptions } from './live-subscriptions.ts';

/** The journal is read this often, in milliseconds. */
const POLL_MS = 250;
/** The same after the database did not answer. */
const RETRY_MS = 1000;
const EVENTS_AT_A_TIME = 500;
const BYTES_AT_A_TIME = 4 * 1024 * 1024;

/** Follows the journal and hands each event, once it is committed, to the subscriptions that it matches. */
export class LiveFeed {
  readonly #subscriptions: LiveSubscriptions;
  readonly #log: Logger;
  readonly #pollMs: number;
  #cursor: ChangeCursor | null = null;

  constructor(subscriptions: LiveSubscriptions, log: Logger, pollMs = POLL_MS) {
    this.#subscriptions = subscriptions;
    this.#log = log;
    this.#pollMs = pollMs;
  }

  /** Runs until the signal aborts. @param onReady called when the journal was read */
  async run(archive: ArchiveReader, signal: AbortSignal, onReady: () => void): Promise<void> {
    let fails = false;
    while (!signal.aborted) {
      try {
        const hasMore = await this.#poll(archive);
        if (fails) this.#log.info('new events are read again');
        fails = false;
        onReady();
        if (!hasMore) await pause(this.#pollMs, signal);
      } catch (err) {
        if (!fails && !signal.aborted) this.#log.warn({ err }, 'new events cannot be read');
        fails = true;
        await pause(RETRY_MS, signal);
      }
    }
  }

  /** Reads what follows. @returns whether there is more. @throws DatabaseError */
  async #poll(archive: ArchiveReader): Promise<boolean> {
    const round = this.#subscriptions.beginRound();
    const from = this.#cursor;
    if (from === null || this.#subscriptions.size === 0) {
      // Where nobody waits for events, their place is followed without reading them. Who has subscribed meanwhile may
      // wait for what came before the place that was just read.
      const head = await archive.read(journalHead);
      if (from === null || this.#subscriptions.size === 0) this.#cursor = head;
      return false;
    }
    const changes = await archive.read((query, shards) =>
      changesAfter(query, from, EVENTS_AT_A_TIME, BYTES_AT_A_TIME, shards),
    );
    if (changes.state !== 'read') {
      // What was stored meanwhile is not known: those who wait for it have to ask for it.
      this.#cursor = await archive.read(journalHead);
      this.#subscriptions.loseAll();
      return false;
    }
    for (const { event } of changes.changes) this.#subscriptions.deliver(event);
    this.#cursor = changes.cursor;
    if (!changes.hasMore) this.#subscriptions.endRound(round);
    return changes.hasMore;
  }
}

const pause = (ms: number, signal: AbortSignal) =>
  sleep(ms, undefined, { signal }).catch(() => undefined);
