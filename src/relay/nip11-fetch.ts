import { connect as connectTcp, isIP, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { promisify } from 'node:util';
import { brotliDecompress, gunzip, inflate } from 'node:zlib';
import { type buildConnector, Client, type Dispatcher } from 'undici';
import { type Nip11Document, parseNip11 } from '../nostr/nip11.ts';
import { forbiddenHost, guardedLookup } from './address.ts';
import { asRelayError, RelayError } from './connection.ts';
import {
  type HttpCaching,
  readCaching,
  type Validators,
  validatorHeaders,
} from './http-caching.ts';
import { connectThroughTor, type TorProxy } from './tor.ts';
import { networkOf, type RelayUrl } from './url.ts';

/** Largest document taken, in bytes, before and after decompression. */
export const MAX_NIP11_BYTES = 256 * 1024;
const MAX_REDIRECTS = 1;

export interface Nip11FetchOptions {
  /** Deadline for the whole visit, redirect included, in milliseconds. */
  readonly timeoutMs: number;
  /** Connects to loopback and private addresses too: for test networks only. */
  readonly allowPrivate: boolean;
  /** Where `.onion` names are resolved and reached; null when there is no Tor. */
  readonly torProxy: TorProxy | null;
  readonly signal?: AbortSignal;
  /** Certificates trusted instead of the system's, as PEM: for tests with an authority of their own. */
  readonly ca?: string;
  /** Those of a document that is held already: it is not sent again while it is the same (RFC 9110 section 13). */
  readonly validators?: Validators;
}

export type Nip11FetchResult =
  /** `raw` is the body as it came, `dropped` as `parseNip11` counts. */
  | { ok: true; document: Nip11Document; dropped: number; raw: string; caching: HttpCaching }
  /** The document that is held already is still the one. */
  | { ok: true; document: null; caching: HttpCaching }
  /** One stable word, see `fetchNip11`. */
  | { ok: false; reason: string };

/**
 * Fetches the information document of a relay (NIP-11): HTTP GET on the relay's own URL, with the address guard
 * of the WebSocket. The content type is not trusted, only what parses. One redirect is followed, and only on the
 * same host. Each visit has its own connection, which is gone when the visit is over: ten thousand relays are
 * each asked once in hours, so there is nothing to keep alive.
 *
 * @returns the document, or the reason: those of `connectRelay`, `http_<status>`, `redirect`, `encoding`,
 * `too_large`, `not_json` or `not_object`.
 * @throws the signal's reason when it aborts, and nothing else.
 */
export async function fetchNip11(
  url: RelayUrl,
  options: Nip11FetchOptions,
): Promise<Nip11FetchResult> {
  options.signal?.throwIfAborted();
  const visit = new AbortController();
  const timeout = new RelayError(
    'timeout',
    `${url} gave no NIP-11 document within ${options.timeoutMs} ms`,
  );
  const timer = setTimeout(() => visit.abort(timeout), options.timeoutMs);
  const onAbort = () => visit.abort(options.signal?.reason);
  options.signal?.addEventListener('abort', onAbort, { once: true });
  try {
    const { body, caching } = await fetchBody(url, options, visit.signal);
    if (body === null) return { ok: true, document: null, caching };
    const parsed = parseNip11(body);
    return parsed.ok ? { ...parsed, raw: body, caching } : parsed;
  } catch (error) {
    options.signal?.throwIfAborted();
    return { ok: false, reason: visit.signal.aborted ? timeout.reason : reasonOf(error, url) };
  } finally {
    clearTimeout(timer);
    options.signal?.removeEventListener('abort', onAbort);
  }
}

export function reasonOf(error: unknown, url: RelayUrl): string {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return code === 'UND_ERR_SOCKET' ? 'reset' : asRelayError(error, url).reason;
}

async function fetchBody(
  url: RelayUrl,
  options: Nip11FetchOptions,
  signal: AbortSignal,
): Promise<Document> {
  const connect = connector(url, options, signal);
  const headers = validatorHeaders(options.validators);
  let address = new URL(url.replace(/^ws/, 'http'));
  for (let redirects = 0; ; redirects += 1) {
    const answer = await get(address, connect, headers, signal);
    if (!('location' in answer)) return answer;
    if (redirects >= MAX_REDIRECTS)
      throw new RelayError('redirect', `${url} redirects more than once`);
    address = redirectTarget(address, answer.location);
  }
}

/** Another host, another port or a step back from TLS would let a relay send us wherever it likes. */
export function redirectTarget(from: URL, location: string): URL {
  const to = URL.canParse(location, from.href) ? new URL(location, from) : null;
  const isUpgrade =
    from.protocol === 'http:' && to?.protocol === 'https:' && from.port === '' && to.port === '';
  if (to?.hostname !== from.hostname || !(to.origin === from.origin || isUpgrade)) {
    throw new RelayError('redirect', `${from.href} redirects to another host, port or scheme`);
  }
  return to;
}

/** `body` is null when the one that is held already is still the same. */
interface Document {
  readonly body: string | null;
  readonly caching: HttpCaching;
}

type Answer = Document | { location: string };

async function get(
  address: URL,
  connect: buildConnector.connector,
  validators: Record<string, string>,
  signal: AbortSignal,
): Promise<Answer> {
  // undici's own timers are off: the signal is the deadline, and one for all steps.
  const client = new Client(address.origin, { connect, headersTimeout: 0, bodyTimeout: 0 });
  try {
    const response = await client.request({
      path: address.pathname + address.search,
      method: 'GET',
      headers: {
        accept: 'application/nostr+json',
        'accept-encoding': 'identity',
        'user-agent': 'bigbrotr',
        ...validators,
      },
      signal,
    });
    response.body.on('error', () => {}); // a body that is not read to its end reports that as an error
    return await readAnswer(address, response, Object.keys(validators).length > 0);
  } finally {
    await client.destroy();
  }
}

async function readAnswer(
  address: URL,
  response: Dispatcher.ResponseData,
  isConditional: boolean,
): Promise<Answer> {
  const { statusCode, headers, body } = response;
  const { location } = headers;
  if (statusCode === 304 && isConditional) return { body: null, caching: readCaching(headers) };
  if (statusCode >= 301 && statusCode <= 308 && typeof location === 'string') return { location };
  if (statusCode !== 200)
    throw new RelayError(`http_${statusCode}`, `${address.href} answers ${statusCode}`);
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body) {
    size += chunk.length;
    if (size > MAX_NIP11_BYTES) throw tooLarge(address);
    chunks.push(chunk);
  }
  const bytes = await decode(Buffer.concat(chunks), headers['content-encoding'], address);
  return { body: new TextDecoder().decode(bytes), caching: readCaching(headers) };
}

