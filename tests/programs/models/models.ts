/**
 * Plays any number of model relays against the pager, without a database, and prints the seed of each part.
 *
 *   npm run test:models -- --relays 1000000 --seed 1
 *
 * Each seed plays 20,000 relays of any kind and 1,000 whose answers change. `--relays 20000 --seed 17` plays one of them
 * again. Ends with 1 at the first false claim, and prints the relay that was the simplest with it.
 */
import { parseArgs } from 'node:util';
import { MOST_BELIEVED, Plays, playAll, playChangingAll } from '../../relay/model-plays.ts';

const RELAYS_A_SEED = 20_000;
const CHANGING_A_SEED = 1000;

const { values } = parseArgs({
  options: {
    relays: { type: 'string', default: '100000' },
    seed: { type: 'string', default: '1' },
  },
});
const relays = Number(values.relays);
const firstSeed = Number(values.seed);
if (!(relays > 0 && Number.isInteger(firstSeed)))
  throw new Error('--relays is a number above 0, --seed an integer');

const all = new Plays();
const seeds = Math.ceil(relays / RELAYS_A_SEED);
for (let seed = firstSeed; seed < firstSeed + seeds; seed += 1) {
  const plays = new Plays();
  playAll(plays, { numRuns: Math.min(relays, RELAYS_A_SEED), seed });
  playChangingAll(plays, { numRuns: CHANGING_A_SEED, seed });
  console.log(`seed ${seed}: ${plays}`);
  all.add(plays);
}
console.log(`seeds ${firstSeed} to ${firstSeed + seeds - 1}, no false claim: ${all}`);
if (all.believed > all.changing * MOST_BELIEVED)
  throw new Error(
    `${all.believed} of ${all.changing} relays that change their answers are believed`,
  );
