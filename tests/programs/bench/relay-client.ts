import { once } from 'node:events';
import { WebSocket } from 'ws';

/** A client for measuring: it counts events, and parses nothing. */
export class BenchClient {
  readonly #socket: WebSocket;
  #onEnd: (end: string) => void = () => {};
  #onEvent: () => void = () => {};
  #events = 0;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.on('message', (data: Buffer) => {
      // ["EVENT", …, and ["EOSE", … and ["CLOSED", …
      if (data[3] === 0x56) {
        this.#events += 1;
        this.#onEvent();
      } else this.#onEnd(data.toString());
    });
  }

  /** @param address for X-Forwarded-For */
  static async connect(url: string, address?: string): Promise<BenchClient> {
    const socket = new WebSocket(url, {
      ...{ perMessageDeflate: false, skipUTF8Validation: true },
      ...(address && { headers: { 'x-forwarded-for': address } }),
    });
    socket.on('error', () => {});
    await once(socket, 'open');
    return new BenchClient(socket);
  }

  /** Asks for a page. @returns its number of events @throws where it is refused */
  async page(filter: object): Promise<number> {
    this.#events = 0;
    const ended = new Promise<string>((resolve) => {
      this.#onEnd = resolve;
    });
    this.#socket.send(JSON.stringify(['REQ', 'p', filter]));
    const end = await ended;
    this.#socket.send('["CLOSE","p"]');
    if (!end.startsWith('["EOSE"')) throw new Error(`${JSON.stringify(filter)}: ${end}`);
    return this.#events;
  }

  /** Subscribes to new events. @returns a function that waits for the next one */
  async live(filter: object): Promise<() => Promise<void>> {
    const ended = new Promise<string>((resolve) => {
      this.#onEnd = resolve;
    });
    this.#socket.send(JSON.stringify(['REQ', 'live', { ...filter, limit: 0 }]));
    await ended;
    return () =>
      new Promise<void>((resolve) => {
        this.#onEvent = resolve;
      });
  }

  /** Sends a message and does not look at what comes. */
  send(...message: readonly unknown[]): void {
    this.#socket.send(JSON.stringify(message));
  }

  /** Takes nothing any more. */
  pause(): void {
    this.#socket.pause();
  }

  get isOpen(): boolean {
    return this.#socket.readyState === WebSocket.OPEN;
  }

  close(): void {
    this.#socket.terminate();
  }
}
