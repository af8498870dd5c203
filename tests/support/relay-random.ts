/** Random numbers that come out the same for the same seed, so that a failing run can be run again. */
export interface Random {
  /** From 0 up to, but not, 1. */
  next(): number;
  /** An integer from `from` to `to`, both inclusive. */
  integer(from: number, to: number): number;
  pick<T>(items: readonly T[]): T;
  shuffle<T>(items: readonly T[]): T[];
}

/** A xorshift generator of 32 bits (Marsaglia, 2003): good enough for tests, never for secrets. */
export function seededRandom(seed: number): Random {
  let state = (Math.imul(seed + 1, 0x9e3779b1) ^ 0x5bd1e995) | 0 || 1;
  const next = () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
  for (let i = 0; i < 8; i++) next(); // near seeds give near first numbers
  const integer = (from: number, to: number) => from + Math.floor(next() * (to - from + 1));
  return {
    next,
    integer,
    pick: (items) => pickFrom(items, integer),
    shuffle: (items) => shuffled(items, integer),
  };
}

function pickFrom<T>(items: readonly T[], integer: (from: number, to: number) => number): T {
  const item = items[integer(0, items.length - 1)];
  if (item === undefined) throw new Error('cannot pick from an empty list');
  return item;
}

/** Fisher and Yates, from the end. */
function shuffled<T>(items: readonly T[], integer: (from: number, to: number) => number): T[] {
  const result = [...items];
  for (let last = result.length - 1; last > 0; last--) {
    const other = integer(0, last);
    const moved = result[last] as T;
    result[last] = result[other] as T;
    result[other] = moved;
  }
  return result;
}
