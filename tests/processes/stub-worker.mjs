/** A worker that answers each job with `result` of its data: it speaks the protocol of src/runtime/worker-thread.ts. */
import { parentPort, workerData } from 'node:worker_threads';

parentPort.on('message', ({ type, key }) => {
  if (type === 'job') parentPort.postMessage({ type: 'result', key, result: workerData.result });
  else if (type === 'ping') parentPort.postMessage({ type: 'pong' });
  else parentPort.close();
});
parentPort.postMessage({ type: 'ready', note: 'a stub worker' });
