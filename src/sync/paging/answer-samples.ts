import type { Window } from '../../nostr/window.ts';
import { joined } from '../windows.ts';

/** Maximum number of samples of a reading, and of events in a sample. */
const MAX_SAMPLES = 3;
const MAX_SAMPLE_EVENTS = 100;
/** All samples of a reading together request one event in 100. */
const EVENTS_A_SAMPLED_ONE = 100;
/**
 * A reading of few events is sampled more closely: half of them, at most 30. A relay that shows half of its events
 * at each request shows nothing new in a sample of 3 with a probability of one in four, in a sample of 12 almost never.
 */
const FEW_EVENTS = 30;
/** A sample of fewer events is used only if there is no larger one. */
const SMALL_SAMPLE = 10;
/** Readings of fewer events are not sampled. */
const LEAST_EVENTS = 25;
/** A reading of fewer events is requested again as a whole if it claims a window at least this long, in seconds. */
const WHOLE_BELOW = 50;
const LONG_WINDOW = 86_400;
/** Number of events from which a reading gets a second and a third sample. */
const SECOND_SAMPLE_FROM = 1000;
const THIRD_SAMPLE_FROM = 5000;
/** Maximum number of pages of a reading of which a part is kept: those that showed most. */
const MAX_PARTS = 8;
/** Maximum number of new events in proven time that the relay may have received meanwhile. */
const MAX_ARRIVALS = 2;
/** Repetitions of a request that returned one or two new events. */
const MAX_DOUBTFUL_ASKS = 2;

/**
 * Chooses the samples of a reading that are requested again, and decides whether the answers contradict it. Pure: the
 * caller requests each window that `questions()` yields and passes back the number of events that were not shown before.
 */
export class AnswerSamples {
  readonly #random: () => number;
  /** Seconds of consecutive events of a page, newest first. */
  readonly #parts: (readonly number[])[] = [];
  /** The first and the last second of what each page showed. */
  readonly #ranges: Window[] = [];
  /** Seconds of the first events that were shown. */
  readonly #first: number[] = [];
  #shown = 0;

  constructor(random: () => number = Math.random) {
    this.#random = random;
  }

  /** Notes the seconds of the events that a page showed. */
  notePage(seconds: number[]): void {
    if (seconds.length === 0) return;
    if (this.#shown < WHOLE_BELOW) this.#first.push(...seconds);
    this.#shown += seconds.length;
    const sorted = seconds.sort((a, b) => b - a);
    this.#ranges.push({ since: sorted.at(-1) ?? 0, until: sorted[0] ?? 0 });
    const from = this.#below(Math.max(1, sorted.length - MAX_SAMPLE_EVENTS));
    const part = sorted.slice(from, from + MAX_SAMPLE_EVENTS);
    const place = this.#placeOf(part);
    if (place < MAX_PARTS) this.#parts[place] = part;
  }

  /** The index that a page takes: it replaces one that showed fewer events; among equals the choice is random. */
  #placeOf({ length }: readonly number[]): number {
    if (this.#parts.length < MAX_PARTS) return this.#parts.length;
    const sizes = this.#parts.map((part) => part.length);
    const least = Math.min(...sizes);
    if (length > least) return sizes.indexOf(least);
    return length === least ? this.#below(this.#ranges.length) : MAX_PARTS;
  }

  #below(bound: number): number {
    return Math.floor(this.#random() * bound);
  }

  /**
   * Yields windows to request again. One or two new events may have arrived meanwhile: then the same window is requested
   * again, and other windows, none of which may show a new event.
   *
   * @param newest the last second of which the relay is expected to hold everything
   * @returns whether the reading is contradicted
   */
  *questions(proven: readonly Window[], newest: number): Generator<Window, boolean, number> {
    let isDoubtful = false;
    for (const [index, window] of this.#windows(joined(proven), newest).entries()) {
      if (index >= this.#sampleCount && !isDoubtful) return false;
      const found = yield window;
      if (found > MAX_ARRIVALS || (found > 0 && isDoubtful)) return true;
      isDoubtful ||= found > 0;
      for (let asks = 0; found > 0 && asks < MAX_DOUBTFUL_ASKS; asks += 1)
        if ((yield window) > 0) return true;
    }
    return false;
  }

  #windows(proven: readonly Window[], newest: number): Window[] {
    const windows = proven.map(({ since, until }) => ({ since, until: Math.min(until, newest) }));
    const whole = this.#shown < WHOLE_BELOW ? this.#whole(windows) : [];
    if (whole.length > 0 || this.#shown < LEAST_EVENTS) return whole;
    return this.#samples(windows);
  }

  get #sampleCount(): number {
    if (this.#shown < SECOND_SAMPLE_FROM) return 1;
    return this.#shown < THIRD_SAMPLE_FROM ? 2 : MAX_SAMPLES;
  }

  /** The number of events in a sample. */
  get #sampleSize(): number {
    const few = Math.min(FEW_EVENTS, this.#shown / 2);
    const events = Math.max(this.#shown / EVENTS_A_SAMPLED_ONE, few);
    return Math.min(Math.floor(events / this.#sampleCount), MAX_SAMPLE_EVENTS);
  }

  /** The window that held most events, if it is history: new events of each visit are not requested twice. */
  #whole(proven: readonly Window[]): Window[] {
    const [first] = proven
      .map((window) => ({ window, held: countIn(this.#first, window) }))
      .sort((a, b) => b.held - a.held);
    if (!first || first.held === 0) return [];
    return first.window.until - first.window.since >= LONG_WINDOW ? [first.window] : [];
  }

  /**
   * Windows inside proven time that held a few events. Windows that the fewest pages have shown come first, except those
   * with too few events to be significant.
   */
  #samples(proven: readonly Window[]): Window[] {
    const size = this.#sampleSize;
    const samples = this.#parts.flatMap((part) => {
      const runs = proven.map(({ since, until }) =>
        part.filter((second) => since <= second && second <= until),
      );
      const [longest = []] = runs.sort((a, b) => b.length - a.length);
      const run = longest.slice(0, size);
      const [until, since] = [run[0], run.at(-1)];
      if (until === undefined || since === undefined) return [];
      const middle = run[Math.floor(run.length / 2)] ?? until;
      const times = this.#ranges.filter((range) => range.since <= middle && middle <= range.until);
      const isSmall = run.length < Math.min(size, SMALL_SAMPLE);
      return [{ window: { since, until }, isSmall, times: times.length, held: run.length }];
    });
    samples.sort(
      (a, b) => Number(a.isSmall) - Number(b.isSmall) || a.times - b.times || b.held - a.held,
    );
    return samples.map(({ window }) => window);
  }
}

function countIn(seconds: readonly number[], { since, until }: Window): number {
  return seconds.filter((second) => since <= second && second <= until).length;
}
