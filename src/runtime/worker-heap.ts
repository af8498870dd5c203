import { totalmem } from 'node:os';

/**
 * Heap of a worker, and what each job adds to it. Twenty relays that send events of the largest size at the same time
 * need less than 256 MB. Without a limit garbage grows to the memory of the machine.
 */
const WORKER_HEAP_MB = 256;
const JOB_HEAP_MB = 16;
/**
 * Share of the memory for the heaps of all workers. With 0.6 of 1 GB the process took 825 MB when they were full, with
 * 0.75 all of it: buffers, native code and the main thread take the rest.
 */
const HEAP_SHARE = 0.6;

/**
 * The maximum heap of a worker in MB: what its jobs may need, at most its share of the memory. A worker that exceeds its
 * heap is replaced; a container that exceeds its limit is killed, with the work of all its workers.
 *
 * @param memory what the process may use, in bytes: the limit of its container (cgroup), or the memory of the machine
 */
export function workerHeapMb(
  workers: number,
  jobsPerWorker: number,
  memory = Math.min(process.constrainedMemory() || Number.POSITIVE_INFINITY, totalmem()),
): number {
  const share = Math.floor((HEAP_SHARE * memory) / 2 ** 20 / workers);
  return Math.min(WORKER_HEAP_MB + JOB_HEAP_MB * jobsPerWorker, share);
}
