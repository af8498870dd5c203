import type { ClientRequest, IncomingHttpHeaders, IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { WebSocket } from 'ws';
import { attributeFailure } from '../network/attribute-failure.ts';
import { deadline, withDeadline } from '../network/deadline.ts';
import { asRelayError, RelayError } from '../network/relay-error.ts';
import { retryAfterSeconds } from '../network/retry-after.ts';
import { type TransportOptions, webSocketTransport } from '../network/transport.ts';
import type { RelayUrl } from '../network/url.ts';
import { plainText } from '../nostr/message.ts';
import { ByteBudget } from './byte-budget.ts';
import type { JunkAccount, JunkLimit } from './junk-limit.ts';

/** Largest frame accepted from a relay, in bytes. Events of 4 MB exist; a larger frame ends the connection. */
export const MAX_MESSAGE_BYTES = 8 * 1024 * 1024;

/** Head of a short, unmasked frame (RFC 6455 section 5.2). */
const FRAME_HEAD_BYTES = 2;
/** Error code of `ws` for a frame above the limit. */
const OVERSIZED = 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH';

export interface ConnectOptions extends TransportOptions {
  readonly maxMessageBytes?: number;
  /** Rate limit for junk traffic, shared by the connections of a thread; none when missing. */
  readonly junkLimit?: JunkLimit;
  /** Bounds the bytes of received events that are not processed yet, over all connections of a thread; no bound when missing. */
  readonly inFlight?: ByteBudget;
  readonly signal?: AbortSignal;
}

/** The relay's side of the handshake: its headers, and the socket with its address and certificate. */
export interface Upgrade {
  readonly headers: IncomingHttpHeaders;
  readonly socket: Socket;
}

export interface Closed {
  readonly code: number;
  readonly reason: string;
  /** Whether it ended because of a frame above the size limit. */
  readonly oversized: boolean;
}

/**
 * One WebSocket to a relay.
 *
 * States, from `connectRelay` on:
 * - **silent**: open, and not read from, since nothing listens yet. Relays send their NIP-42 challenge in one packet with
 *   the upgrade; it stays in the socket. The first `onMessage` leads to *reading*.
 * - **reading**: each text frame goes to all handlers.
 * - **paused**: at least one reader called `pause` because what it received is not processed yet (back-pressure). TCP then
 *   stops the relay. Leads back to *reading* when all of them have called `resume`.
 * - **held**: the junk limit stopped reading for some milliseconds. A connection can be paused and held at the same time;
 *   it is read again when neither applies.
 * - **closed**: the socket is closed, by either side. Reached from every state; final.
 *
 * Guaranteed: no frame is lost between states. `closed` settles exactly once and never rejects. `send` never throws. Every
 * change between read and not read is reported (`onReadingChanged`), so that deadlines do not count time in which an answer may
 * wait in the socket.
 */
export class RelayConnection {
  readonly url: RelayUrl;
  /** Settles once, when the socket is closed, by either side. Never rejects. */
  readonly closed: Promise<Closed>;
  /** Bytes of all frames so far. */
  bytesReceived = 0;
  /** Binary frames: no relay message is one. */
  binaryFrames = 0;
  /** Null before the relay has accepted the upgrade. */
  upgrade: Upgrade | null = null;
  readonly #socket: WebSocket;
  readonly #handlers = new Set<(data: string) => void>();
  readonly #closedHandlers = new Set<(closed: Closed) => void>();
  /** Bytes of events that are not processed yet, shared as `ConnectOptions.inFlight` says. */
  readonly inFlight: ByteBudget;
  readonly #account: JunkAccount | undefined;
  readonly #flowHandlers = new Set<() => void>();
  /** Readers that hold more than they can process: the socket is read again when none is left. */
  readonly #pausedBy = new Set<object>();
  #hasListeners = false;
  #isKeptAlive = false;
  #held: NodeJS.Timeout | null = null;

  /** @param socket before it is open, so that its first errors are seen */
  constructor(
    url: RelayUrl,
    socket: WebSocket,
    { junkLimit, inFlight }: Pick<ConnectOptions, 'junkLimit' | 'inFlight'> = {},
  ) {
    this.url = url;
    this.#socket = socket;
    this.#account = junkLimit?.open();
    this.inFlight = inFlight ?? new ByteBudget(Number.POSITIVE_INFINITY);
    let lastError: (Error & { code?: string }) | undefined;
    socket.on('error', (error) => {
      lastError = error;
    });
    socket.once('upgrade', ({ headers, socket: transport }) => {
      this.upgrade = { headers, socket: transport };
    });
    socket.once('open', () => {
      if (!this.#hasListeners) socket.pause();
    });
    socket.on('message', (data: Buffer, isBinary) => this.#receive(data, isBinary));
    for (const control of ['ping', 'pong'] as const)
      socket.on(control, ({ length }: Buffer) => this.chargeJunk(FRAME_HEAD_BYTES + length));
    this.closed = new Promise((resolve) => {
      socket.once('close', (code, reason) =>
        resolve({
          code,
          reason: plainText(lastError?.message ?? reason.toString()),
          oversized: lastError?.code === OVERSIZED,
        }),
      );
    });
    void this.closed.then((closed) => {
      this.#release();
      for (const handler of this.#closedHandlers) handler(closed);
    });
  }

  #receive(data: Buffer, isBinary: boolean): void {
    this.bytesReceived += data.length;
    if (isBinary) {
      this.binaryFrames += 1;
      this.chargeJunk(data.length); // no handler receives it
      return;
    }
    const text = data.toString('utf8');
    for (const handler of this.#handlers) handler(text);
  }

  get isOpen(): boolean {
    return this.#socket.readyState === WebSocket.OPEN;
  }

  /** Sends one client message. Does nothing when the connection is gone. */
  send(message: readonly unknown[]): void {
    if (this.isOpen) this.#socket.send(JSON.stringify(message), () => {});
  }

  /** Calls the handler with each text frame. @returns a function that stops it. */
  onMessage(handler: (data: string) => void): () => void {
    this.#handlers.add(handler);
    if (!this.#hasListeners) {
      this.#hasListeners = true;
      if (!this.isReadingPaused) this.#socket.resume();
    }
    return () => this.#handlers.delete(handler);
  }

  /**
   * Calls the handler once the socket is gone, asynchronously when it already is. For waits that are shorter than the
   * connection's life: `closed.then()` would retain their memory until its end. @returns a function that stops it.
   */
  onClosed(handler: (closed: Closed) => void): () => void {
    if (this.#socket.readyState === WebSocket.CLOSED) void this.closed.then(handler);
    else this.#closedHandlers.add(handler);
    return () => this.#closedHandlers.delete(handler);
  }

  /** Stops reading from the socket; TCP then stops the relay. Reading continues when every reader that paused has resumed. */
  pause(by: object = this): void {
    const wasPaused = this.isPausedByReader;
    this.#pausedBy.add(by);
    this.#socket.pause();
    if (!wasPaused) this.#reportFlow();
  }

  resume(by: object = this): void {
    const wasPaused = this.isPausedByReader;
    this.#pausedBy.delete(by);
    if (!this.isReadingPaused) this.#socket.resume();
    if (wasPaused && !this.isPausedByReader) this.#reportFlow();
  }

  /** Whether reading is stopped, for whatever reason: an answer may be waiting in the socket. */
  get isReadingPaused(): boolean {
    return this.isPausedByReader || this.isThrottled;
  }

  /** Whether reading is stopped because received data is not processed yet. */
  get isPausedByReader(): boolean {
    return this.#pausedBy.size > 0;
  }

  /** Calls the handler whenever reading stops or continues, by readers or by the junk limit. @returns a function that stops it */
  onReadingChanged(handler: () => void): () => void {
    this.#flowHandlers.add(handler);
    return () => this.#flowHandlers.delete(handler);
  }

  #reportFlow(): void {
    for (const handler of [...this.#flowHandlers]) handler();
  }

  /** Whether the junk limit has stopped reading. */
  get isThrottled(): boolean {
    return this.#held !== null;
  }

  /** Charges junk bytes to the relay. Above the limit reading stops for some time. */
  chargeJunk(bytes: number): void {
    const waitMs = this.#account?.spend(bytes) ?? 0;
    if (waitMs === 0) return;
    if (!this.isOpen) {
      this.#account?.release();
      return;
    }
    this.#socket.pause();
    this.#held = setTimeout(() => this.#release(), waitMs);
    this.#reportFlow();
  }

  #release(): void {
    this.#account?.release();
    if (this.#held === null) return;
    clearTimeout(this.#held);
    this.#held = null;
    if (!this.isPausedByReader) this.#socket.resume();
    this.#reportFlow();
  }

  /**
   * Pings the relay at this interval, in milliseconds, and terminates the socket when a ping is not answered before the
   * next: this detects half-open connections (RFC 6455 section 5.5.2). Cannot be stopped; a second call does nothing.
   */
  keepAlive(intervalMs: number): void {
    if (this.#isKeptAlive) return;
    this.#isKeptAlive = true;
    let answered = true;
    this.#socket.on('pong', () => {
      answered = true;
    });
    let cancel: () => void;
    const wait = () => {
      cancel = deadline(intervalMs, () => {
        const reads = !this.isReadingPaused; // otherwise a pong may be waiting in the socket
        if (!answered && reads) this.#socket.terminate();
        else if (this.isOpen) this.#socket.ping();
        answered = !reads;
        wait();
      });
    };
    wait();
    // After a pause the pong may be behind everything that arrived meanwhile: restart the interval.
    const stopWatching = this.onReadingChanged(() => {
      cancel();
      wait();
    });
    void this.closed.then(() => {
      stopWatching();
      cancel();
    });
  }

  /** Sends a close frame, and terminates the socket when the relay has not answered it within a second. */
  close(): void {
    if (this.#socket.readyState === WebSocket.CLOSED) return;
    this.#pausedBy.clear();
    this.#release();
    this.#socket.resume(); // the relay's close frame cannot arrive on a paused socket
    this.#socket.close(1000);
    const terminate = setTimeout(() => this.#socket.terminate(), 1000);
    void this.closed.then(() => clearTimeout(terminate));
  }
}

/**
 * Opens a WebSocket to a relay: `.onion` names through the SOCKS5 proxy, which resolves them, everything else directly and
 * only at addresses that the guard allows. Compression is off (with the defaults of `ws` a 92 KB bomb inflates to 94 MB),
 * redirects are not followed.
 *
 * @throws RelayError with reason `forbidden`, `no_proxy`, `timeout`, `aborted`, `dns`, `refused`, `unreachable`, `reset`,
 * `tls`, `proxy`, `proxy_down` (Tor failed and not the relay; testing that takes as long again, 20 s at most),
 * `network_down` (our own network failed and not the relay; testing that takes a few seconds),
 * `http_<status>` or `protocol`; with `retryAfterSeconds` when the response to the upgrade had a `Retry-After`
 */
export async function connectRelay(
  url: RelayUrl,
  options: ConnectOptions,
): Promise<RelayConnection> {
  const { timeoutMs, signal } = options;
  const timeout = new RelayError('timeout', `${url} did not open within ${timeoutMs} ms`);
  try {
    return await withDeadline({ timeoutMs, timeout, signal }, async (ended) => {
      const socket = new WebSocket(url, {
        ...(await webSocketTransport(url, options, ended)),
        perMessageDeflate: false,
        followRedirects: false,
        maxPayload: options.maxMessageBytes ?? MAX_MESSAGE_BYTES,
        headers: { 'user-agent': 'bigbrotr' },
      });
      const connection = new RelayConnection(url, socket, options);
      await opened(socket, url, ended);
      return connection;
    });
  } catch (error) {
    throw await attributed(asRelayError(error, url, signal), url, options);
  }
}

async function attributed(
  error: RelayError,
  url: RelayUrl,
  options: ConnectOptions,
): Promise<RelayError> {
  const reason = await attributeFailure(url, error.reason, options);
  if (reason === error.reason) return error;
  const what = reason === 'network_down' ? 'our own network' : 'Tor';
  return new RelayError(reason, `${url}: ${what} does not work`);
}

function opened(socket: WebSocket, url: RelayUrl, ended: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (error: RelayError) => {
      settle();
      socket.terminate();
      reject(error);
    };
    const onAbort = () => fail(asRelayError(ended.reason, url));
    const onError = (error: Error) => fail(asRelayError(error, url));
    const onRefused = (_request: ClientRequest, response: IncomingMessage) =>
      fail(refusedUpgrade(url, response));
    const onOpen = () => {
      settle();
      resolve();
    };
    const settle = () => {
      ended.removeEventListener('abort', onAbort);
      socket.off('error', onError).off('open', onOpen).off('unexpected-response', onRefused);
    };
    socket.once('open', onOpen).once('error', onError).once('unexpected-response', onRefused);
    ended.addEventListener('abort', onAbort, { once: true });
    if (ended.aborted) onAbort();
  });
}

/** The server answered the upgrade with an HTTP status, and perhaps `Retry-After`. */
function refusedUpgrade(url: RelayUrl, { statusCode, headers }: IncomingMessage): RelayError {
  return new RelayError(
    `http_${statusCode ?? 0}`,
    `${url}: the upgrade was answered with status ${statusCode}`,
    retryAfterSeconds(headers['retry-after']),
  );
}
