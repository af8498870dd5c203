/**
 * Runs due items whenever a slot is free: the loop of every service that visits relays.
 *
 * An item (a relay, a candidate) is in one of four states:
 * - *waiting*: it is in the database only, with the time when it is due.
 * - *due*: the latest look-up returned it. It is claimed and started if a slot is free, else it is *spare*: slots
 *   that become free take it until the next look-up, which reads it from the database again.
 * - *running*: handed to a worker. It is excluded from look-ups until its job has ended.
 * - *resting*: its job has ended. It is excluded from look-ups for a second (`lostMs` when the job was lost), and is then
 *   waiting again.
 *
 * The loop looks up as many items as there are free slots, and a few more:
 * - as soon as a slot is free and no spare item is left, if the latest look-up left due items; look-ups take at most a
 *   fifth of the time;
 * - `pollMs` after a look-up that left none;
 * - a second after a look-up that failed because the database was unavailable;
 * - once a second while the database refuses results (`not_stored`): each time one item is started, a different one if
 *   possible, until a result is stored.
 *
 * Guaranteed: an item never runs twice at a time; no item waits for the end of another one while a slot is free; there is
 * no look-up while no slot is free. With `claim` an item never runs twice at a time in any process.
 *
 * A round is a report, not a barrier: it begins when an item is started, ends when everything that was due has run or
 * after `reportMs`, and counts the jobs that ended in it.
 */
import { isTransientFailure } from './failure.ts';
import type { Round } from './service.ts';
import type { JobOutcome } from './worker-slot.ts';

/**
 * How a job ended. Without a result: `lost`, `set_aside` (it crashes its worker; the service noted that in the archive) or
 * `not_stored` (the database refused the result), or `claim_lost` (another process works on the item: no result of this one
 * is missing). `held_back`: our own network failed, and the item waits for it; it is neither done nor failed.
 */
export type Ending =
  | 'good'
  | 'failed'
  | 'held_back'
  | 'lost'
  | 'set_aside'
  | 'not_stored'
  | 'claim_lost';

/** How a job without a result ended. */
export function endingOf(outcome: Extract<JobOutcome<unknown>, { ok: false }>): Ending {
  if (outcome.claimLost) return 'claim_lost';
  if (outcome.notStored) return 'not_stored';
  return outcome.crashesWorker ? 'set_aside' : 'lost';
}

/** The result of a loop that has ended. */
interface LoopResult {
  /** Jobs that ended without a result before the signal aborted; items that were set aside are not counted. */
  readonly lost: number;
}

/** The result of a look-up. */
export interface Found<Item> {
  /** Most urgent first. */
  readonly due: readonly Item[];
  /** Whether more items may be due than `due` holds. */
  readonly more: boolean;
}

export interface DueLoopOptions<Item> {
  /** A key that is unique for each item. */
  readonly keyOf: (item: Item) => number;
  /** Finds due items except those with some keys: about `limit`, null for all. @throws DatabaseError */
  readonly lookUp: (limit: number | null, except: readonly number[]) => Promise<Found<Item>>;
  /** Number of items that could start now. */
  readonly freeSlots: () => number;
  /** Whether one of the free slots can take this item beside the chosen ones. Default: any slot can. */
  readonly hasRoom?: (item: Item, chosen: readonly Item[]) => boolean;
  /** The item that a free slot takes. Default: the first. */
  readonly choose?: (due: readonly Item[], running: readonly Item[]) => Item | undefined;
  /**
   * Claims items that are about to start, so that no other process runs them: returns those that are claimed. The others
   * are dropped. Default: all. @throws DatabaseError
   */
  readonly claim?: (items: readonly Item[]) => Promise<readonly Item[]>;
  /** Runs one item. Never rejects. */
  readonly run: (item: Item) => Promise<Ending>;
  /** Time from a look-up that left nothing due to the next one, in milliseconds. */
  readonly pollMs: number;
  /** An item whose job was lost rests for this, in milliseconds. Default: `pollMs`. */
  readonly lostMs?: number;
  /** Maximum length of a round, in milliseconds. */
  readonly reportMs: number;
  readonly onRound: (round: Round) => void;
  /** Called with whether anything runs, each time that changes. */
  readonly onBusy?: (busy: boolean) => void;
  /** Called for each look-up that failed because the database is unavailable. */
  readonly onUnavailable: (error: Error) => void;
  /** `when each has run`: when nothing is due, each item running once at most. */
  readonly ends: 'never' | 'when each has run' | 'when nothing is due';
  readonly signal: AbortSignal;
}

/** Minimum time from the end of a look-up to the next one, in milliseconds, and as a multiple of how long it took. */
const MIN_GAP_MS = 50;
const GAP_FACTOR = 4;
/**
 * Minimum time from one look-up to the next while items of the first are spare, in milliseconds. After a longer time more
 * of them would be claimed in vain, because other processes have taken them.
 */
