import type { Window } from '../nostr/filter.ts';
import { joined } from './claims.ts';
import { FRESH_SECONDS } from './late-fault.ts';
import type { Visit } from './visit.ts';

/** Places of a reading that may be asked for again, and events that each may show. */
const MAX_SAMPLES = 3;
const MAX_SAMPLE_EVENTS = 100;
/** All samples of a reading together show one event of so many. */
const EVENTS_A_SAMPLED_ONE = 100;
/**
 * A reading of few events is sampled more closely: half of them, up to so many. A relay that shows half of its events
 * at each asking shows nothing new in a sample of 3 at one time in four, and in one of 12 practically never.
 */
const FEW_EVENTS = 30;
/** Readings of fewer events are not sampled. */
const LEAST_EVENTS = 25;
/** From so many events on there are two samples, and three. */
const SECOND_SAMPLE_FROM = 1000;
const THIRD_SAMPLE_FROM = 5000;
/** Pages of a reading of which a part is remembered, each page as likely as any other. */
const MAX_PARTS = 8;
/** Events that may turn up in proven time by chance, since the relay has received them meanwhile. */
const MAX_ARRIVALS = 2;

/**
 * Whether a relay gives the same answer twice. A relay that serves another part of its events at each asking, by
 * chance or from another server behind the same name, looks complete in one reading. So a few places of what was
 * proven are asked for again: an event that was not shown before contradicts the proof.
 */
export class Steadiness {
  readonly #visit: Visit;
  readonly #random: () => number;
  /** Seconds of events that followed each other in a page, newest first. */
  readonly #parts: (readonly number[])[] = [];
  #pages = 0;
  #shown = 0;

  constructor(visit: Visit, random: () => number = Math.random) {
    this.#visit = visit;
    this.#random = random;
  }

  /** Notes the seconds of the events that a page showed. */
  notePage(seconds: number[]): void {
    if (seconds.length === 0) return;
    this.#shown += seconds.length;
    this.#pages += 1;
    const place = this.#parts.length < MAX_PARTS ? this.#parts.length : this.#below(this.#pages);
    if (place >= MAX_PARTS) return;
    const sorted = seconds.sort((a, b) => b - a);
    const from = this.#below(Math.max(1, sorted.length - MAX_SAMPLE_EVENTS));
    this.#parts[place] = sorted.slice(from, from + MAX_SAMPLE_EVENTS);
  }

  #below(bound: number): number {
    return Math.floor(this.#random() * bound);
  }

  /** Asks for a few places of these proven windows again. @throws DatabaseError */
  async isUnsteady(proven: readonly Window[], limit: number): Promise<boolean> {
    let contradictions = 0;
    for (const window of this.#samples(proven)) {
      const before = contradictions;
      contradictions += await this.#contradictions(window, limit);
      const isDoubtful = contradictions > before && contradictions <= MAX_ARRIVALS;
      if (isDoubtful && (await this.#contradictions(window, limit)) > 0) return true;
      if (contradictions > MAX_ARRIVALS) return true;
      if (this.#visit.interruption() !== null || this.#visit.refusal !== null) break;
    }
    return false;
  }

  get #sampleCount(): number {
    if (this.#shown < SECOND_SAMPLE_FROM) return 1;
    return this.#shown < THIRD_SAMPLE_FROM ? 2 : MAX_SAMPLES;
  }

  /** How many events a sample is to show. */
  get #sampleSize(): number {
    if (this.#shown < LEAST_EVENTS) return 0;
    const few = Math.min(FEW_EVENTS, this.#shown / 2);
    const events = Math.max(this.#shown / EVENTS_A_SAMPLED_ONE, few);
    return Math.min(Math.floor(events / this.#sampleCount), MAX_SAMPLE_EVENTS);
  }

  /** Windows inside what was proven that held a few events, none younger than a few minutes. */
  #samples(proven: readonly Window[]): Window[] {
    const size = this.#sampleSize;
    if (size < 1) return [];
    const newest = this.#visit.context.now() - FRESH_SECONDS;
    const windows = joined(proven);
    const samples = this.#parts.flatMap((part) => {
      const runs = windows.map(({ since, until }) =>
        part.filter((second) => since <= second && second <= Math.min(until, newest)),
      );
      const [longest = []] = runs.sort((a, b) => b.length - a.length);
      const [until] = longest;
      const since = longest[Math.min(size, longest.length) - 1];
      return until !== undefined && since !== undefined ? [{ since, until }] : [];
    });
    return samples.slice(0, this.#sampleCount);
  }

  /** Events of a window that verify and were not shown by this relay before. An answer without an end says nothing. */
  async #contradictions({ since, until }: Window, limit: number): Promise<number> {
    const visit = this.#visit;
    const { filter } = visit.context;
    await visit.writer.flush();
    const before = visit.stored.sightings;
    const shown = new Set<string>();
    const bounds = since > 0 ? { since, until } : { until };
    await visit.askOptional(
      { ...filter, ...bounds, limit },
      {
        add: (id, createdAt) => {
          if (createdAt >= since && createdAt <= until) shown.add(id);
          return true;
        },
      },
    );
    await visit.writer.flush();
    return Math.min(shown.size, visit.stored.sightings - before);
  }
}
