import { promisify } from 'node:util';
import { brotliDecompress, gunzip, inflate } from 'node:zlib';
import type { Dispatcher } from 'undici';
import { type Nip11Document, parseNip11 } from '../nostr/nip11.ts';
import { RelayError } from './connection.ts';
import { deadline } from './deadline.ts';
import {
  type HttpCaching,
  readCaching,
  type Validators,
  validatorHeaders,
} from './http-caching.ts';
import { type HttpGetOptions, httpGet, readBody, reasonOf, tooLarge } from './http-get.ts';
import { retryAfterOf } from './relay-error.ts';
import type { RelayUrl } from './url.ts';

/** Largest document taken, in bytes, before and after decompression. */
export const MAX_NIP11_BYTES = 256 * 1024;

export interface Nip11FetchOptions extends HttpGetOptions {
  readonly signal?: AbortSignal;
  /** Those of a document that is held already: it is not sent again while it is the same (RFC 9110 section 13). */
  readonly validators?: Validators;
}

export type Nip11FetchResult =
  /** `raw` is the body as it came, `dropped` as `parseNip11` counts. */
  | { ok: true; document: Nip11Document; dropped: number; raw: string; caching: HttpCaching }
  /** The document that is held already is still the one. */
  | { ok: true; document: null; caching: HttpCaching }
  /** One stable word, see `fetchNip11`. */
  | {
      ok: false;
      reason: string;
      /** How long the server asked to be left alone (`Retry-After`), in seconds, where it did. */
      retryAfterSeconds?: number;
    };

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
  const cancel = deadline(options.timeoutMs, () => visit.abort(timeout));
  const onAbort = () => visit.abort(options.signal?.reason);
  options.signal?.addEventListener('abort', onAbort, { once: true });
  try {
    const headers = { accept: 'application/nostr+json', ...validatorHeaders(options.validators) };
    const { body, caching } = await httpGet(url, headers, options, visit.signal, readDocument);
    if (body === null) return { ok: true, document: null, caching };
    const parsed = parseNip11(body);
    return parsed.ok ? { ...parsed, raw: body, caching } : parsed;
  } catch (error) {
    options.signal?.throwIfAborted();
    const reason = visit.signal.aborted ? timeout.reason : reasonOf(error, url);
    const seconds = retryAfterOf(error);
    return { ok: false, reason, ...(seconds !== null && { retryAfterSeconds: seconds }) };
  } finally {
    cancel();
    options.signal?.removeEventListener('abort', onAbort);
  }
}

/** `body` is null when the one that is held already is still the same. */
interface Document {
  readonly body: string | null;
  readonly caching: HttpCaching;
}

async function readDocument(address: URL, response: Dispatcher.ResponseData): Promise<Document> {
  const { headers } = response;
  if (response.statusCode === 304) return { body: null, caching: readCaching(headers) };
  const sent = await readBody(address, response, MAX_NIP11_BYTES);
  const bytes = await decode(sent, headers['content-encoding'], address);
  return { body: new TextDecoder().decode(bytes), caching: readCaching(headers) };
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
    if (error instanceof RangeError) throw tooLarge(address, MAX_NIP11_BYTES);
    throw new RelayError(
      'encoding',
      `${address.href} answers with a body that does not decompress`,
    );
  }
}
