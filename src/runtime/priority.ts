import { getPriority, setPriority } from 'node:os';

/** Niceness of a service that answers questions: a third of the share of the CPU that a service of niceness 0 gets. */
const NICENESS = 5;

/**
 * Lets archiving have the CPU first: what comes in is lost when it is not read in time, an answer only waits. Call it
 * before the process has other threads, which have the priority of the one that starts them.
 */
export function lowerPriority(): void {
  try {
    if (getPriority() < NICENESS) setPriority(NICENESS);
  } catch {
    // A system without priorities: the service does the same work.
  }
}
