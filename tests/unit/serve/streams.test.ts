import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { Problem } from '../../../src/serve/api/problem.ts';
import { Streams } from '../../../src/serve/api/streams.ts';

/** Sends one part and then has nothing more to send, until it is told to end. */
async function* silent(signal: AbortSignal) {
  yield 'first';
  while (!signal.aborted) await sleep(3_600_000, undefined, { signal }).catch(() => {});
}

describe('Streams', () => {
  test('frees the place of a client that goes while there is nothing to send', async () => {
    const streams = new Streams(1, new AbortController().signal);
    const stream = streams.start(silent);
    await once(stream, 'readable');
    expect(String(stream.read())).toBe('first');
    expect(() => streams.start(silent)).toThrow(Problem);
    stream.destroy();
    await once(stream, 'close');
    expect(streams.open).toBe(0);
    streams.start(silent).destroy();
  });

  test('ends all of them when the service stops', async () => {
    const stopping = new AbortController();
    const streams = new Streams(2, stopping.signal);
    const all = [streams.start(silent), streams.start(silent)];
    const ended = Promise.all(all.map((stream) => once(stream, 'close')));
    stopping.abort();
    await ended;
    expect(streams.open).toBe(0);
  });

  test('makes no more than a client takes', async () => {
    let made = 0;
    const stream = new Streams(1, new AbortController().signal).start(async function* () {
      for (; made < 1000; made += 1) yield 'x'.repeat(10_000);
    });
    await once(stream, 'readable');
    await sleep(20);
    expect(made).toBeLessThan(5);
    stream.destroy();
  });
});
