/** What a soak is asked to do. */
export interface SoakOptions {
  /** How long faults happen; catching up and comparing come after that. */
  readonly minutes: number;
  /** The same seed draws the same relays, events and faults. */
  readonly seed: number;
  /** Twelve relays instead of more than fifty. */
  readonly quick: boolean;
  /** Three synchronizers, two monitors and two finders, as on several hosts. */
  readonly hosts: boolean;
}

/** Arguments that make no sense; the message is one sentence for the person who gave them. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

const DEFAULT_MINUTES = 5;
const QUICK_MINUTES = 0.5;
const MAX_MINUTES = 1440;
const MAX_SEED = 2 ** 31 - 1;
const USAGE = 'try: npm run test:soak -- 5 --seed 123, or npm run test:soak -- --quick';

/** Reads the arguments behind `--`. @throws UsageError */
export function parseSoakArguments(given: readonly string[]): SoakOptions {
  let minutes: number | null = null;
  let seed: number | null = null;
  let hosts = false;
  let quick = false;
  for (let index = 0; index < given.length; index += 1) {
    const argument = given[index] ?? '';
    if (argument === '--quick') quick = true;
    else if (argument === '--hosts') hosts = true;
    else if (argument === '--seed') {
      index += 1;
      seed = parseSeed(given[index]);
    } else if (minutes === null) minutes = parseMinutes(argument);
    else throw new UsageError(`${argument} comes after the minutes were given: ${USAGE}.`);
  }
  if (quick && minutes !== null) {
    throw new UsageError(`--quick has its own time, so leave out ${minutes}: ${USAGE}.`);
  }
  return {
    minutes: minutes ?? (quick ? QUICK_MINUTES : DEFAULT_MINUTES),
    seed: seed ?? Math.floor(Math.random() * 1_000_000),
    quick,
    hosts,
  };
}

function parseMinutes(text: string): number {
  const minutes = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
  if (minutes > 0 && minutes <= MAX_MINUTES) return minutes;
  throw new UsageError(
    `${text || 'an empty argument'} is no number of minutes above 0 and up to ${MAX_MINUTES}: ${USAGE}.`,
  );
}

function parseSeed(text: string | undefined): number {
  const seed = /^\d+$/.test(text ?? '') ? Number(text) : Number.NaN;
  if (seed <= MAX_SEED) return seed;
  throw new UsageError(
    `--seed takes a whole number from 0 to ${MAX_SEED}, not ${text || 'nothing'}: ${USAGE}.`,
  );
}
