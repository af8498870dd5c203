import type { Duplex } from 'node:stream';
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
  readonly #stream: Duplex;
  readonly #limits: OutboxLimits;
  readonly #onSlow: () => void;
  #isPaused = false;
  #waiting: (() => void)[] = [];
  #stalled: NodeJS.Timeout | undefined;
  #unreadBefore = 0;

  /** @param onSlow called when the client is disconnected for taking nothing */
  constructor(socket: WebSocket, stream: Duplex, limits: OutboxLimits, onSlow: () => void) {
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

  /** Sends a message, or disconnects a client that has left too much. */
  send(text: string): void {
    if (!this.isOpen) return;
    this.#socket.send(text);
    if (this.unread > this.#limits.closeAboveBytes) this.#disconnect();
  }

  /** Sends messages in as few writes as possible. */
  sendAll(texts: Iterable<string>): void {
    this.#stream.cork();
    for (const text of texts) this.send(text);
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
    this.#unreadBefore = this.unread;
    this.#stalled = setInterval(() => this.#lookWhetherStalled(), this.#limits.stalledMs);
    this.#stalled.unref();
  }

  /** 'drain' comes when all is taken; a client that takes a little at a time is not stalled. */
  #lookWhetherStalled(): void {
    const { unread } = this;
    if (unread >= this.#unreadBefore) this.#disconnect();
    else if (unread <= this.#limits.pauseAboveBytes) this.#noteDrained();
    this.#unreadBefore = unread;
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
