import { setMaxListeners } from 'node:events';
import { Readable } from 'node:stream';
import { Problem } from './problem.ts';

/**
 * Answers that are streamed: their number is limited, and they end with the service. A stream is read as fast as its
 * client takes it, and holds no more than the part that is being sent.
 */
export class Streams {
  readonly #most: number;
  readonly #stopping: AbortSignal;
  #open = 0;

  constructor(most: number, stopping: AbortSignal) {
    this.#most = most;
    this.#stopping = stopping;
    setMaxListeners(0, stopping); // one for each stream: many are not a leak
  }

  get open(): number {
    return this.#open;
  }

  /**
   * @param parts texts in their order; called with a signal that aborts when the client has gone or the service stops
   * @throws Problem where too many are open
   */
  start(parts: (signal: AbortSignal) => AsyncIterable<string>): Readable {
    if (this.#open >= this.#most)
      throw new Problem(
        'too-many-streams',
        `${this.#most} answers are being streamed: try again later, or ask for JSON pages.`,
        { retryAfter: 10 },
      );
    const ending = new AbortController();
    const stream = Readable.from(parts(ending.signal), { objectMode: false, highWaterMark: 1 });
    const destroy = stream._destroy.bind(stream);
    // Before the stream waits for `parts`, which may be waiting for something new to send.
    stream._destroy = (error, done) => {
      ending.abort();
      destroy(error, done);
    };
    const stop = () => stream.destroy();
    this.#open += 1;
    this.#stopping.addEventListener('abort', stop, { once: true });
    stream.once('close', () => {
      this.#open -= 1;
      this.#stopping.removeEventListener('abort', stop);
    });
    return stream;
  }
}
