import type { Dispatcher } from 'undici';
import {
  type HttpGetFailure,
  type HttpGetOptions,
  httpGet,
  readBody,
} from '../network/http-get.ts';
import { RelayError } from '../network/relay-error.ts';
import type { RelayUrl } from '../network/url.ts';

/** Lists of relays published over HTTP, as JSON of any shape or as text. */

/** Maximum size of a list, in bytes. The URLs of all known relays are 300 KB as text. */
export const MAX_LIST_BYTES = 4 * 1024 * 1024;
/** Maximum number of names read from one list. */
const MAX_LISTED = 20_000;
/** Maximum number of values of a JSON document that are examined. */
const MAX_VALUES = 1_000_000;

const ACCEPT = 'application/json, text/plain;q=0.9, */*;q=0.1';
const WEB_SOCKET_URL = /^\s*wss?:\/\//i;
/** A URL in plain text, HTML or Markdown. */
const IN_TEXT = /wss?:\/\/[^\s"'<>()[\]{}|\\,;`]+/gi;

export type FetchedList = { ok: true; names: string[] } | HttpGetFailure;

/**
 * Fetches a list of relays under the same limits as a NIP-11 document: address guard, one deadline for all steps, bounded
 * body, and at most one redirect, on the same host.
 *
 * @param url with the scheme `ws` for http and `wss` for https
 * @returns the names, or the reason of the failure
 * @throws the signal's reason when it aborts, and nothing else
 */
export async function fetchRelayList(url: RelayUrl, options: HttpGetOptions): Promise<FetchedList> {
  const fetched = await httpGet(url, { accept: ACCEPT }, options, readList);
  return fetched.ok ? { ok: true, names: listedNames(fetched.value) } : fetched;
}

async function readList(address: URL, response: Dispatcher.ResponseData): Promise<string> {
  if ((response.headers['content-encoding'] ?? 'identity') !== 'identity')
    throw new RelayError('encoding', `${address.href} answers in an unsupported encoding`);
  return new TextDecoder().decode(await readBody(address, response, MAX_LIST_BYTES));
}

/** The strings of a list that look like relay URLs: keys and values of a JSON document, or parts of a text. */
export function listedNames(body: string): string[] {
  const json = parseJson(body);
  const names = json === undefined ? namesInText(body) : namesInJson(json);
  return [...names];
}

/** Undefined unless the body is a JSON object or array. */
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
  const addUrl = (text: string) => {
    if (WEB_SOCKET_URL.test(text) && names.size < MAX_LISTED) names.add(text.trim());
  };
  let examined = 0;
  for (const waiting: unknown[] = [document]; waiting.length > 0 && examined < MAX_VALUES; ) {
    const value = waiting.pop();
    examined += 1;
    if (typeof value === 'string') addUrl(value);
    if (typeof value !== 'object' || value === null) continue;
    for (const [key, part] of Object.entries(value)) {
      if (!Array.isArray(value)) addUrl(key);
      waiting.push(part);
    }
  }
  return names;
}

function namesInText(body: string): Set<string> {
  const names = new Set<string>();
  for (const [text] of body.matchAll(IN_TEXT)) {
    if (names.size >= MAX_LISTED) break;
    names.add(withoutPunctuation(text));
  }
  return names;
}

/** Removes the punctuation of the sentence around a URL. `/[.:!?*_]+$/` would take hours for four megabytes of dots. */
function withoutPunctuation(text: string): string {
  let end = text.length;
  while (end > 0 && '.:!?*_'.includes(text.charAt(end - 1))) end -= 1;
  return text.slice(0, end);
}