function tooLarge(address: URL): RelayError {
  return new RelayError(
    'too_large',
    `${address.href} answers with more than ${MAX_NIP11_BYTES} bytes`,
  );
}

const DECODERS = new Map([
  ['gzip', promisify(gunzip)],
  ['deflate', promisify(inflate)],
  ['br', promisify(brotliDecompress)],
]);

/** We ask for no compression; some servers compress all the same. */
async function decode(
  bytes: Buffer,
  encoding: string | string[] | undefined,
  address: URL,
): Promise<Uint8Array> {
  if (encoding === undefined || encoding === 'identity' || encoding === '') return bytes;
  const decoder = DECODERS.get(String(encoding).toLowerCase());
  if (!decoder)
    throw new RelayError(
      'encoding',
      `${address.href} answers in an encoding that was not asked for`,
    );
  try {
    return await decoder(bytes, { maxOutputLength: MAX_NIP11_BYTES });
  } catch (error) {
    if (error instanceof RangeError) throw tooLarge(address);
    throw new RelayError(
      'encoding',
      `${address.href} answers with a body that does not decompress`,
    );
  }
}

/**
 * Opens the sockets for undici, which leaves a connecting one alone when the client is destroyed: here the signal
 * ends every step. TLS begins only when TCP or SOCKS is through, so that each failure carries its own code.
 */
export function connector(
  url: RelayUrl,
  options: Nip11FetchOptions,
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

function transport(url: RelayUrl, options: Nip11FetchOptions, signal: AbortSignal): OpenSocket {
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
  return (host, port) => ready(connectTcp({ host, port, lookup }), 'connect', signal);
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
  return ready(socket, 'secureConnect', signal);
}

/** Waits for a socket; one that fails, closes or is no longer wanted is destroyed. */
function ready(
  socket: Socket,
  event: 'connect' | 'secureConnect',
  signal: AbortSignal,
): Promise<Socket> {
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
      socket.off(event, onReady).off('error', fail).off('close', onClose);
      signal.removeEventListener('abort', onAbort);
    };
    socket.once(event, onReady).once('error', fail).once('close', onClose);
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
  });
}