const SPARE_MS = 250;
const UNAVAILABLE_MS = 1000;
const NOT_STORED_MS = 1000;
/** An item whose job ended rests for this, in milliseconds: an item that is due again immediately must not loop. */
const REST_MS = 1000;
/** Items looked up beyond the free slots: some may be blocked, or need a slot that is not free. */
const SPARE = 50;
/** Times that a look-up claims items, where other processes were faster. */
const MAX_CLAIMS = 3;

interface Running<Item> {
  readonly item: Item;
  readonly ended: Promise<void>;
}

interface OpenRound {
  readonly startedAt: Date;
  relays: number;
  failed: number;
  /** Keys of the items that were held back and have not run since. */
  readonly heldBack: Set<number>;
  /** Keys of the due items that still run, since a look-up left nothing; null before. */
  waitingFor: Set<number> | null;
}

const openRound = (): OpenRound => ({
  startedAt: new Date(),
  relays: 0,
  failed: 0,
  heldBack: new Set(),
  waitingFor: null,
});

export class DueLoop<Item> {
  readonly #options: DueLoopOptions<Item>;
  readonly #running = new Map<number, Running<Item>>();
  /** Until when items rest, in milliseconds of `performance.now()`. */
  readonly #resting = new Map<number, number>();
  /** Keys of the items that were tried since the database began to refuse results; null while it takes them. */
  #triedNotStored: Set<number> | null = null;
  /** For a loop that runs each item once: keys of those that were started. */
  readonly #startedOnce = new Set<number>();
  #more = true;
  /** What the latest look-up found and no slot has taken. */
  #spare: readonly Item[] = [];
  /** When slots may take a spare item, in `performance.now()` milliseconds. */
  #nextSpareMs = 0;
  /** Earliest time of a look-up once nothing is spare. */
  #mayLookMs = 0;
  /** Time of the next look-up, in `performance.now()` milliseconds. */
  #nextLookMs = 0;
  #lost = 0;
  #round: OpenRound | null = null;
  #broken: Error | null = null;
  #wake: () => void = () => {};

  constructor(options: DueLoopOptions<Item>) {
    this.#options = options;
  }

