/**
 * The worker of the synchronizers, as it was built, that dies at once when the test says so. Numbers shared with the
 * test: 0 deaths still to die, 1 starts so far.
 */
import { workerData } from 'node:worker_threads';

const numbers = new Int32Array(workerData.shared);
Atomics.add(numbers, 1, 1);
setInterval(() => {
  if (Atomics.compareExchange(numbers, 0, 1, 0) === 1) process.exit(9);
}, 1).unref();
await import('../../dist/sync/worker.js');
