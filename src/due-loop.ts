/**
 * Hands out what is due, one by one, whenever a slot is free: the loop of every service that visits relays.
 *
 * An item (a relay, a candidate) is in one of four states of this process:
 * - *waiting*: only the database knows of it, and when it is due.
 * - *due*: the look-up that is under way found it. It is held until that look-up is handed out, and forgotten where no
 *   slot was free for it: what the database says when one is free counts.
 * - *running*: handed to a worker. It is not looked up again until its job has ended.
 * - *resting*: its job ended a moment ago. It is not looked up meanwhile, whatever the database says; then it waits again.
 *
 * The loop looks up as many items as there are free slots and a few more
 * - when a slot gets free and the latest look-up left something due, at most a fifth of the time;
 * - when the latest look-up left nothing: after `pollMs`;
 * - when the database was away: after a second;
 * - while the database does not take results (`not_stored`): once a second, and hands out one item each time, another one
 *   where there is one, until a result is stored.
 *
 * Guaranteed: an item runs once at a time; no item waits for the end of another one while a slot is free; nothing is looked
 * up while no slot is free. A loop that ends with its list runs each item that was due at the start once.
 *
 * A round is a report and no barrier: it begins with an item that is handed out and ends when all that was due has run,
 * or after `reportMs`; it counts the jobs that ended in it.
 */
import { isPassing, type Round } from './service.ts';

/** How a job ended. `lost`: without a result; `not_stored`: because the database did not take it. */
export type Ending = 'good' | 'failed' | 'lost' | 'not_stored';

/** What a look-up found. */
export interface Found<Item> {
  /** The most urgent first. */
  readonly due: readonly Item[];
  /** Whether more may be due than `due` holds. */
  readonly more: boolean;
}

export interface DueLoopOptions<Item> {
  /** Tells items apart. */
  readonly keyOf: (item: Item) => number;
  /** Finds what is due, but for some keys; about as many items as the limit says, null for all. @throws DatabaseError */
  readonly lookUp: (limit: number | null, except: readonly number[]) => Promise<Found<Item>>;
  /** How many items could be run at once. */
  readonly freeSlots: () => number;
  /** Whether one of the free slots is for this item: any is unless told. */
  readonly hasRoom?: (item: Item) => boolean;
  /** Which of these a free slot takes: the first unless told. */
  readonly choose?: (due: readonly Item[], running: readonly Item[]) => Item | undefined;
  /** Runs one item. Never rejects. */
  readonly run: (item: Item) => Promise<Ending>;
  /** After a look-up that left nothing due, in milliseconds. */
  readonly pollMs: number;
  /** An item whose job was lost rests for this, in milliseconds; `pollMs` unless told. */
  readonly lostMs?: number;
  /** A round is reported at the latest after this, in milliseconds. */
  readonly reportMs: number;
  readonly onRound: (round: Round) => void;
  /** Whether anything runs, each time that changes. */
  readonly onBusy?: (busy: boolean) => void;
  /** Hears that the database is away, with each look-up that it cuts off. */
  readonly onAway: (error: Error) => void;
  /** `with the list`: when everything ran that was due at the start. */
  readonly ends: 'never' | 'with the list' | 'when nothing is due';
  readonly signal: AbortSignal;
}

/** Least time from the end of a look-up to the next one, in milliseconds, and as a multiple of how long it took. */
const LEAST_GAP_MS = 50;
const GAP_TIMES = 4;
const AWAY_MS = 1000;
const NOT_STORED_MS = 1000;
/** An item whose job ended rests for this, in milliseconds: what is due at once again must not spin. */
const REST_MS = 1000;
/** Looked up beyond the free slots: some may be refused (blocklist), or wait for a slot that is not free. */
const SPARE = 50;

interface Running<Item> {
  readonly item: Item;
  readonly ended: Promise<void>;
}

interface OpenRound {
  readonly startedAt: Date;
  relays: number;
  failed: number;
  /** Keys of what still runs of all that was due, since a look-up left nothing; null before. */
  waitingFor: Set<number> | null;
}

const openRound = (): OpenRound => ({
  startedAt: new Date(),
  relays: 0,
  failed: 0,
  waitingFor: null,
});

export class DueLoop<Item> {
  readonly #options: DueLoopOptions<Item>;
  readonly #running = new Map<number, Running<Item>>();
  /** Until when items rest, in milliseconds of `performance.now()`. */
  readonly #resting = new Map<number, number>();
  /** Items that ran since the database does not take results; null while it does. */
  #inVain: Set<number> | null = null;
  /** Of a loop that ends with its list: what was due at the start and did not run yet. */
  #list: Set<Item> | null = null;
  #more = true;
  #nextLook = 0;
  #round: OpenRound | null = null;
  #broken: Error | null = null;
  #wake: () => void = () => {};

  constructor(options: DueLoopOptions<Item>) {
    this.#options = options;
  }

