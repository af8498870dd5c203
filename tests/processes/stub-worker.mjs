/**
 * A worker that answers each job with `result` of its data, or with `failure` where that is given, and counts the jobs in
 * `jobs`: it speaks the protocol of src/runtime/worker-thread.ts.
 */
import { parentPort, workerData } from 'node:worker_threads';

const { result, failure, jobs } = workerData;

parentPort.on('message', ({ type, key }) => {
  if (type === 'job') {
    if (jobs) Atomics.add(jobs, 0, 1);
    parentPort.postMessage({ key, ...(failure ?? { type: 'result', result }) });
  } else if (type === 'ping') parentPort.postMessage({ type: 'pong' });
  else parentPort.close();
});
parentPort.postMessage({ type: 'ready', note: 'a stub worker' });
