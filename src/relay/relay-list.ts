import type { Dispatcher } from 'undici';
import { RelayError } from './connection.ts';
import { type HttpGetOptions, httpGet, readBody, reasonOf } from './http-get.ts';
import { retryAfterOf } from './relay-error.ts';
import type { RelayUrl } from './url.ts';

/** Lists of relays that others publish over HTTP, in whatever form. */

/** The largest list taken, in bytes: all relays ever seen in the wild are 300 KB as text. */
export const MAX_LIST_BYTES = 4 * 1024 * 1024;
/** Names taken of one list. */
const MAX_LISTED = 20_000;
/** Values of a JSON document that are looked at. */
const MAX_VALUES = 1_000_000;

const ACCEPT = 'application/json, text/plain;q=0.9, */*;q=0.1';
const WEB_SOCKET_URL = /^\s*wss?:\/\//i;
/** In plain text, and in HTML or Markdown, which are text too. */
const IN_TEXT = /wss?:\/\/[^\s"'<>()[\]{}|\\,;`]+/gi;

export type FetchedList =
  | { ok: true; names: string[] }
  /** `retryAfterSeconds`: how long the server asked to be left alone (`Retry-After`), where it did. */
  | { ok: false; reason: string; retryAfterSeconds?: number };

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
  options: HttpGetOptions & { readonly signal?: AbortSignal },
): Promise<FetchedList> {
  options.signal?.throwIfAborted();
  const deadline = AbortSignal.timeout(options.timeoutMs);
  const signal = options.signal ? AbortSignal.any([options.signal, deadline]) : deadline;
  try {
    const body = await httpGet(url, { accept: ACCEPT }, options, signal, readList);
    return { ok: true, names: listedNames(body) };
  } catch (error) {
    options.signal?.throwIfAborted();
    const reason = deadline.aborted ? 'timeout' : reasonOf(error, url);
    const seconds = retryAfterOf(error);
    return { ok: false, reason, ...(seconds !== null && { retryAfterSeconds: seconds }) };
  }
}

async function readList(address: URL, response: Dispatcher.ResponseData): Promise<string> {
  if ((response.headers['content-encoding'] ?? 'identity') !== 'identity')
    throw new RelayError('encoding', `${address.href} answers in an encoding not asked for`);
  return new TextDecoder().decode(await readBody(address, response, MAX_LIST_BYTES));
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
    names.add(withoutEnd(text)); // the sentence around it
  }
  return names;
}

/** Not by `/[.:!?*_]+$/`, which takes hours for four megabytes of dots. */
function withoutEnd(text: string): string {
  let end = text.length;
  while (end > 0 && '.:!?*_'.includes(text.charAt(end - 1))) end -= 1;
  return text.slice(0, end);
}
