import { isIP, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { type buildConnector, Client, type Dispatcher } from 'undici';
import { forbiddenHost, guardedLookup } from './address.ts';
import { asRelayError, RelayError } from './connection.ts';
import { dial } from './dial.ts';
import { retryAfterSeconds } from './retry-after.ts';
import { connectThroughTor, type TorProxy } from './tor.ts';
import { networkOf, type RelayUrl } from './url.ts';

/** HTTP GET as strangers' servers deserve it: the address guard of the WebSocket, one redirect, bounded bodies. */

const MAX_REDIRECTS = 1;

export interface HttpGetOptions {
  /** Deadline for the whole visit, redirect included, in milliseconds. */
  readonly timeoutMs: number;
  /** Connects to loopback and private addresses too: for test networks only. */
  readonly allowPrivate: boolean;
  /** Where `.onion` names are resolved and reached; null when there is no Tor. */
  readonly torProxy: TorProxy | null;
  /** Certificates trusted instead of the system's, as PEM: for tests with an authority of their own. */
  readonly ca?: string;
}

/** Reads an answer of status 200, or of 304 where validators were sent. */
export type ReadAnswer<T> = (address: URL, response: Dispatcher.ResponseData) => Promise<T>;

/**
 * Asks a URL, and the one that it redirects to on the same host. Each has its own connection, which is gone when it
 * has been read.
 *
 * @param url with the scheme `ws` for http and `wss` for https
 * @param headers `accept`, and validators of RFC 9110 section 13
 * @param signal ends every step: it is the deadline too
 * @throws RelayError or what the socket failed with; `reasonOf` has a word for it
 */
export async function httpGet<T>(
  url: RelayUrl,
  headers: Readonly<Record<string, string>>,
  options: HttpGetOptions,
  signal: AbortSignal,
  read: ReadAnswer<T>,
): Promise<T> {
  const connect = connector(url, options, signal);
  let address = new URL(url.replace(/^ws/, 'http'));
  for (let redirects = 0; ; redirects += 1) {
    const answer = await get(address, connect, headers, signal, read);
    if ('read' in answer) return answer.read;
    if (redirects >= MAX_REDIRECTS)
      throw new RelayError('redirect', `${url} redirects more than once`);
    address = redirectTarget(address, answer.location);
  }
}

/** Another host, another port or a step back from TLS would let a relay send us wherever it likes. */
function redirectTarget(from: URL, location: string): URL {
  const to = URL.canParse(location, from.href) ? new URL(location, from) : null;
  const isUpgrade =
    from.protocol === 'http:' && to?.protocol === 'https:' && from.port === '' && to.port === '';
  if (to?.hostname !== from.hostname || !(to.origin === from.origin || isUpgrade)) {
    throw new RelayError('redirect', `${from.href} redirects to another host, port or scheme`);
  }
  return to;
}

async function get<T>(
  address: URL,
  connect: buildConnector.connector,
  headers: Readonly<Record<string, string>>,
  signal: AbortSignal,
  read: ReadAnswer<T>,
): Promise<{ read: T } | { location: string }> {
  // undici's own timers are off: the signal is the deadline, and one for all steps.
  const client = new Client(address.origin, { connect, headersTimeout: 0, bodyTimeout: 0 });
  try {
    const response = await client.request({
      path: address.pathname + address.search,
      method: 'GET',
      headers: { 'accept-encoding': 'identity', 'user-agent': 'bigbrotr', ...headers },
      signal,
    });
    response.body.on('error', () => {}); // a body that is not read to its end reports that as an error
    const { statusCode } = response;
    const { location } = response.headers;
    const isKept =
      statusCode === 304 && ('if-none-match' in headers || 'if-modified-since' in headers);
    if (!isKept && statusCode >= 301 && statusCode <= 308 && typeof location === 'string')
      return { location };
    if (!isKept && statusCode !== 200) throw refusedGet(address, response);
    return { read: await read(address, response) };
  } finally {
    await client.destroy();
  }
}

function refusedGet(address: URL, { statusCode, headers }: Dispatcher.ResponseData): RelayError {
  return new RelayError(
    `http_${statusCode}`,
    `${address.href} answers ${statusCode}`,
    retryAfterSeconds(headers['retry-after']),
  );
}

/** The body as it came. @throws RelayError `too_large` above so many bytes */
export async function readBody(
  address: URL,
  { body }: Dispatcher.ResponseData,
  maxBytes: number,
): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body) {
    size += chunk.length;
    if (size > maxBytes) throw tooLarge(address, maxBytes);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

export function tooLarge(address: URL, maxBytes: number): RelayError {
  return new RelayError('too_large', `${address.href} answers with more than ${maxBytes} bytes`);
}

/** Why a GET failed, in one stable word. */
export function reasonOf(error: unknown, url: RelayUrl): string {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return code === 'UND_ERR_SOCKET' ? 'reset' : asRelayError(error, url).reason;
}

/**
 * Opens the sockets for undici, which leaves a connecting one alone when the client is destroyed: here the signal
 * ends every step. TLS begins only when TCP or SOCKS is through, so that each failure carries its own code.
 */
function connector(
  url: RelayUrl,
  options: HttpGetOptions,
  signal: AbortSignal,
): buildConnector.connector {
  const open = transport(url, options, signal);
  return ({ hostname, port, protocol }, callback) => {
    const host = hostname.replace(/^\[|\]$/g, '');
    const secure = protocol === 'https:';
    open(host, Number(port) || (secure ? 443 : 80))
      .then((socket) => (secure ? withTls(socket, host, options.ca, signal) : socket))
      .then(
        (socket) => callback(null, socket),
        (error: Error) => callback(error, null),
      );
  };
}

type OpenSocket = (host: string, port: number) => Promise<Socket>;

function transport(url: RelayUrl, options: HttpGetOptions, signal: AbortSignal): OpenSocket {
  const { allowPrivate, torProxy } = options;
  const network = networkOf(url);
  if (network === 'tor' && torProxy)
    return (host, port) =>
      connectThroughTor(torProxy, { host, port, user: url }, options.timeoutMs, signal);
  if (network !== 'clearnet') {
    throw new RelayError(
      'no_proxy',
      `${url} is on ${network}, and there is no proxy for that network`,
    );
  }
  // The lookup guards names; node:net never calls it for address literals, so those are judged here.
  const forbidden = allowPrivate ? null : forbiddenHost(url);
  if (forbidden) throw new RelayError('forbidden', `${url} is never connected to: ${forbidden}`);
  const lookup = guardedLookup(allowPrivate);
  return (host, port) => dial({ host, port, lookup, timeoutMs: options.timeoutMs, signal });
}

/** Certificates are checked against the name; an address literal has no server name to send (RFC 6066). */
function withTls(
  plain: Socket,
  host: string,
  ca: string | undefined,
  signal: AbortSignal,
): Promise<Socket> {
  const socket = connectTls({
    socket: plain, // destroyed with the TLS socket
    host,
    ALPNProtocols: ['http/1.1'],
    ...(isIP(host) === 0 && { servername: host }),
    ...(ca !== undefined && { ca }),
  });
  return secured(socket, signal);
}

/** Waits for a TLS socket; one that fails, closes or is no longer wanted is destroyed. */
function secured(socket: Socket, signal: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const fail = (error: Error) => {
      settle();
      socket.on('error', () => {}); // what a destroyed socket still reports is of no use
      socket.destroy();
      reject(error);
    };
    const onAbort = () => fail(new RelayError('aborted', 'connecting was stopped'));
    const onClose = () =>
      fail(new RelayError('reset', 'the connection was closed before it was ready'));
    const onReady = () => {
      settle();
      resolve(socket);
    };
    const settle = () => {
      socket.off('secureConnect', onReady).off('error', fail).off('close', onClose);
      signal.removeEventListener('abort', onAbort);
    };
    socket.once('secureConnect', onReady).once('error', fail).once('close', onClose);
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
  });
}
