import type { ClientRequest, IncomingHttpHeaders, IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { WebSocket } from 'ws';
import { plainText } from '../nostr/message.ts';
import { ByteBudget } from './byte-budget.ts';
import { deadline } from './deadline.ts';
import { asRelayError, RelayError } from './relay-error.ts';
import { retryAfterSeconds } from './retry-after.ts';
import { blame, type TorProxy } from './tor.ts';
import { transport } from './transport.ts';
import type { RelayUrl } from './url.ts';
import type { UselessAccount, UselessShare } from './useless-share.ts';

export { asRelayError, RelayError } from './relay-error.ts';
export type { TorProxy } from './tor.ts';

/** Largest frame taken from a relay, in bytes. Events of 4 MB exist; a frame above this ends the connection. */
export const MAX_MESSAGE_BYTES = 8 * 1024 * 1024;

/** Of a frame of a server that is short (RFC 6455 section 5.2). */
const FRAME_HEAD_BYTES = 2;
/** What ws says of such a frame. */
const OVERSIZED = 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH';

export interface ConnectOptions {
  /** Deadline for name, TCP, TLS and upgrade together, in milliseconds. */
  readonly timeoutMs: number;
  /** Connects to loopback and private addresses too: for test networks only. */
  readonly allowPrivate: boolean;
  /** Where `.onion` names are resolved and reached; null when there is no Tor. */
  readonly torProxy: TorProxy | null;
  readonly maxMessageBytes?: number;
  /** Makes relays wait that send much of no use; shared by the connections of a thread. Without it none waits. */
  readonly useless?: UselessShare;
  /** Bounds what all connections of a thread hold of events that were not looked at yet. Without it only each one is. */
  readonly inFlight?: ByteBudget;
  readonly signal?: AbortSignal;
  /** Certificates trusted instead of the system's, as PEM: for tests with an authority of their own. */
  readonly ca?: string;
}

/** What the relay's side of the handshake showed: its headers, and the socket with its address and certificate. */
export interface Upgrade {
  readonly headers: IncomingHttpHeaders;
  readonly socket: Socket;
}

export interface Closed {
  readonly code: number;
  readonly reason: string;
  /** Whether we ended it because of a frame larger than we take. */
  readonly oversized: boolean;
}

/**
 * One WebSocket to a relay. It can be paused, so that a full pipeline stops the sender (backpressure), and reads
 * nothing before somebody listens: relays send their NIP-42 challenge in one packet with the upgrade.
 */
export class RelayConnection {
  readonly url: RelayUrl;
  /** Settles once, when the socket is gone, whoever closed it. Never rejects. */
  readonly closed: Promise<Closed>;
  /** Bytes of all text frames so far. */
  bytesReceived = 0;
  /** Frames that no relay message fits: binary ones. */
  binaryFrames = 0;
  /** Null before the relay has accepted the upgrade. */
  upgrade: Upgrade | null = null;
  readonly #socket: WebSocket;
  readonly #handlers = new Set<(data: string) => void>();
  readonly #closedHandlers = new Set<(closed: Closed) => void>();
  /** Of events that wait to be looked at; shared with other connections of the thread, as far as that was told. */
  readonly inFlight: ByteBudget;
  readonly #account: UselessAccount | undefined;
  readonly #heldHandlers = new Set<() => void>();
  readonly #flowHandlers = new Set<() => void>();
  /** Those that have more than they can hand on: it is read again when none is left. */
  readonly #pausedBy = new Set<object>();
  #wasHeard = false;
  #keptAlive = false;
  #held: NodeJS.Timeout | null = null;

  /** @param socket before it is open: what goes wrong in its first moment is an error that nobody else hears */
  constructor(
    url: RelayUrl,
    socket: WebSocket,
    { useless, inFlight }: Pick<ConnectOptions, 'useless' | 'inFlight'> = {},
  ) {
    this.url = url;
    this.#socket = socket;
    this.#account = useless?.open();
    this.inFlight = inFlight ?? new ByteBudget(Number.POSITIVE_INFINITY);
    let lastError: (Error & { code?: string }) | undefined;
    socket.on('error', (error) => {
      lastError = error;
    });
    socket.once('upgrade', ({ headers, socket: transport }) => {
      this.upgrade = { headers, socket: transport };
    });
    socket.once('open', () => {
      if (!this.#wasHeard) socket.pause();
    });
    socket.on('message', (data: Buffer, isBinary) => this.#receive(data, isBinary));
    for (const control of ['ping', 'pong'] as const)
      socket.on(control, ({ length }: Buffer) => this.noteUseless(FRAME_HEAD_BYTES + length));
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
      this.noteUseless(data.length); // nobody else hears of it
      return;
    }
    const text = data.toString('utf8');
    for (const handler of this.#handlers) handler(text);
  }

  get isOpen(): boolean {
    return this.#socket.readyState === WebSocket.OPEN;
  }

  /** Sends one client message. On a connection that is gone it does nothing: `closed` tells. */
  send(message: readonly unknown[]): void {
    if (this.isOpen) this.#socket.send(JSON.stringify(message), () => {});
  }

  /** Calls the handler with each text frame. @returns a function that stops it. */
  onMessage(handler: (data: string) => void): () => void {
    this.#handlers.add(handler);
    if (!this.#wasHeard) {
      this.#wasHeard = true;
      if (!this.isPausedByUs) this.#socket.resume();
    }
    return () => this.#handlers.delete(handler);
  }

  /**
   * Calls the handler once the socket is gone, soon when it is so already. For those who wait shorter than the
   * connection lives: `closed.then()` would hold them until its end. @returns a function that stops it.
   */
  onClosed(handler: (closed: Closed) => void): () => void {
    if (this.#socket.readyState === WebSocket.CLOSED) void this.closed.then(handler);
    else this.#closedHandlers.add(handler);
    return () => this.#closedHandlers.delete(handler);
  }

  /** Stops reading from the socket; TCP then stops the relay. It is read again when all that paused it have resumed. */
  pause(by: object = this): void {
    const wasPaused = this.isPausedByReader;
    this.#pausedBy.add(by);
    this.#socket.pause();
    if (!wasPaused) this.#tellFlow();
  }

  resume(by: object = this): void {
    const wasPaused = this.isPausedByReader;
    this.#pausedBy.delete(by);
    if (!this.isPausedByUs) this.#socket.resume();
    if (wasPaused && !this.isPausedByReader) this.#tellFlow();
  }

  /** Whether we do not read from the relay, for whatever reason: its answer may lie in the socket. */
  get isPausedByUs(): boolean {
    return this.isPausedByReader || this.isHeld;
  }

  /** Whether we do not read from the relay because what it has sent is not handed on yet. */
  get isPausedByReader(): boolean {
    return this.#pausedBy.size > 0;
  }

  /** Calls the handler whenever reading begins or ends, by readers or because the relay is held. @returns a function that stops it */
  onFlow(handler: () => void): () => void {
    this.#flowHandlers.add(handler);
    return () => this.#flowHandlers.delete(handler);
  }

  #tellFlow(): void {
    for (const handler of [...this.#flowHandlers]) handler();
  }

  /** Whether the relay is not read from for a while, because much of what it sent was of no use. */
  get isHeld(): boolean {
    return this.#held !== null;
  }

  /** Calls the handler whenever the relay begins to be held, and whenever that ends. @returns a function that stops it */
  onHeld(handler: () => void): () => void {
    this.#heldHandlers.add(handler);
    return () => this.#heldHandlers.delete(handler);
  }

  /** Notes bytes that were of no use to anybody. With many of them nothing more is read for a while. */
  noteUseless(bytes: number): void {
    const waitMs = this.#account?.spend(bytes) ?? 0;
    if (waitMs === 0) return;
    if (!this.isOpen) {
      this.#account?.release();
      return;
    }
    this.#socket.pause();
    this.#held = setTimeout(() => this.#release(), waitMs);
    for (const handler of this.#heldHandlers) handler();
    this.#tellFlow();
  }

  #release(): void {
    this.#account?.release();
    if (this.#held === null) return;
    clearTimeout(this.#held);
    this.#held = null;
    if (!this.isPausedByReader) this.#socket.resume();
    for (const handler of this.#heldHandlers) handler();
    this.#tellFlow();
  }

  /**
   * Pings the relay at this interval and cuts the socket when a ping is not answered before the next: so that a
   * connection that is only half there is noticed (RFC 6455 section 5.5.2). Once begun it goes on to the end.
   */
  keepAlive(intervalMs: number): void {
    if (this.#keptAlive) return;
    this.#keptAlive = true;
    let answered = true;
    this.#socket.on('pong', () => {
      answered = true;
    });
    let cancel: () => void;
    const wait = () => {
      cancel = deadline(intervalMs, () => {
        const reads = !this.isPausedByUs; // else a pong may have come that we do not see
        if (!answered && reads) this.#socket.terminate();
        else if (this.isOpen) this.#socket.ping();
        answered = !reads;
        wait();
      });
    };
    wait();
    // A pong may lie behind all that came while nobody read: the time for it begins anew.
    const stopWatching = this.onFlow(() => {
      cancel();
      wait();
    });
    void this.closed.then(() => {
      stopWatching();
      cancel();
    });
  }

  /** Closes politely, and cuts the socket when the relay has not answered the close within a second. */
  close(): void {
    if (this.#socket.readyState === WebSocket.CLOSED) return;
    this.#pausedBy.clear();
    this.#release();
    this.#socket.resume(); // a paused socket would never see the relay's close frame
    this.#socket.close(1000);
    const cut = setTimeout(() => this.#socket.terminate(), 1000);
    void this.closed.then(() => clearTimeout(cut));
  }
}

/**
 * Opens a WebSocket to a relay: `.onion` through the SOCKS5 proxy with the name resolved there, everything
 * else directly and only to addresses that the guard allows. Compression is off (a 92 KB bomb inflates to
 * 94 MB with the defaults of ws), redirects are not followed.
 *
 * @throws RelayError with reason `forbidden`, `no_proxy`, `timeout`, `aborted`, `dns`, `refused`, `unreachable`,
 * `reset`, `tls`, `proxy_down` (Tor is at fault and not the relay, which may take as long again to find out, 20 s at most), `http_<status>` or
 * `protocol`; with `retryAfterSeconds` where the answer to the upgrade had a `Retry-After`.
 */
export async function connectRelay(
  url: RelayUrl,
  options: ConnectOptions,
): Promise<RelayConnection> {
  const { timeoutMs, signal } = options;
  const ended = new AbortController();
  const cancel = deadline(timeoutMs, () =>
    ended.abort(new RelayError('timeout', `${url} did not open within ${timeoutMs} ms`)),
  );
  const onAbort = () => ended.abort(new RelayError('aborted', `connecting to ${url} was stopped`));
  signal?.addEventListener('abort', onAbort, { once: true });
  if (signal?.aborted) onAbort();
  try {
    const socket = new WebSocket(url, {
      ...(await transport(url, options, ended.signal)),
      perMessageDeflate: false,
      followRedirects: false,
      maxPayload: options.maxMessageBytes ?? MAX_MESSAGE_BYTES,
      headers: { 'user-agent': 'bigbrotr' },
    });
    const connection = new RelayConnection(url, socket, options);
    await opened(socket, url, ended.signal);
    return connection;
  } catch (error) {
    ended.abort();
    throw await withBlame(asRelayError(error, url), url, options);
  } finally {
    cancel();
    signal?.removeEventListener('abort', onAbort);
  }
}

async function withBlame(
  error: RelayError,
  url: RelayUrl,
  options: ConnectOptions,
): Promise<RelayError> {
  const reason = await blame(url, error.reason, options);
  return reason === error.reason ? error : new RelayError(reason, `${url}: Tor does not work`);
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

/** The server answers the upgrade in HTTP: with a status, and perhaps with when to come again. */
function refusedUpgrade(url: RelayUrl, { statusCode, headers }: IncomingMessage): RelayError {
  return new RelayError(
    `http_${statusCode}`,
    `${url}: the upgrade was answered with status ${statusCode}`,
    retryAfterSeconds(headers['retry-after']),
  );
}