  /**
   * Runs until the signal aborts or the loop ends by itself, then waits for the running jobs.
   * @throws what a look-up throws; a loop that never ends retries while the database is unavailable
   */
  async run(): Promise<LoopResult> {
    const { signal } = this.#options;
    const onAbort = () => this.#wake();
    signal.addEventListener('abort', onAbort, { once: true });
    try {
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
    return { lost: this.#lost };
  }

  /** Requests a look-up as soon as a slot is free, because something has become due. */
  lookSoon(): void {
    this.#nextLookMs = Math.min(this.#nextLookMs, performance.now());
    this.#wake();
  }

  /** Notes that the database took a result: every free slot is used again. */
  resultStored(): void {
    if (!this.#triedNotStored) return;
    this.#triedNotStored = null;
    this.lookSoon();
  }

  #isDone(): boolean {
    return this.#options.ends !== 'never' && this.#running.size === 0 && !this.#more;
  }

  /** Fills the free slots, from a look-up or from what the latest one has left. */
  async #look(): Promise<void> {
    if (this.#options.freeSlots() <= 0) return;
    const nowMs = performance.now();
    try {
      if (nowMs >= this.#nextLookMs) await this.#startFound();
      else if (this.#spare.length > 0 && nowMs >= this.#nextSpareMs) await this.#startSpare();
    } catch (error) {
      if (!isTransientFailure(error) || this.#options.ends !== 'never') throw error;
      this.#options.onUnavailable(error);
      this.#spare = [];
      this.#nextLookMs = performance.now() + UNAVAILABLE_MS;
    }
  }

  async #startFound(): Promise<void> {
    const startedMs = performance.now();
    this.#spare = [];
    this.#nextLookMs = Number.POSITIVE_INFINITY; // lookSoon() may lower it during the look-up
    const { due, more } = await this.#due(this.#options.freeSlots());
    const left = await this.#startDue(due);
    this.#more = more || left.length > 0;
    if (!this.#more && this.#round) this.#round.waitingFor ??= new Set(this.#running.keys());
    const nowMs = performance.now();
    this.#mayLookMs = this.#lookAfter(startedMs, nowMs);
    if (left.length > 0 && !this.#triedNotStored) this.#spare = left;
    this.#nextSpareMs = nowMs + MIN_GAP_MS;
    this.#nextLookMs = Math.min(
      this.#nextLookMs,
      this.#spare.length > 0 ? Math.max(this.#mayLookMs, nowMs + SPARE_MS) : this.#mayLookMs,
    );
  }

  async #startSpare(): Promise<void> {
    this.#spare = await this.#startDue(this.#spare);
    this.#nextSpareMs = performance.now() + MIN_GAP_MS;
    if (this.#spare.length === 0) this.#nextLookMs = Math.min(this.#nextLookMs, this.#mayLookMs);
  }

  #lookAfter(startedMs: number, nowMs: number): number {
    if (this.#triedNotStored) return startedMs + NOT_STORED_MS;
    if (!this.#more) return startedMs + this.#options.pollMs;
    return nowMs + Math.max(MIN_GAP_MS, GAP_FACTOR * (nowMs - startedMs));
  }

  async #due(free: number): Promise<Found<Item>> {
    const now = performance.now();
    for (const [key, until] of this.#resting) if (until <= now) this.#resting.delete(key);
    const except = [...this.#running.keys(), ...this.#resting.keys(), ...this.#startedOnce];
    const tried = [...(this.#triedNotStored ?? [])];
    const found = await this.#options.lookUp(free + SPARE, [...except, ...tried]);
    if (tried.length === 0 || found.due.length > 0 || found.more) return found;
    this.#triedNotStored?.clear(); // all of them have been tried
    return this.#options.lookUp(free + SPARE, except);
  }

  /** Chooses an item for each free slot. */
  #choose(due: readonly Item[]): Item[] {
    const { keyOf, freeSlots, hasRoom, choose } = this.#options;
    const waiting = new Set(due);
    const chosen: Item[] = [];
    const most = this.#triedNotStored ? 1 : freeSlots();
    while (waiting.size > 0 && chosen.length < most) {
      const possible = [...waiting].filter(
        (item) => !this.#running.has(keyOf(item)) && (hasRoom?.(item, chosen) ?? true),
      );
      const running = [...[...this.#running.values()].map(({ item }) => item), ...chosen];
      const item = choose ? choose(possible, running) : possible[0];
      if (item === undefined) break;
      waiting.delete(item);
      chosen.push(item);
    }
    return chosen;
  }

  /**
   * Starts due items in the free slots. Processes that look up together choose the same ones: a slot whose item another
   * process has claimed meanwhile takes the next. @returns those that were not chosen
   */
  async #startDue(due: readonly Item[]): Promise<readonly Item[]> {
    const { claim, signal } = this.#options;
    const left = new Set(due);
    for (let times = 0; times < MAX_CLAIMS; times += 1) {
      const chosen = this.#choose([...left]);
      if (chosen.length === 0) break;
      for (const item of chosen) left.delete(item);
      const claimed = claim ? await claim(chosen) : chosen;
      for (const item of claimed) if (!signal.aborted) this.#start(item);
      if (claimed.length === chosen.length || signal.aborted) break;
    }
    return [...left];
  }

  #start(item: Item): void {
    const key = this.#options.keyOf(item);
    this.#round ??= openRound();
    this.#round.heldBack.delete(key);
    if (this.#options.ends === 'when each has run') this.#startedOnce.add(key);
    this.#triedNotStored?.add(key);
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
    const { pollMs, lostMs = pollMs, ends, signal, onBusy } = this.#options;
    this.#running.delete(key);
    if ((ending === 'lost' || ending === 'not_stored') && !signal.aborted) this.#lost += 1;
    if (ending !== 'not_stored')
      this.#resting.set(
        key,
        performance.now() + (ending === 'lost' || ending === 'set_aside' ? lostMs : REST_MS),
      );
    this.#countEnding(key, ending);
    if (ending === 'good' || ending === 'failed') this.resultStored();
    else if (ending === 'not_stored' && ends === 'never' && !this.#triedNotStored) {
      this.#triedNotStored = new Set([key]);
      this.#spare = [];
      this.#nextLookMs = performance.now() + NOT_STORED_MS;
    }
    if (this.#running.size === 0) onBusy?.(false);
    this.#wake();
  }

  #countEnding(key: number, ending: Ending): void {
    const round = this.#round;
    if (!round) return;
    round.waitingFor?.delete(key);
    if (ending === 'claim_lost') return;
    if (ending === 'held_back') {
      round.heldBack.add(key);
      return;
    }
    round.relays += 1;
    if (ending !== 'good') round.failed += 1;
  }

  #reportRound(): void {
    const { reportMs, signal, onRound } = this.#options;
    if (!this.#round || signal.aborted) return;
    const { startedAt, relays, failed, heldBack, waitingFor } = this.#round;
    const isOver = waitingFor?.size === 0;
    const isLong = Date.now() - startedAt.getTime() >= reportMs;
    if (!(isOver || isLong) || (relays === 0 && this.#running.size > 0)) return;
    if (relays > 0) onRound({ startedAt, relays, failed, heldBack: heldBack.size });
    this.#round = this.#running.size > 0 ? openRound() : null;
  }

  /** Time until the next look-up or report, in milliseconds; a job that ends wakes the loop earlier. */
  #waitMs(): number {
    const { freeSlots, reportMs } = this.#options;
    const nextMs =
      this.#spare.length > 0 ? Math.min(this.#nextSpareMs, this.#nextLookMs) : this.#nextLookMs;
    const look = freeSlots() > 0 ? nextMs - performance.now() : Number.POSITIVE_INFINITY;
    const report = this.#round
      ? this.#round.startedAt.getTime() + reportMs - Date.now()
      : Number.POSITIVE_INFINITY;
    return Math.max(0, Math.min(look, Math.max(report, MIN_GAP_MS), this.#options.pollMs));
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
