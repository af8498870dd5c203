import fc from 'fast-check';

/** Relays visited at the same time: most of a visit is waiting for answers that do not come. */
const AT_ONCE = 6;

/** Visits that many relays, the same ones for the same seed, a few at a time. @throws Error which names the relay */
export async function playEach<T>(
  arbitrary: fc.Arbitrary<T>,
  parameters: { readonly numRuns: number; readonly seed: number },
  play: (drawn: T) => Promise<void>,
): Promise<void> {
  const drawn = fc.sample(arbitrary, { ...parameters });
  const playNext = async (): Promise<void> => {
    for (let next = drawn.shift(); next !== undefined; next = drawn.shift()) {
      try {
        await play(next);
      } catch (cause) {
        drawn.length = 0;
        throw new Error(`FAST_CHECK_SEED=${parameters.seed}, relay ${fc.stringify(next)}`, {
          cause,
        });
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, playNext));
}
