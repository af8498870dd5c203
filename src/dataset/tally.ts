import type { NostrEvent } from '../nostr/event.ts';

/** Counts of the events of a file, as a manifest has them. */
export class EventTally {
  rows = 0;
  firstAt: number | null = null;
  lastAt: number | null = null;
  readonly #kinds = new Map<number, number>();

  add({ created_at, kind }: Pick<NostrEvent, 'created_at' | 'kind'>): void {
    this.rows += 1;
    this.firstAt = this.firstAt === null ? created_at : Math.min(this.firstAt, created_at);
    this.lastAt = this.lastAt === null ? created_at : Math.max(this.lastAt, created_at);
    this.#kinds.set(kind, (this.#kinds.get(kind) ?? 0) + 1);
  }

  /** The counts under the names of the manifest, kinds in ascending order. */
  get counts(): EventCounts {
    const kinds = [...this.#kinds].sort(([a], [b]) => a - b);
    return {
      rows: this.rows,
      first_created_at: this.firstAt,
      last_created_at: this.lastAt,
      kinds: Object.fromEntries(kinds),
    };
  }
}

export interface EventCounts {
  rows: number;
  first_created_at: number | null;
  last_created_at: number | null;
  kinds: Record<string, number>;
}

export const NO_EVENTS: EventCounts = {
  rows: 0,
  first_created_at: null,
  last_created_at: null,
  kinds: {},
};

/** The counts of several files together. */
export function sumOfCounts(all: readonly Readonly<EventCounts>[]): EventCounts {
  const kinds = new Map<number, number>();
  for (const counts of all)
    for (const [kind, count] of Object.entries(counts.kinds))
      kinds.set(Number(kind), (kinds.get(Number(kind)) ?? 0) + count);
  const ends = (of: 'first_created_at' | 'last_created_at') =>
    all.map((counts) => counts[of]).filter((second) => second !== null);
  const [firsts, lasts] = [ends('first_created_at'), ends('last_created_at')];
  return {
    rows: all.reduce((sum, { rows }) => sum + rows, 0),
    first_created_at: firsts.length > 0 ? Math.min(...firsts) : null,
    last_created_at: lasts.length > 0 ? Math.max(...lasts) : null,
    kinds: Object.fromEntries([...kinds].sort(([a], [b]) => a - b)),
  };
}
