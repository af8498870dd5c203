import { promisify } from 'node:util';
import { brotliDecompress, gunzip, inflate } from 'node:zlib';
import type { Dispatcher } from 'undici';
import {
  type HttpCaching,
  readCaching,
  type Validators,
  validatorHeaders,
} from '../../network/http-caching.ts';
import {
  type HttpGetFailure,
  type HttpGetOptions,
  httpGet,
  readBody,
  tooLarge,
} from '../../network/http-get.ts';
import { RelayError } from '../../network/relay-error.ts';
import type { RelayUrl } from '../../network/url.ts';
import { type Nip11Document, type Nip11Failure, parseNip11 } from '../../nostr/nip11.ts';

/** Maximum size of a document, in bytes, before and after decompression. */
export const MAX_NIP11_BYTES = 256 * 1024;

export interface Nip11FetchOptions extends HttpGetOptions {
  /** Of the stored document, for a conditional request (RFC 9110 section 13). */
  readonly validators?: Validators;
}

export type Nip11FetchResult =
  /** `raw` is the body as it was sent, `dropped` as `parseNip11` counts. */
  | { ok: true; document: Nip11Document; dropped: number; raw: string; caching: HttpCaching }
  /** The stored document has not changed. */
  | { ok: true; document: null; caching: HttpCaching }
  | HttpGetFailure
  | { ok: false; reason: Nip11Failure };

/**
 * Fetches the information document of a relay (NIP-11): HTTP GET on the relay's URL, under the same address guard as the
 * WebSocket. The content type is ignored. At most one redirect is followed, on the same host only. Connections are not
 * kept alive: each relay is asked once in hours.
 *
 * @returns the document, or why there is none
 * @throws the signal's reason when it aborts, and nothing else
 */
export async function fetchNip11(
  url: RelayUrl,
  options: Nip11FetchOptions,
): Promise<Nip11FetchResult> {
  const headers = { accept: 'application/nostr+json', ...validatorHeaders(options.validators) };
  const fetched = await httpGet(url, headers, options, readDocument);
  if (!fetched.ok) return fetched;
  const { body, caching } = fetched.value;
  if (body === null) return { ok: true, document: null, caching };
  const parsed = parseNip11(body);
  return parsed.ok ? { ...parsed, raw: body, caching } : parsed;
}

/** `body` is null when the stored document has not changed. */
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

/** Some servers compress although the request does not accept it. */
async function decode(
  bytes: Buffer,
  encoding: string | string[] | undefined,
  address: URL,
): Promise<Uint8Array> {
  if (encoding === undefined || encoding === 'identity' || encoding === '') return bytes;
  const decoder = DECODERS.get(String(encoding).toLowerCase());
  if (!decoder)
    throw new RelayError('encoding', `${address.href} answers in an unsupported encoding`);
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
