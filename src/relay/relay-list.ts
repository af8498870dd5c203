import { Client } from 'undici';
import { RelayError } from './connection.ts';
import { connector, type Nip11FetchOptions, reasonOf, redirectTarget } from './nip11-fetch.ts';
import type { RelayUrl } from './url.ts';

/** Lists of relays that others publish over HTTP, in whatever form. */

/** The largest list taken, in bytes: all relays ever seen in the wild are 300 KB as text. */
export const MAX_LIST_BYTES = 4 * 1024 * 1024;
/** Names taken of one list. */
const MAX_LISTED = 20_000;
/** Values of a JSON document that are looked at. */
const MAX_VALUES = 1_000_000;

const WEB_SOCKET_URL = /^\s*wss?:\/\//i;
/** In plain text, and in HTML or Markdown, which are text too. */
const IN_TEXT = /wss?:\/\/[^\s"'<>()[\]{}|\\,;`]+/gi;

export type FetchedList = { ok: true; names: string[] } | { ok: false; reason: string };

/**
 * Fetches a list of relays, under the guard of `fetchNip11`: its address guard, its deadline for all steps together, a
 * body cap, and one redirect at most, which stays on the host.
 *
 * @param url with the scheme `ws` for http and `wss` for https
 * @returns the names, or the reason: one of those of `fetchNip11`
 * @throws the signal's reason when it aborts, and nothing else.
 */
export async function fetchRelayList(
  url: RelayUrl,
  options: Nip11FetchOptions,
): Promise<FetchedList> {
  options.signal?.throwIfAborted();
  const deadline = AbortSignal.timeout(options.timeoutMs);
  const signal = options.signal ? AbortSignal.any([options.signal, deadline]) : deadline;
  try {
    const body = await fetchBody(url, options, signal);
    return { ok: true, names: listedNames(body) };
  } catch (error) {
    options.signal?.throwIfAborted();
    return { ok: false, reason: deadline.aborted ? 'timeout' : reasonOf(error, url) };
  }
}

async function fetchBody(
  url: RelayUrl,
  options: Nip11FetchOptions,
  signal: AbortSignal,
): Promise<string> {
  const connect = connector(url, options, signal);
  const first = new URL(url.replace(/^ws/, 'http'));
  const answer = await get(first, connect, signal);
  if ('body' in answer) return answer.body;
  const second = await get(redirectTarget(first, answer.location), connect, signal);
  if ('body' in second) return second.body;
  throw new RelayError('redirect', `${url} redirects more than once`);
}

async function get(
  address: URL,
  connect: ReturnType<typeof connector>,
  signal: AbortSignal,
): Promise<{ body: string } | { location: string }> {
  const client = new Client(address.origin, { connect, headersTimeout: 0, bodyTimeout: 0 });
  try {
    const { statusCode, headers, body } = await client.request({
      path: address.pathname + address.search,
      method: 'GET',
      headers: {
        accept: 'application/json, text/plain;q=0.9, */*;q=0.1',
        'accept-encoding': 'identity',
        'user-agent': 'bigbrotr',
      },
      signal,
    });
    body.on('error', () => {}); // a body that is not read to its end reports that as an error
    const { location } = headers;
    if (statusCode >= 301 && statusCode <= 308 && typeof location === 'string') return { location };
    if (statusCode !== 200)
      throw new RelayError(`http_${statusCode}`, `${address.href} answers ${statusCode}`);
    if ((headers['content-encoding'] ?? 'identity') !== 'identity')
      throw new RelayError('encoding', `${address.href} answers in an encoding not asked for`);
    const chunks: Uint8Array[] = [];
    let size = 0;
    for await (const chunk of body) {
      size += chunk.length;
      if (size > MAX_LIST_BYTES)
        throw new RelayError('too_large', `${address.href} has more than ${MAX_LIST_BYTES} bytes`);
      chunks.push(chunk);
    }
    return { body: new TextDecoder().decode(Buffer.concat(chunks)) };
  } finally {
    await client.destroy();
  }
}

/** What looks like a relay's URL in a list: every such string of a JSON document, key or value, or of a text. */
export function listedNames(body: string): string[] {
  const json = parseJson(body);
  const names = json === undefined ? namesInText(body) : namesInJson(json);
  return [...names];
}

/** Undefined for what is no JSON, and for a bare number or word. */
function parseJson(body: string): object | undefined {
  try {
    const value: unknown = JSON.parse(body);
    return typeof value === 'object' && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}

function namesInJson(document: object): Set<string> {
  const names = new Set<string>();
  const take = (text: string) => {
    if (WEB_SOCKET_URL.test(text) && names.size < MAX_LISTED) names.add(text.trim());
  };
  let looked = 0;
  for (const waiting: unknown[] = [document]; waiting.length > 0 && looked < MAX_VALUES; ) {
    const value = waiting.pop();
    looked += 1;
    if (typeof value === 'string') take(value);
    if (typeof value !== 'object' || value === null) continue;
    for (const [key, part] of Object.entries(value)) {
      if (!Array.isArray(value)) take(key);
      waiting.push(part);
    }
  }
  return names;
}

function namesInText(body: string): Set<string> {
  const names = new Set<string>();
  for (const [text] of body.matchAll(IN_TEXT)) {
    if (names.size >= MAX_LISTED) break;
    names.add(text.replace(/[.:!?*_]+$/, '')); // the sentence around it
  }
  return names;
}
