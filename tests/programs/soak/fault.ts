/** What a fault is, and what it is done to. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Random } from '../../fixtures/random.ts';
import type { Arrivals } from './arrivals.ts';
import type { SoakRelay } from './relays.ts';
import type { Servers } from './servers.ts';
import type { KeptService } from './services.ts';
import type { Tally } from './tally.ts';

/** What faults are done to. */
export interface Scene {
  readonly random: Random;
  readonly servers: Servers;
  readonly relays: readonly SoakRelay[];
  readonly arrivals: Arrivals;
  /** Services that may be killed. */
  readonly mortal: readonly KeptService[];
  readonly tally: Tally;
}

export interface Fault {
  readonly name: string;
  /** Whether it can happen here at all; it can unless told. */
  isPossible?(scene: Scene): boolean;
  /** Does it and undoes it. @returns whether it has happened, as far as that is seen here */
  strike(scene: Scene): Promise<boolean>;
}

/** Waits for some time, in milliseconds. */
export const aWhile = (random: Random, from: number, to: number) => sleep(random.integer(from, to));
