/**
 * A worker for the tests of the scheduler: it speaks the protocol of src/runtime/worker-thread.ts and does what a job says.
 * Numbers shared with the test: 0 workers alive, 1 starts, 2 deaths left to die, 3 most jobs at a time in one worker.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { parentPort, resourceLimits, threadId, workerData } from 'node:worker_threads';

const numbers = new Int32Array(workerData.shared);
Atomics.add(numbers, 0, 1);
const starts = Atomics.add(numbers, 1, 1) + 1;
process.on('exit', () => Atomics.sub(numbers, 0, 1));

const stopping = new AbortController();
let running = 0;

async function run(job) {
  switch (job.do) {
    case 'sleep':
      await sleep(job.ms ?? 0);
      return { thread: threadId, name: workerData.threadName };
    case 'until stopped':
      await new Promise((resolve) => {
        stopping.signal.addEventListener('abort', resolve);
        if (stopping.signal.aborted) resolve();
      });
      return 'stopped early';
    case 'die':
      await sleep(job.ms ?? 0);
      if (job.always || Atomics.sub(numbers, 2, 1) > 0) process.exit(3);
      return 'survived';
    case 'never let go':
      if (Atomics.sub(numbers, 2, 1) <= 0) return 'let go';
      Atomics.sub(numbers, 0, 1); // it will not come to its end
      for (;;);
    case 'throw where nobody catches':
      setImmediate(() => {
        throw new Error('nobody caught this');
      });
      return new Promise(() => {});
    case 'fail':
      throw new Error('it went wrong');
    case 'tell your heap':
      return resourceLimits.maxOldGenerationSizeMb;
    case 'tell':
      parentPort.postMessage({ type: 'progress', progress: job.what });
      return job.what;
    default:
      throw new Error(`what is ${job.do}?`);
  }
}

async function serve(key, job) {
  running += 1;
  if (running > Atomics.load(numbers, 3)) Atomics.store(numbers, 3, running);
  try {
    parentPort.postMessage({ type: 'result', key, result: await run(job) });
  } catch (error) {
    parentPort.postMessage({ type: 'failed', key, reason: error.message });
  }
  running -= 1;
  if (stopping.signal.aborted && running === 0) parentPort.close();
}

if (
  workerData.fatal &&
  (workerData.fatalFor ?? [workerData.threadName]).includes(workerData.threadName)
) {
  parentPort.postMessage({ type: 'fatal', message: workerData.fatal, transient: false });
} else if (workerData.awayAt?.includes(starts)) {
  parentPort.postMessage({ type: 'fatal', message: 'no database', transient: true });
} else if (starts > (workerData.startsThatWork ?? Number.POSITIVE_INFINITY)) {
  process.exit(4);
} else {
  parentPort.on('message', (message) => {
    if (message.type === 'job') void serve(message.key, message.job);
    else if (message.type === 'ping') parentPort.postMessage({ type: 'pong' });
    else {
      stopping.abort();
      if (running === 0) parentPort.close();
    }
  });
  parentPort.postMessage({ type: 'ready', note: 'a worker of the tests' });
}
