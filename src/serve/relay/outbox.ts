import type { Socket } from 'node:net';
import type { WebSocket } from 'ws';

export interface OutboxLimits {
  /** While a client has not taken this many bytes, nothing is read for it. */
  readonly pauseAboveBytes: number;
  /** A client that leaves more than this is disconnected. */
  readonly closeAboveBytes: number;
  /** A client that takes nothing for this long while it is waited for is disconnected, in milliseconds. */
  readonly stalledMs: number;
}

/**
 * What is sent to one client, and how much of it the client has not taken yet. A slow reader is paused: its answers wait.
 * One that takes nothing at all meanwhile, or leaves too much of what cannot wait, is disconnected.
 */
export class Outbox {
  readonly #socket: WebSocket;
  readonly #stream: Socket;
  readonly #limits: OutboxLimits;
  readonly #onSlow: () => void;
  #isPaused = false;
  #waiting: (() => void)[] = [];
  #stalled: NodeJS.Timeout | undefined;
  /** Bytes that the client had taken when it was looked at last. */
  #takenBefore = 0;

  /** @param onSlow called when the client is disconnected for taking nothing */
  constructor(socket: WebSocket, stream: Socket, limits: OutboxLimits, onSlow: () => void) {
    this.#socket = socket;
    this.#stream = stream;
    this.#limits = limits;
    this.#onSlow = onSlow;
    stream.on('drain', () => this.#noteDrained());
    socket.once('close', () => this.#release());
  }

  /** Bytes that the client has not taken yet. */
  get unread(): number {
    return this.#socket.bufferedAmount;
  }

  get isOpen(): boolean {
    return this.#socket.readyState === this.#socket.OPEN;
  }

  /** Sends a message, or disconnects a client that has left too much before it. */
  send(text: string): void {
    if (!this.isOpen) return;
    if (this.unread > this.#limits.closeAboveBytes) this.#disconnect();
    else this.#socket.send(text);
  }

  /** Sends what the client has asked for, in as few writes as possible; `drained` follows. */
  sendAll(texts: Iterable<string>): void {
    if (!this.isOpen) return;
    this.#stream.cork();
    for (const text of texts) this.#socket.send(text);
    this.#stream.uncork();
  }

  /** Waits until the client has taken enough. @returns false if it has gone */
  async drained(): Promise<boolean> {
    while (this.isOpen && this.unread > this.#limits.pauseAboveBytes) {
      this.#pause();
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    return this.isOpen;
  }

  #pause(): void {
    if (this.#isPaused) return;
    this.#isPaused = true;
    this.#takenBefore = this.#taken;
    this.#stalled = setInterval(() => this.#lookWhetherStalled(), this.#limits.stalledMs);
    this.#stalled.unref();
  }

  get #taken(): number {
    return this.#stream.bytesWritten - this.unread;
  }

  /** 'drain' comes when all is taken; a client that takes a little at a time is not stalled. */
  #lookWhetherStalled(): void {
    const before = this.#takenBefore;
    this.#takenBefore = this.#taken;
    if (this.unread <= this.#limits.pauseAboveBytes) this.#noteDrained();
    else if (this.#takenBefore <= before) this.#disconnect();
  }

  #noteDrained(): void {
    if (!this.#isPaused || this.unread > this.#limits.pauseAboveBytes) return;
    this.#release();
  }

  #disconnect(): void {
    if (!this.isOpen) return;
    this.#onSlow();
    this.#socket.terminate();
    this.#release();
  }

  #release(): void {
    clearInterval(this.#stalled);
    this.#isPaused = false;
    for (const resume of this.#waiting.splice(0)) resume();
  }
}
