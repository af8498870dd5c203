import type { Socket } from 'node:net';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import type { WebSocket } from 'ws';
import { type Frame, frameHead } from './frames.ts';
import type { RelayRecord } from './record.ts';

/** Above this the relay waits for the client to read, so that a paused client is felt here (backpressure). */
const BUFFER_BYTES = 256 * 1024;
/** So often the event loop gets a turn: the client lives in the same process, and its CLOSE must come through. */
const FRAMES_A_TURN = 200;

/**
 * The relay's end of one connection: counted, paced by the reader, and able to fail. Sending never throws; on a
 * connection that is gone it does nothing.
 */
export class RelayWire {
  readonly #socket: WebSocket;
  readonly #tcp: Socket;
  readonly #record: RelayRecord;
  readonly #gone = new AbortController();
  readonly #waiting: (() => void)[] = [];
  #frozen = false;
  #frames = 0;
  /** EVENTs sent on this connection. */
  eventsSent = 0;

  constructor(socket: WebSocket, tcp: Socket, record: RelayRecord) {
    this.#socket = socket;
    this.#tcp = tcp;
    this.#record = record;
    socket.on('ping', (data) => this.isUsable && socket.pong(data));
    socket.on('error', () => {}); // 'close' follows
    socket.on('close', () => {
      this.#gone.abort();
      this.#wake();
    });
  }

  get isUsable(): boolean {
    return !this.#frozen && !this.#gone.signal.aborted;
  }

  message(...parts: readonly unknown[]): void {
    this.text(JSON.stringify(parts));
  }

  text(text: string | Buffer): void {
    if (!this.isUsable) return;
    this.#record.bytes.sent += text.length;
    this.#frames += 1;
    this.#socket.send(text, { binary: false }, () => this.#wake());
  }

  frame(frame: Frame): void {
    if ('text' in frame) this.text(frame.text);
    else if (this.isUsable && 'tcp' in frame) this.#tcp.write(frame.tcp);
    else if (this.isUsable && 'binary' in frame) this.#socket.send(frame.binary, () => {});
  }

  /** To be awaited between messages of a long row. @returns a promise only when there is something to wait for. */
  pace(): Promise<void> | undefined {
    if (this.#isBehind) return new Promise((resolve) => this.#waiting.push(resolve));
    return this.#frames % FRAMES_A_TURN === 0 ? nextTurn() : undefined;
  }

  get #isBehind(): boolean {
    return this.isUsable && this.#socket.bufferedAmount > BUFFER_BYTES;
  }

  #wake(): void {
    if (this.#isBehind) return;
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  /** Announces one message of this number of bytes and sends them one at a time. Returns when all are sent or the socket is closed. */
  async drip(bytes: number, everyMs: number): Promise<void> {
    this.frame({ tcp: frameHead(bytes) });
    for (let sent = 0; sent < bytes && this.isUsable; sent++) {
      await this.pause(everyMs);
      this.frame({ tcp: Buffer.from(' ') });
    }
  }

  /** Waits, but no longer than the connection lives. */
  async pause(ms: number): Promise<void> {
    await sleep(ms, undefined, { signal: this.#gone.signal, ref: false }).catch(() => {});
  }

  /** Ends the connection with a close frame. */
  close(code: number, reason: string): void {
    this.#socket.close(code, reason);
  }

  /** Cuts the connection at once, without a close frame. */
  cut(): void {
    this.#socket.terminate();
  }

  /** Ends the TCP connection without a close frame, once all that was sent before has left. */
  async cutWhenSent(): Promise<void> {
    this.#frozen = true;
    while (!this.#gone.signal.aborted && this.#socket.bufferedAmount > 0) await this.pause(1);
    this.#tcp.end();
    await this.pause(200); // a reset in the meantime could take away what the client has not read yet
    this.cut();
  }

  /** Neither reads nor writes nor closes any more, as when the cable was pulled. Counted as open until the relay stops. */
  freeze(): void {
    this.#frozen = true;
    this.#wake();
    this.#socket.pause();
  }
}
