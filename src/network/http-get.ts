import { type buildConnector, Client, type Dispatcher } from 'undici';
import { attributeFailure } from './attribute-failure.ts';
import { withDeadline } from './deadline.ts';
import { asRelayError, RelayError, type RelayErrorReason } from './relay-error.ts';
import { retryAfterSeconds } from './retry-after.ts';
import { addressOf, openSocket, type TransportOptions } from './transport.ts';
import { networkOf, type RelayUrl } from './url.ts';

/** HTTP GET for untrusted servers: the address guard of the WebSocket, one redirect, bounded bodies. */

const MAX_REDIRECTS = 1;

/** `timeoutMs` is the deadline for all steps, including a redirect. */
export interface HttpGetOptions extends TransportOptions {
  readonly signal?: AbortSignal;
}

export type HttpGetResult<T> = { readonly ok: true; readonly value: T } | HttpGetFailure;

export interface HttpGetFailure {
  readonly ok: false;
  readonly reason: RelayErrorReason;
  /** The pause that the server asked for (`Retry-After`), in seconds. */
  readonly retryAfterSeconds?: number;
}

/** Reads a response with status 200, or with 304 if validators were sent. */
export type ReadAnswer<T> = (address: URL, response: Dispatcher.ResponseData) => Promise<T>;

/** One request: its URL and headers, how the socket is opened, and the signal that ends every step. */
interface Exchange<T> {
  readonly url: RelayUrl;
  readonly headers: Readonly<Record<string, string>>;
  readonly options: HttpGetOptions;
  readonly signal: AbortSignal;
  readonly read: ReadAnswer<T>;
}

/**
 * Requests a URL, and follows one redirect on the same host. Each request has its own connection, which is closed when the
 * response has been read.
 *
 * @param url with the scheme `ws` for http and `wss` for https
 * @param headers `accept`, and validators of RFC 9110 section 13
 * @throws the reason of the caller's signal when that aborts, and nothing else
 */
export async function httpGet<T>(
  url: RelayUrl,
  headers: Readonly<Record<string, string>>,
  options: HttpGetOptions,
  read: ReadAnswer<T>,
): Promise<HttpGetResult<T>> {
  const { timeoutMs, signal } = options;
  signal?.throwIfAborted();
  const timeout = new RelayError('timeout', `${url} did not answer within ${timeoutMs} ms`);
  try {
    const value = await withDeadline({ timeoutMs, timeout, signal }, (ended) =>
      getRedirected({ url, headers, options, signal: ended, read }),
    );
    return { ok: true, value };
  } catch (error) {
    signal?.throwIfAborted();
    const { reason: shown, retryAfterSeconds: seconds } = relayErrorOf(error, url);
    const isDirect = networkOf(url) === 'clearnet';
    const reason = isDirect ? await attributeFailure(url, shown, options) : shown;
    return { ok: false, reason, ...(seconds !== null && { retryAfterSeconds: seconds }) };
  }
}

async function getRedirected<T>(exchange: Exchange<T>): Promise<T> {
  const { url } = exchange;
  let address = new URL(url.replace(/^ws/, 'http'));
  for (let redirects = 0; ; redirects += 1) {
    const answer = await get(address, exchange);
    if ('value' in answer) return answer.value;
    if (redirects >= MAX_REDIRECTS)
      throw new RelayError('redirect', `${url} redirects more than once`);
    address = redirectTarget(address, answer.location);
  }
}

/** A redirect to another host or port, or from https to http, is refused: it would let a relay choose the target. */
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
  { url, headers, options, signal, read }: Exchange<T>,
): Promise<{ value: T } | { location: string }> {
  // undici does not close a connecting socket when the client is destroyed: here the signal ends every step.
  const connect: buildConnector.connector = (_, callback) => {
    const tls = { ALPNProtocols: ['http/1.1'] };
    openSocket(url, options, signal, tls, addressOf(address)).then(
      (socket) => callback(null, socket),
      (error: Error) => callback(error, null),
    );
  };
  // undici's own timers are off: the signal is the deadline of all steps.
  const client = new Client(address.origin, { connect, headersTimeout: 0, bodyTimeout: 0 });
  try {
    const response = await client.request({
      path: address.pathname + address.search,
      method: 'GET',
      headers: { 'accept-encoding': 'identity', 'user-agent': 'bigbrotr', ...headers },
      signal,
    });
    response.body.on('error', () => {}); // emitted when the body is not read to its end
    const { statusCode } = response;
    const { location } = response.headers;
    const isKept =
      statusCode === 304 && ('if-none-match' in headers || 'if-modified-since' in headers);
    if (!isKept && statusCode >= 301 && statusCode <= 308 && typeof location === 'string')
      return { location };
    if (!isKept && statusCode !== 200) throw refusedGet(address, response);
    return { value: await read(address, response) };
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

/** The body as it was sent. @throws RelayError `too_large` above `maxBytes` */
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

/** undici has its own code for a connection that the server closes before it has answered. */
function relayErrorOf(error: unknown, url: RelayUrl): RelayError {
  const isReset = error instanceof Error && 'code' in error && error.code === 'UND_ERR_SOCKET';
  return isReset ? new RelayError('reset', `${url}: ${error.message}`) : asRelayError(error, url);
}
