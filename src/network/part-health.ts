import type { TestAddress } from './way-out.ts';

/** Addresses that answered are known to answer for this long, in milliseconds. */
const KNOWN_FOR_MS = 600_000;
const MAX_KNOWN = 5;
/** Outages that are remembered after their end. */
const MAX_OUTAGES = 5;
/**
 * A test that succeeds after longer than this, in milliseconds, and much longer than the one before, needed a packet that was
 * sent again: TCP sends a lost SYN again after 1 s (RFC 6298), DNS asks again after 1.5 s (way-out.ts).
 */
const SLOW_MS = 900;
const MUCH_LONGER = 3;
/** Duration of tests that no test is compared with: all below it are quick. */
const QUICK_MS = 300;

interface Outage {
  /** When the part last worked. */
  readonly fromMs: number;
  readonly noticedMs: number;
}

/**
 * What was seen of one part of our network; times are milliseconds of one clock. The part is *up*, or in an *outage*: that
 * begins when a test fails and reaches back to when the part last worked, and ends when anything is reached.
 */
export class PartHealth {
  /** When it last worked; minus infinity when it was never seen to. */
  workedMs = Number.NEGATIVE_INFINITY;
  /** When the latest test ended. */
  testedMs = Number.NEGATIVE_INFINITY;
  #outage: Outage | null = null;
  /** The latest outages that are over. */
  #ended: { readonly fromMs: number; readonly toMs: number }[] = [];
  /** How long a test takes on this network, in milliseconds. */
  #usualMs = QUICK_MS;
  #known: { readonly address: TestAddress; readonly atMs: number }[] = [];

  get isOut(): boolean {
    return this.#outage !== null;
  }

  get wasSeen(): boolean {
    return this.workedMs > Number.NEGATIVE_INFINITY;
  }

  /** @returns whether that ended an outage */
  worked(now: number, address: TestAddress | null): boolean {
    const outage = this.#outage;
    this.workedMs = now;
    this.#outage = null;
    if (address) {
      const others = this.#known.filter((known) => known.address.host !== address.host);
      this.#known = [...others, { address, atMs: now }].slice(-MAX_KNOWN);
    }
    if (outage) this.#noteEnded(outage.fromMs, now);
    return outage !== null;
  }

  /**
   * A test succeeded. One that was slow for want of an answer shows an outage that ended while it ran: too short to be noticed
   * by a test that fails, and long enough to fail relays with it. On a network that stays slow the tests of today are the
   * measure after a few of them.
   */
  passed(startedMs: number, now: number): void {
    const tookMs = now - startedMs;
    const isSlow = tookMs > Math.max(SLOW_MS, MUCH_LONGER * this.#usualMs);
    this.#usualMs = isSlow ? 2 * this.#usualMs : Math.max(tookMs, QUICK_MS);
    if (isSlow && !this.#outage && this.workedMs <= startedMs) this.#noteEnded(this.workedMs, now);
  }

  #noteEnded(fromMs: number, toMs: number): void {
    this.#ended = [...this.#ended, { fromMs, toMs }].slice(-MAX_OUTAGES);
  }

  /** A test failed. @returns whether that began an outage: not where something was reached meanwhile */
  failed(startedMs: number, now: number): boolean {
    if (this.#outage || this.workedMs > startedMs) return false;
    this.#outage = { fromMs: this.workedMs, noticedMs: now };
    return true;
  }

  /** Whether an outage is known between these times. */
  wasOut(sinceMs: number, untilMs: number): boolean {
    if (this.#outage && this.#outage.fromMs < untilMs) return true;
    return this.#ended.some(({ fromMs, toMs }) => fromMs < untilMs && toMs > sinceMs);
  }

  /** Whether it is in an outage that was noticed at least this long ago. */
  isOutFor(ms: number, now: number): boolean {
    return this.#outage !== null && now - this.#outage.noticedMs >= ms;
  }

  /** Addresses that were reached a moment ago. */
  known(now: number): TestAddress[] {
    return this.#known.filter(({ atMs }) => now - atMs < KNOWN_FOR_MS).map((each) => each.address);
  }
}
