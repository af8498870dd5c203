/**
 * The claims of a process (docs/hosts.md): takes them for relays that are about to be worked on, renews their leases, and
 * gives them up.
 *
 * A claim of this process is in one of three states:
 * - *held*: its lease is renewed three times in its length, together with all others in one statement. It leads to *lost*
 *   when another process has taken it over, or when it could not be renewed: a sixth of the lease before its end, because
 *   the archive gives it to another process after that, and the work has to have ended then.
 * - *released*: its work has ended. It is deleted within `RELEASE_MS`, or before if the relay is claimed again.
 * - *lost*: its listener is called, once. What still is written under it is refused by its fencing token.
 *
 * Guaranteed: leases run by the clock of the database alone; this process only measures how long ago it asked for them.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Bigbrotr, Claim, ClaimedWork } from '../database/bigbrotr.ts';
import type { Claimable } from '../database/claims.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { goneOf, holdersOfThisHost, newHolder } from './holder.ts';

export interface ClaimKeeperOptions {
  readonly archive: Bigbrotr['claims'];
  readonly log: Logger;
  readonly metrics: Pick<Metrics, 'claimsHeld' | 'claimLost'>;
  /** Length of a lease in seconds. Default: 60. */
  readonly leaseSeconds?: number;
}

/** What becomes of a claim whose work has ended. */
export type ClaimEnd =
  /** The relay is due again by its interval. */
  | 'done'
  /** The relay is due at once, for whichever process. */
  | 'interrupted'
  /** The relay is left alone until the lease has ended: its job was lost. */
  | 'left';

/** As `/health` shows them. */
export interface ShownClaims {
  readonly holder: string;
  readonly held: number;
  readonly lost: number;
}

const LEASE_SECONDS = 60;
/** Renewals in the length of a lease. */
const RENEWALS = 3;
/** Released claims are collected for this long, in milliseconds: many visits end together. */
const RELEASE_MS = 200;
/** A renewal that failed is repeated after this, in milliseconds. */
const RETRY_MS = 1000;
/** `stop` waits at most this long, in milliseconds. */
const STOP_MS = 3000;
/** The share of a lease before its end in which a claim that could not be renewed is given up: the connection closes meanwhile. */
const GIVEN_UP_BEFORE = 1 / 6;
/** Interval at which claims are looked for that could not be renewed in time, in milliseconds. */
const WATCH_MS = 250;
/** Interval at which old claims without a holder are deleted, in milliseconds. */
const FORGET_MS = 3_600_000;

interface Held {
  readonly claim: Claim;
  /** When its latest renewal was asked for, in `performance.now()` milliseconds. */
  renewedMs: number;
}

export class ClaimKeeper {
  /** This process: host, process id and a random part. */
  readonly holder = newHolder();
  readonly leaseSeconds: number;
  readonly #options: ClaimKeeperOptions;
  readonly #held = new Map<string, Held>();
  readonly #listeners = new Map<ClaimedWork, (key: number) => void>();
  /** Released, and not deleted yet. */
  readonly #released = new Map<string, Held & { readonly end: ClaimEnd }>();
  readonly #stopping = new AbortController();
  #lost = 0;
  #renewTimer: NodeJS.Timeout | undefined;
  #releaseTimer: NodeJS.Timeout | undefined;
  #watchTimer: NodeJS.Timeout | undefined;
  #forgetAtMs = 0;
  /** When the latest renewal was asked for, in `performance.now()` milliseconds. */
  #renewAskedMs = 0;
  /** What is being written: the latest of each kind. */
  #writing: Promise<unknown> = Promise.resolve();

  constructor(options: ClaimKeeperOptions) {
    this.#options = options;
    this.leaseSeconds = options.leaseSeconds ?? leaseSecondsOf(process.env);
  }

