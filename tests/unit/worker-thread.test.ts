import { once } from 'node:events';
import { MessageChannel, type MessagePort } from 'node:worker_threads';
import { beforeEach, describe, expect, test, vi } from 'vitest';
import { DatabaseError } from '../../src/database.ts';
import { type JobHandler, serveJobs } from '../../src/worker-thread.ts';

const worker = vi.hoisted(() => ({
  port: null as MessagePort | null,
  data: null as unknown,
}));
vi.mock('node:worker_threads', async (original) => ({
  ...(await original<typeof import('node:worker_threads')>()),
  get parentPort() {
    return worker.port;
  },
  get workerData() {
    return worker.data;
  },
}));

interface Message {
  readonly type: string;
  readonly key?: string;
  readonly [field: string]: unknown;
}

type Handler = JobHandler<string, unknown, string>;

let parent: MessagePort;
let heard: Message[];
let ended: Promise<unknown>;

beforeEach(() => {
  const channel = new MessageChannel();
  parent = channel.port1;
  worker.port = channel.port2;
  worker.data = { threadName: 'worker-1', answer: 42 };
  heard = [];
  parent.on('message', (message: Message) => heard.push(message));
  ended = once(parent, 'close');
  return () => parent.close();
});

const serve = (handler: Partial<Handler> = {}) =>
  serveJobs<unknown, string, unknown, string>(async () => ({
    note: 'a note',
    run: async (job) => `${job} done`,
    close: async () => {},
    ...handler,
  }));
const give = (...keys: string[]) => {
  for (const key of keys) parent.postMessage({ type: 'job', key, job: `job ${key}` });
};
const until = (type: string, count = 1) =>
  vi.waitFor(() => expect(heard.filter((message) => message.type === type)).toHaveLength(count));

describe('serveJobs', () => {
  test('gives a sign of life when it is asked for one, also while jobs run', async () => {
    await serve({ run: () => new Promise(() => {}) });
    give('1');
    parent.postMessage({ type: 'ping' });
    await until('pong');
  });

  test('makes its handler from the data, says that it is ready, and does jobs side by side', async () => {
    const create = vi.fn(async () => ({
      note: 'ready to work',
      run: async (job: string) => `${job} done`,
      close: async () => {},
    }));
    await serveJobs(create);
    expect(create).toHaveBeenCalledWith(worker.data);
    give('a', 'b');
    await until('result', 2);
    expect(heard).toEqual([
      { type: 'ready', note: 'ready to work' },
      { type: 'result', key: 'a', result: 'job a done' },
      { type: 'result', key: 'b', result: 'job b done' },
    ]);
  });

  test('a handler that cannot be made is fatal, with its sentence, and nothing keeps the thread alive', async () => {
    await serveJobs(async () => {
      throw new Error('no such database');
    });
    await until('fatal');
    expect(heard).toEqual([{ type: 'fatal', message: 'no such database', passing: false }]);
    expect(worker.port?.listenerCount('message')).toBe(0);
  });
  test.each([
    ['is away', false],
    ['refuses us', true],
  ])('a database that %s is told apart from one that will be back', async (message, permanent) => {
    await serveJobs(async () => {
      throw new DatabaseError(message, '', permanent, null);
    });
    await until('fatal');
    expect(heard).toEqual([{ type: 'fatal', message, passing: !permanent }]);
  });

  test('a job that throws fails alone, and so does one whose result cannot be sent', async () => {
    await serve({
      run: async (job) => {
        if (job === 'job bad') throw new Error('it went wrong');
        return job === 'job strange' ? () => {} : job;
      },
    });
    give('bad', 'strange', 'good');
    await until('failed', 2);
    await until('result');
    expect(heard.slice(1)).toEqual(
      expect.arrayContaining([
        { type: 'failed', key: 'bad', reason: 'it went wrong', notStored: false },
        expect.objectContaining({ key: 'strange', reason: expect.stringMatching(/cloned/) }),
        { type: 'result', key: 'good', result: 'job good' },
      ]),
    );
  });

  test('jobs tell of their progress', async () => {
    await serve({ run: async (job, _signal, tell) => tell(`${job} began`) });
    give('a');
    await until('result');
    expect(heard[1]).toEqual({ type: 'progress', progress: 'job a began' });
  });

  test('stop aborts what runs, sends its results, closes once, and ends the thread', async () => {
    const close = vi.fn(async () => {});
    await serve({
      run: (_job, signal) =>
        new Promise((resolve) =>
          signal.addEventListener('abort', () => resolve('cut short'), { once: true }),
        ),
      close,
    });
    give(...Array.from({ length: 20 }, (_, index) => `${index}`));
    parent.postMessage({ type: 'stop' });
    parent.postMessage({ type: 'stop' });
    await ended;
    expect(heard.filter(({ result }) => result === 'cut short')).toHaveLength(20);
    expect(close).toHaveBeenCalledTimes(1);
  });
});
