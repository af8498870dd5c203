const SMALLEST_LIMIT = 20;

/** The `limit` of page requests, and how it is lowered for a relay that refuses a size or does not answer. */
export class PageLimit {
  /** The largest limit that the relay accepts, as far as it was tried. */
  largest: number;
  /** The limit in use: temporarily smaller when the relay does not answer. */
  inUse: number;
  #hasLowered = false;
  #before: { largest: number; hasLowered: boolean } | null = null;

  constructor(limit: number) {
    this.largest = limit;
    this.inUse = limit;
  }

  /** Sets the page size from now on. */
  use(limit: number): void {
    this.largest = limit;
    this.inUse = limit;
  }

  get canBeLess(): boolean {
    return this.inUse > SMALLEST_LIMIT;
  }

  /** After an answer: tries larger pages step by step. */
  recover(): void {
    this.#before = null;
    this.inUse = Math.min(this.largest, this.inUse * 2);
  }

  /** After a refusal of this size: lowers the limit. */
  refused(): void {
    this.#lower();
    this.largest = this.inUse;
  }

  /** After no answer to this size: tries a smaller one, permanently if it happens again. */
  unanswered(): void {
    this.#before = { largest: this.largest, hasLowered: this.#hasLowered };
    this.#lower();
    if (this.#hasLowered) this.largest = this.inUse;
    this.#hasLowered = true;
  }

  /** After no answer to the smaller size either: the size was not the cause. */
  wasNoMatter(): void {
    if (!this.#before) return;
    this.largest = this.#before.largest;
    this.#hasLowered = this.#before.hasLowered;
    this.inUse = this.largest;
    this.#before = null;
  }

  #lower(): void {
    this.inUse = Math.max(SMALLEST_LIMIT, Math.floor(this.inUse / 5));
  }
}