  get shown(): ShownClaims {
    return { holder: this.holder, held: this.#held.size, lost: this.#lost };
  }

  /** Calls a listener with the key of each claim of this work that was lost. Its work has to end. */
  onLost(work: ClaimedWork, listener: (key: number) => void): void {
    this.#listeners.set(work, listener);
  }

  /**
   * Begins to renew. Ends the leases of processes of this host that have ended, so that no other process waits for them.
   * @throws DatabaseError
   */
  async start(): Promise<void> {
    const ofThisHost = holdersOfThisHost();
    if (ofThisHost !== null) await this.#endLeasesOfGone(ofThisHost);
    if (this.#stopping.signal.aborted) return;
    this.#renewIn(this.#renewMs);
    this.#watchTimer = setInterval(() => this.#dropLate(), WATCH_MS);
    this.#watchTimer.unref();
  }

  async #endLeasesOfGone(ofThisHost: string): Promise<void> {
    const { archive, log } = this.#options;
    const gone = goneOf(await archive.holdersLike(ofThisHost));
    if (gone.length === 0) return;
    await archive.endLeasesOf(gone);
    log.info({ holders: gone }, 'leases of processes that have ended were released');
  }

  /** Gives all claims up in one statement; relays that were visited or followed are due at once. Never throws. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    clearTimeout(this.#renewTimer);
    clearTimeout(this.#releaseTimer);
    clearInterval(this.#watchTimer);
    for (const [name, held] of this.#held)
      this.#released.set(name, {
        ...held,
        end: held.claim.work === 'visit' ? 'interrupted' : 'done',
      });
    this.#held.clear();
    // The database may be unavailable: then the leases end by themselves.
    await Promise.race([this.#writeLast(), sleep(STOP_MS, undefined, { ref: false })]);
  }

  async #writeLast(): Promise<void> {
    await this.#writing;
    await this.#writeReleased();
  }

  /**
   * Claims relays for visits or checks, or sources.
   *
   * @param filterId the filter of the visits; else null
   * @returns the fencing tokens by key; relays without one are held by another process, or have just been worked on
   * @throws DatabaseError
   */
  async claim(
    work: 'visit' | 'check' | 'sources',
    filterId: number | null,
    wanted: readonly Claimable[],
  ): Promise<ReadonlyMap<number, number>> {
    const tokens = new Map<number, number>();
    const others: Claimable[] = [];
    for (const item of wanted) {
      const own = this.#held.get(nameOf(work, item.key)) ?? this.#takeBack(work, item.key);
      if (own) tokens.set(item.key, own.claim.token);
      else others.push(item);
    }
    if (others.length === 0 || this.#stopping.signal.aborted) return tokens;
    const { archive } = this.#options;
    const askedMs = performance.now();
    const taking = archive.take(work, filterId, others, this.holder, this.leaseSeconds);
    this.#wait(taking);
    const taken = await taking;
    this.hold(taken, askedMs);
    for (const { key, token } of taken) tokens.set(key, token);
    return tokens;
  }

  /** Keeps claims that were taken for this holder. @param askedMs when they were asked for, in `performance.now()` milliseconds */
  hold(claims: readonly Claim[], askedMs: number): void {
    for (const claim of claims)
      this.#held.set(nameOf(claim.work, claim.key), { claim, renewedMs: askedMs });
    this.#options.metrics.claimsHeld(this.#held.size);
  }

  /** Whether the claim is held, as far as this process knows. */
  holds(work: ClaimedWork, key: number): boolean {
    return this.#held.has(nameOf(work, key));
  }

  /** Gives a claim up whose work has ended. */
  release(work: ClaimedWork, key: number, end: ClaimEnd): void {
    const name = nameOf(work, key);
    const held = this.#held.get(name);
    if (!held) return;
    this.#held.delete(name);
    this.#options.metrics.claimsHeld(this.#held.size);
    if (end === 'left') return;
    this.#released.set(name, { ...held, end });
    this.#releaseTimer ??= setTimeout(() => this.#wait(this.#writeReleased()), RELEASE_MS);
  }

  /** A fencing token was refused: another process holds the claim. */
  lose(work: ClaimedWork, key: number): void {
    const name = nameOf(work, key);
    if (!this.#held.delete(name)) return;
    this.#lost += 1;
    const { log, metrics } = this.#options;
    metrics.claimLost(work);
    metrics.claimsHeld(this.#held.size);
    log.warn({ work, key }, 'claim lost');
    this.#listeners.get(work)?.(key);
  }

  /** A claim that was released and not deleted yet is held again. */
  #takeBack(work: ClaimedWork, key: number): Held | undefined {
    const name = nameOf(work, key);
    const released = this.#released.get(name);
    if (!released) return undefined;
    this.#released.delete(name);
    const { claim, renewedMs } = released; // its lease goes on, and is no longer for that
    const held = { claim, renewedMs };
    this.#held.set(name, held);
    return held;
  }

  get #renewMs(): number {
    return (this.leaseSeconds * 1000) / RENEWALS;
  }

  #renewIn(ms: number): void {
    clearTimeout(this.#renewTimer);
    if (this.#stopping.signal.aborted) return;
    this.#renewTimer = setTimeout(() => this.#wait(this.#renew()), ms);
    this.#renewTimer.unref();
  }

  async #renew(): Promise<void> {
    const { archive, log } = this.#options;
    const before = [...this.#held.values()].map(({ claim }) => claim);
    const askedMs = performance.now();
    this.#renewAskedMs = askedMs;
    this.#renewIn(this.#renewMs); // not after the answer: a connection that has died gives none
    try {
      const renewed = await archive.renew(before, this.leaseSeconds, this.#renewMs);
      this.#note(before, renewed, askedMs);
      await this.#forgetOld();
    } catch (error) {
      log.debug({ err: error }, 'claims could not be renewed');
      if (this.#renewAskedMs === askedMs) this.#renewIn(RETRY_MS);
    }
  }

  #note(before: readonly Claim[], renewed: readonly Claim[], askedMs: number): void {
    const tokens = new Set(renewed.map(({ token }) => token));
    for (const { work, key, token } of before) {
      const held = this.#held.get(nameOf(work, key));
      if (held?.claim.token !== token) continue; // it was released meanwhile
      if (tokens.has(token)) held.renewedMs = Math.max(held.renewedMs, askedMs);
      else this.lose(work, key);
    }
  }

  /** Claims that were not renewed will soon be held by others: this process cannot know. */
  #dropLate(): void {
    const end = performance.now() - this.leaseSeconds * 1000 * (1 - GIVEN_UP_BEFORE);
    for (const { claim, renewedMs } of [...this.#held.values()])
      if (renewedMs < end) this.lose(claim.work, claim.key);
  }

  async #forgetOld(): Promise<void> {
    if (performance.now() < this.#forgetAtMs) return;
    this.#forgetAtMs = performance.now() + FORGET_MS;
    await this.#options.archive.forgetOld();
  }

  async #writeReleased(): Promise<void> {
    clearTimeout(this.#releaseTimer);
    this.#releaseTimer = undefined;
    const all = [...this.#released.values()];
    this.#released.clear();
    const of = (wanted: ClaimEnd) => all.flatMap(({ claim, end }) => (end === wanted ? claim : []));
    try {
      await this.#options.archive.release({ ended: of('done'), interrupted: of('interrupted') });
    } catch (error) {
      // Their leases end by themselves.
      this.#options.log.debug({ err: error }, 'claims could not be released');
    }
  }

  /** Remembers what is being written, so that `stop` waits for it. */
  #wait(writing: Promise<unknown>): void {
    this.#writing = Promise.allSettled([this.#writing, writing]);
  }
}

/** The length of a lease. BIGBROTR_LEASE_SECONDS is for tests that stop processes for longer than one. */
function leaseSecondsOf(env: Readonly<Record<string, string | undefined>>): number {
  const seconds = Number(env.BIGBROTR_LEASE_SECONDS ?? LEASE_SECONDS);
  if (!Number.isInteger(seconds) || seconds < 1 || seconds > 3600)
    throw new Error('BIGBROTR_LEASE_SECONDS is not a whole number from 1 to 3600');
  return seconds;
}

function nameOf(work: ClaimedWork, key: number): string {
  return `${work} ${key}`;
}
