/** A minute, in milliseconds: the time in which an empty bucket is full again. */
const MINUTE_MS = 60_000;
/** Buckets of addresses that are full again are forgotten when there are this many. */
const MANY = 10_000;

interface Bucket {
  tokens: number;
  at: number;
}

/** Messages that clients may send, by address: as many at once as in a minute, then as they are refilled. */
export class RateLimit {
  readonly #perMinute: number;
  readonly #now: () => number;
  readonly #buckets = new Map<string, Bucket>();

  /** @param perMinute 0: not limited @param now milliseconds that never run backwards */
  constructor(perMinute: number, now = () => performance.now()) {
    this.#perMinute = perMinute;
    this.#now = now;
  }

  /** Takes the cost of a message from the bucket of an address. @returns false where there is not enough left */
  take(address: string, cost: number): boolean {
    if (this.#perMinute === 0) return true;
    const now = this.#now();
    if (this.#buckets.size > MANY) this.#forget(now);
    const bucket = this.#buckets.get(address) ?? { tokens: this.#perMinute, at: now };
    bucket.tokens = this.#refilled(bucket, now);
    bucket.at = now;
    this.#buckets.set(address, bucket);
    if (bucket.tokens < cost) return false;
    bucket.tokens -= cost;
    return true;
  }

  #refilled({ tokens, at }: Bucket, now: number): number {
    return Math.min(this.#perMinute, tokens + ((now - at) * this.#perMinute) / MINUTE_MS);
  }

  #forget(now: number): void {
    for (const [address, bucket] of this.#buckets)
      if (this.#refilled(bucket, now) >= this.#perMinute) this.#buckets.delete(address);
  }
}
