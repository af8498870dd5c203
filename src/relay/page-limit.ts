const SMALLEST_LIMIT = 20;

/** How many events a page is asked for, and how a relay that refuses a size or does not answer is asked for less. */
export class PageLimit {
  /** The largest limit that the relay puts up with, as far as it was tried. */
  largest: number;
  /** The limit in use: less for a while when the relay does not answer. */
  inUse: number;
  #hasLowered = false;
  #before: { largest: number; hasLowered: boolean } | null = null;

  constructor(limit: number) {
    this.largest = limit;
    this.inUse = limit;
  }

  /** Asks for pages of this size from now on. */
  use(limit: number): void {
    this.largest = limit;
    this.inUse = limit;
  }

  get canBeLess(): boolean {
    return this.inUse > SMALLEST_LIMIT;
  }

  /** The relay has answered: larger pages are tried step by step. */
  recover(): void {
    this.#before = null;
    this.inUse = Math.min(this.largest, this.inUse * 2);
  }

  /** The relay refuses this size. */
  refused(): void {
    this.#lower();
    this.largest = this.inUse;
  }

  /** The relay did not answer this size: a smaller one is tried, and stays when that happens again. */
  unanswered(): void {
    this.#before = { largest: this.largest, hasLowered: this.#hasLowered };
    this.#lower();
    if (this.#hasLowered) this.largest = this.inUse;
    this.#hasLowered = true;
  }

  /** The smaller size was not answered either: the size was not the matter. */
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
