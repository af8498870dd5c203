/** One side of a comparison: what was measured, round by round. */
export interface Side {
  readonly name: string;
  readonly median: number;
  readonly values: readonly number[];
}

/**
 * What the Python original does a second, by which the goals are set. It was measured on another machine, whose C loop
 * checks 13,900 signatures a second; of its sightings the better figure of 1,100 to 1,400.
 */
export const ORIGINAL = { archive: 690, latency: 225, sightings: 1400 };

/** The goal as a multiple of the rate of the original, and whether our median meets it. */
export function timesOriginal(times: number, original: number, ours: readonly number[]) {
  const goal = times * original;
  return {
    goal: `${goal.toLocaleString('en')}/s, ${times} times the Python original`,
    met: median(ours) >= goal,
  };
}

/** One row of the result. */
export interface Result {
  /** How it is asked for on the command line. */
  readonly row: string;
  readonly what: string;
  readonly unit: string;
  readonly reference: Side | null;
  readonly ours: Side;
  /** Median over the rounds of ours / reference. */
  readonly ratio: number | null;
  readonly goal: string;
  readonly met: boolean | null;
  /** Whatever else helps to understand it. */
  readonly details: Readonly<Record<string, number | string>>;
}

/** The middle value; of an even number of values the mean of the two in the middle. 0 of none. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? 0;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? upper) + upper) / 2;
}

export function side(name: string, values: readonly number[]): Side {
  return { name, median: median(values), values };
}

export interface Comparison {
  readonly reference: number[];
  readonly ours: number[];
  readonly ratio: number;
}

/**
 * Measures both sides by turns, so that a machine that is busy with something else is busy for both. The ratio is
 * the median of the rounds' ratios. No round begins after `mostSeconds`, but for the first.
 */
export async function alternate(
  { rounds, mostSeconds }: { readonly rounds: number; readonly mostSeconds: number },
  reference: (round: number) => Promise<number>,
  ours: (round: number) => Promise<number>,
): Promise<Comparison> {
  const comparison = { reference: [] as number[], ours: [] as number[] };
  const end = performance.now() + mostSeconds * 1000;
  for (let round = 0; round < rounds && (round === 0 || performance.now() < end); round++) {
    comparison.reference.push(await reference(round));
    comparison.ours.push(await ours(round));
  }
  const ratios = comparison.ours.map((value, round) => value / (comparison.reference[round] ?? 1));
  return { ...comparison, ratio: median(ratios) };
}

/** Seconds that the work takes. */
export async function secondsOf(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work();
  return (performance.now() - started) / 1000;
}

/** Rounded to three figures, for tables. */
export function rounded(value: number): number {
  return Number(value.toPrecision(3));
}
