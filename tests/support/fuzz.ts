import fc from 'fast-check';
import { expect } from 'vitest';

/**
 * Tries one parser on many inputs, and prints how many. `check` says whether the input was accepted; to throw is to
 * fail.
 */
export function fuzz<T>(
  name: string,
  inputs: fc.Arbitrary<T>,
  numRuns: number,
  check: (input: T) => boolean,
): void {
  let tried = 0;
  let accepted = 0;
  fc.assert(
    fc.property(inputs, (input) => {
      tried += 1;
      if (check(input)) accepted += 1;
    }),
    { numRuns },
  );
  console.log(`${name}: ${tried} inputs tried, ${accepted} accepted`);
  expect(tried).toBeGreaterThanOrEqual(numRuns);
}