  /**
   * Runs until the signal aborts or the loop ends by itself; what runs then has ended.
   * @throws what a look-up throws; while the database is away a loop that never ends goes on instead.
   */
  async run(): Promise<void> {
    const { ends, signal } = this.#options;
    const onAbort = () => this.#wake();
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      if (ends === 'with the list')
        this.#list = new Set((await this.#options.lookUp(null, [])).due);
      while (!signal.aborted && !this.#isDone()) {
        await this.#look();
        this.#reportRound();
        if (!this.#isDone()) await this.#sleep(this.#waitMs());
        if (this.#broken) throw this.#broken;
      }
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
    await Promise.all([...this.#running.values()].map(({ ended }) => ended));
    this.#reportRound();
  }

  /** Something has become due: it is looked up as soon as a slot is free. */
  lookSoon(): void {
    this.#nextLook = Math.min(this.#nextLook, performance.now());
    this.#wake();
  }

  /** The database took a result: items are handed out to every free slot again. */
  stored(): void {
    if (!this.#inVain) return;
    this.#inVain = null;
    this.lookSoon();
  }

  #isDone(): boolean {
    if (this.#options.ends === 'never' || this.#running.size > 0) return false;
    return this.#list ? this.#list.size === 0 : !this.#more;
  }

  async #look(): Promise<void> {
    const free = this.#options.freeSlots();
    const startedAt = performance.now();
    if (free <= 0 || startedAt < this.#nextLook) return;
    this.#nextLook = Number.POSITIVE_INFINITY; // who sets it meanwhile wants another look-up
    try {
      const { due, more } = await this.#due(free);
      const left = this.#handOut(due);
      this.#more = more || left;
      if (!this.#more && this.#round) this.#round.waitingFor ??= new Set(this.#running.keys());
    } catch (error) {
      if (!isPassing(error) || this.#options.ends !== 'never') throw error;
      this.#options.onAway(error);
      this.#nextLook = performance.now() + AWAY_MS;
      return;
    }
    this.#nextLook = Math.min(this.#nextLook, this.#lookAfter(startedAt));
  }

  #lookAfter(startedAt: number): number {
    const now = performance.now();
    if (this.#inVain) return startedAt + NOT_STORED_MS;
    if (!this.#more) return startedAt + this.#options.pollMs;
    return now + Math.max(LEAST_GAP_MS, GAP_TIMES * (now - startedAt));
  }

  async #due(free: number): Promise<Found<Item>> {
    if (this.#list) {
      const due = [...this.#list].slice(0, free + SPARE);
      return { due, more: due.length < this.#list.size };
    }
    const now = performance.now();
    for (const [key, until] of this.#resting) if (until <= now) this.#resting.delete(key);
    const except = [...this.#running.keys(), ...this.#resting.keys()];
    const inVain = [...(this.#inVain ?? [])];
    const found = await this.#options.lookUp(free + SPARE, [...except, ...inVain]);
    if (inVain.length === 0 || found.due.length > 0 || found.more) return found;
    this.#inVain?.clear(); // all have had their turn
    return this.#options.lookUp(free + SPARE, except);
  }

  /** @returns whether something is left that no slot was free for */
  #handOut(due: readonly Item[]): boolean {
    const { keyOf, freeSlots, hasRoom, choose, signal } = this.#options;
    const waiting = new Set(due);
    while (waiting.size > 0 && freeSlots() > 0 && !signal.aborted) {
      const possible = [...waiting].filter(
        (item) => !this.#running.has(keyOf(item)) && (hasRoom?.(item) ?? true),
      );
      const running = [...this.#running.values()].map(({ item }) => item);
      const item = choose ? choose(possible, running) : possible[0];
      if (item === undefined) break;
      waiting.delete(item);
      this.#start(item);
      if (this.#inVain) break; // one at a time
    }
    return waiting.size > 0;
  }

  #start(item: Item): void {
    const key = this.#options.keyOf(item);
    this.#round ??= openRound();
    this.#list?.delete(item);
    this.#inVain?.add(key);
    const ended = this.#options.run(item).then(
      (ending) => this.#ended(key, ending),
      (error: Error) => {
        this.#running.delete(key);
        this.#broken = error;
        this.#wake();
      },
    );
    this.#running.set(key, { item, ended });
    if (this.#running.size === 1) this.#options.onBusy?.(true);
  }

  #ended(key: number, ending: Ending): void {
    const { pollMs, lostMs = pollMs, ends, onBusy } = this.#options;
    this.#running.delete(key);
    if (ending !== 'not_stored')
      this.#resting.set(key, performance.now() + (ending === 'lost' ? lostMs : REST_MS));
    if (this.#round) {
      this.#round.relays += 1;
      this.#round.waitingFor?.delete(key);
      if (ending !== 'good') this.#round.failed += 1;
    }
    if (ending === 'good' || ending === 'failed') this.stored();
    else if (ending === 'not_stored' && ends === 'never' && !this.#inVain) {
      this.#inVain = new Set([key]);
      this.#nextLook = performance.now() + NOT_STORED_MS;
    }
    if (this.#running.size === 0) onBusy?.(false);
    this.#wake();
  }

  #reportRound(): void {
    const { reportMs, signal, onRound } = this.#options;
    if (!this.#round || signal.aborted) return;
    const { startedAt, relays, failed, waitingFor } = this.#round;
    const isOver = waitingFor?.size === 0;
    const isLong = Date.now() - startedAt.getTime() >= reportMs;
    if (relays === 0 || !(isOver || isLong)) return;
    onRound({ startedAt, relays, failed });
    this.#round = this.#running.size > 0 ? openRound() : null;
  }

  /** How long there is nothing to do, as long as no job ends. */
  #waitMs(): number {
    const { freeSlots, reportMs } = this.#options;
    const look = freeSlots() > 0 ? this.#nextLook - performance.now() : Number.POSITIVE_INFINITY;
    const report = this.#round
      ? this.#round.startedAt.getTime() + reportMs - Date.now()
      : Number.POSITIVE_INFINITY;
    return Math.max(0, Math.min(look, Math.max(report, LEAST_GAP_MS), this.#options.pollMs));
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
      if (this.#options.signal.aborted) this.#wake();
    });
  }
}
