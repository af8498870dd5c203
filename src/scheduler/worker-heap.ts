import { totalmem } from 'node:os';

/**
 * Heap of a worker, and what each job adds to it. Twenty relays that send the largest events there are, all at once,
 * hold less than 256 MB; without a limit their garbage grows to the memory of the machine. Who exceeds it is replaced.
 */
const WORKER_HEAP_MB = 256;
const JOB_HEAP_MB = 16;
/**
 * The part of the memory that the heaps of all workers may fill. With 0.6 of 1 GB the process took 825 MB when they were
 * full, with 0.75 all of it; buffers, native code and the main thread take the rest.
 */
const HEAP_SHARE = 0.6;

/**
 * The largest heap of a worker in MB: what its jobs may need, and never more than its share of the memory. A worker that
 * outgrows its heap is replaced; a container that outgrows its limit is killed, with all that its workers do.
 *
 * @param memory what the process may use, in bytes: the limit of its container (cgroup), or what the machine has
 */
export function workerHeapMb(
  workers: number,
  jobsPerWorker: number,
  memory = Math.min(process.constrainedMemory() || Number.POSITIVE_INFINITY, totalmem()),
): number {
  const share = Math.floor((HEAP_SHARE * memory) / 2 ** 20 / workers);
  return Math.min(WORKER_HEAP_MB + JOB_HEAP_MB * jobsPerWorker, share);
}
