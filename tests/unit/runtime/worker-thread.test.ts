import { once } from 'node:events';
import { MessageChannel } from 'node:worker_threads';
import { test as base, describe, expect, vi } from 'vitest';
import { DatabaseError } from '../../../src/database/connection.ts';
import { type JobHandler, serveJobs } from '../../../src/runtime/worker-thread.ts';

interface Message {
  readonly type: string;
  readonly key?: string;
  readonly [field: string]: unknown;
}

type Handler = JobHandler<string, unknown, string>;

/** Tests of a worker by the messages on its port, without a thread. */
const test = base
  .extend('link', ({ onTestFinished }) => {
    const { port1: parent, port2: port } = new MessageChannel();
    const received: Message[] = [];
    parent.on('message', (message: Message) => received.push(message));
    const ended = once(parent, 'close');
    onTestFinished(() => parent.close());
    return { parent, port, received, ended, data: { threadName: 'worker-1', answer: 42 } };
  })
  .extend('serve', ({ link }) => {
    return (handler: Partial<Handler> = {}) =>
      serveJobs<unknown, string, unknown, string>(
        async () => ({
          note: 'a note',
          run: async (job) => `${job} done`,
          close: async () => {},
          ...handler,
        }),
        link,
      );
  })
  .extend('give', ({ link }) => {
    return (...keys: string[]) => {
      for (const key of keys) link.parent.postMessage({ type: 'job', key, job: `job ${key}` });
    };
  })
  .extend('until', ({ link }) => {
    return (type: string, count = 1) =>
      vi.waitFor(() =>
        expect(link.received.filter((message) => message.type === type)).toHaveLength(count),
      );
  });

describe('serveJobs', () => {
  test('answers pings, also while jobs run', async ({ serve, give, link, until }) => {
    await serve({ run: () => new Promise(() => {}) });
    give('1');
    link.parent.postMessage({ type: 'ping' });
    await until('pong');
  });

  test('creates its handler from the data, reports that it is ready, and runs jobs concurrently', async ({
    link,
    give,
    until,
  }) => {
    const create = vi.fn(async () => ({
      note: 'ready to work',
      run: async (job: string) => `${job} done`,
      close: async () => {},
    }));
    await serveJobs(create, link);
    expect(create).toHaveBeenCalledWith(link.data, expect.any(Function));
    give('a', 'b');
    await until('result', 2);
    expect(link.received).toEqual([
      { type: 'ready', note: 'ready to work' },
      { type: 'result', key: 'a', result: 'job a done' },
      { type: 'result', key: 'b', result: 'job b done' },
    ]);
  });

  test('reports fatal with the message when the handler cannot be created, and lets the thread end', async ({
    link,
    until,
  }) => {
    await serveJobs(async () => {
      throw new Error('no such database');
    }, link);
    await until('fatal');
    expect(link.received).toEqual([
      { type: 'fatal', message: 'no such database', transient: false },
    ]);
    expect(link.port.listenerCount('message')).toBe(0);
  });

  test.for([
    ['is unavailable', false],
    ['rejects the login', true],
  ] as const)(
    'reports fatal, transient or not, when the database %s',
    async ([message, permanent], { link, until }) => {
      await serveJobs(async () => {
        throw new DatabaseError(message, '', permanent, null);
      }, link);
      await until('fatal');
      expect(link.received).toEqual([{ type: 'fatal', message, transient: !permanent }]);
    },
  );

  test('fails only the job that throws, or whose result cannot be cloned', async ({
    serve,
    give,
    until,
    link,
  }) => {
    await serve({
      run: async (job) => {
        if (job === 'job bad') throw new Error('it went wrong');
        return job === 'job strange' ? () => {} : job;
      },
    });
    give('bad', 'strange', 'good');
    await until('failed', 2);
    await until('result');
    expect(link.received.slice(1)).toEqual(
      expect.arrayContaining([
        {
          ...{ type: 'failed', key: 'bad', reason: 'it went wrong' },
          ...{ notStored: false, claimLost: false },
        },
        expect.objectContaining({ key: 'strange', reason: expect.stringMatching(/cloned/) }),
        { type: 'result', key: 'good', result: 'job good' },
      ]),
    );
  });

  test('sends the progress that jobs report', async ({ serve, give, until, link }) => {
    await serve({ run: async (job, _signal, report) => report(`${job} started`) });
    give('a');
    await until('result');
    expect(link.received[1]).toEqual({ type: 'progress', progress: 'job a started' });
  });

  test('on stop aborts running jobs, sends their results, closes once, and ends the thread', async ({
    serve,
    give,
    link,
  }) => {
    const close = vi.fn(async () => {});
    await serve({
      run: (_job, signal) =>
        new Promise((resolve) =>
          signal.addEventListener('abort', () => resolve('aborted'), { once: true }),
        ),
      close,
    });
    give(...Array.from({ length: 20 }, (_, index) => `${index}`));
    link.parent.postMessage({ type: 'stop' });
    link.parent.postMessage({ type: 'stop' });
    await link.ended;
    expect(link.received.filter(({ result }) => result === 'aborted')).toHaveLength(20);
    expect(close).toHaveBeenCalledTimes(1);
  });
});
