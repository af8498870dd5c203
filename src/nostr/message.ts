import { MAX_TAG_STRINGS, MAX_TAGS } from './event.ts';
import { readEventFrame } from './event-text.ts';
import { type FilterRefusal, filterRefusalOf } from './filter-refusal.ts';

/** A message of a relay (NIP-01, NIP-42, NIP-45, NIP-67, NIP-77). Anything else is `INVALID` with its reason. */
export type RelayMessage =
  | { type: 'EVENT'; subscription: string; event: unknown }
  | { type: 'EOSE'; subscription: string; hint: EoseHint | null }
  | { type: 'CLOSED'; subscription: string; text: string }
  | { type: 'NOTICE'; text: string }
  | { type: 'OK'; id: string; accepted: boolean; text: string }
  | { type: 'AUTH'; challenge: string }
  | { type: 'COUNT'; subscription: string; count: number }
  | { type: 'NEG-MSG'; subscription: string; payload: string }
  | { type: 'NEG-ERR'; subscription: string; text: string }
  | { type: 'INVALID'; reason: 'not_json' | 'not_a_message' | 'too_many_elements' };

/** Hint in an EOSE (NIP-67): everything was sent, or there is more. */
export type EoseHint = 'finish' | 'more';

const NOT_A_MESSAGE = { type: 'INVALID', reason: 'not_a_message' } as const;
/** Messages above this length, in characters, are scanned before parsing: `[],` becomes forty bytes once parsed. */
const SCANNED_ABOVE = 128 * 1024;
/** More elements than the largest accepted event has: its tags, all their strings, and a few around them. */
const MAX_ELEMENTS = MAX_TAGS + MAX_TAG_STRINGS + 100;

/**
 * Parses one text frame of a relay.
 *
 * @returns the message; never throws. JSON too deep for the parser is `not_json`.
 */
export function parseRelayMessage(data: string): RelayMessage {
  if (data.length > SCANNED_ABOVE && hasTooManyElements(data))
    return { type: 'INVALID', reason: 'too_many_elements' };
  let message: unknown;
  try {
    message = JSON.parse(data);
  } catch {
    return { type: 'INVALID', reason: 'not_json' };
  }
  return Array.isArray(message) ? parseMessageArray(message) : NOT_A_MESSAGE;
}

/** The same; an event in the usual form is an `EventText`, not parsed. */
export function readRelayMessage(data: string): RelayMessage {
  const frame = readEventFrame(data);
  return frame === null ? parseRelayMessage(data) : { type: 'EVENT', ...frame };
}

const [QUOTE, BACKSLASH, COMMA, BRACKET, BRACE] = [0x22, 0x5c, 0x2c, 0x5b, 0x7b];

/** Counts what begins an element, outside of strings. The result is irrelevant for text that is not JSON. */
function hasTooManyElements(data: string): boolean {
  let elements = 0;
  let isInString = false;
  for (let index = 0; index < data.length; index += 1) {
    const code = data.charCodeAt(index);
    if (code === QUOTE) isInString = !isInString;
    else if (isInString) index += code === BACKSLASH ? 1 : 0;
    else if (code === COMMA || code === BRACKET || code === BRACE) elements += 1;
    if (elements > MAX_ELEMENTS) return true;
  }
  return false;
}

function parseMessageArray(message: unknown[]): RelayMessage {
  const [type, first, second, third] = message;
  if (typeof first !== 'string') return NOT_A_MESSAGE;
  switch (type) {
    case 'EVENT':
      return { type, subscription: first, event: second };
    case 'EOSE':
      return { type, subscription: first, hint: eoseHint(second) };
    case 'CLOSED':
    case 'NEG-ERR':
      return { type, subscription: first, text: asText(second) };
    case 'COUNT': {
      const count = countOf(second);
      return count === null ? NOT_A_MESSAGE : { type, subscription: first, count };
    }
    case 'NEG-MSG':
      if (typeof second !== 'string') return NOT_A_MESSAGE;
      return { type, subscription: first, payload: second };
    case 'OK':
      return { type, id: first, accepted: second === true, text: asText(third) };
    case 'NOTICE':
      return { type, text: asText(first) };
    case 'AUTH':
      return { type, challenge: first };
    default:
      return NOT_A_MESSAGE;
  }
}

function countOf(answer: unknown): number | null {
  if (typeof answer !== 'object' || answer === null || !('count' in answer)) return null;
  const { count } = answer;
  return typeof count === 'number' && Number.isSafeInteger(count) && count >= 0 ? count : null;
}

/** NIP-67 defines an array of hints; its first drafts had the bare word. Contradicting hints count as none. */
function eoseHint(value: unknown): EoseHint | null {
  const hints = Array.isArray(value) ? value : [value];
  const finish = hints.includes('finish');
  const more = hints.includes('more');
  if (finish === more) return null;
  return finish ? 'finish' : 'more';
}

const MAX_TEXT_LENGTH = 500;

function asText(value: unknown): string {
  return typeof value === 'string' ? plainText(value) : '';
}

/**
 * Makes free text of a relay fit for logs and rows: at most 500 characters, without control characters and lone
 * surrogates, since PostgreSQL refuses NUL (SQLSTATE 22021).
 */
export function plainText(text: string): string {
  return text.slice(0, MAX_TEXT_LENGTH).replace(/[\p{Cc}\p{Surrogate}]/gu, '\u{fffd}');
}

/** Refusals of the client, whatever it requests: they end a visit (NIP-01, NIP-42). */
export const CLIENT_REFUSALS = ['rate_limited', 'auth_required', 'restricted', 'blocked'] as const;
export type ClientRefusal = (typeof CLIENT_REFUSALS)[number];

/** Why a relay refuses: the machine-readable prefixes of NIP-01 and NIP-42, and what relays write in free text. */
export type Refusal = ClientRefusal | 'limit' | FilterRefusal | 'other';

/** Why a relay does not take an event. `rejected`: for no reason that is known. */
export type EventRefusal = ClientRefusal | 'limit' | 'pow' | 'invalid' | 'error' | 'rejected';

const CLIENT_REFUSAL_SET: ReadonlySet<string | null> = new Set(CLIENT_REFUSALS);

/** Whether this reason of `refusalOf` concerns the client, and not its request. */
export function isClientRefusal(reason: string | null): reason is ClientRefusal {
  return CLIENT_REFUSAL_SET.has(reason);
}

/** The machine-readable prefixes; some relays put `ERROR:` before them. */
const PREFIX = /^\s*(?:error:\s*)?(rate-limited|auth-required|restricted|blocked):/i;

/** Free text, tried in this order: "rate limit exceeded" is not about `limit`. */
const REFUSALS: readonly (readonly [ClientRefusal | 'limit', RegExp])[] = [
  [
    'rate_limited',
    /rate.?limit|\btoo (many|fast|frequent)|slow(ing)? down|concurrent|quota|throttl|subscriptions?\b.*\b(limit|maximum|reached)/i,
  ],
  [
    'auth_required',
    /\bauth(enticat(e|ed|ion)|orization)?\b.*\brequired\b|\brequires?\b.*\bauth|\b(un|not )authenticated|\b(must|please|need to) (be )?auth|\bnip-?42\b/i,
  ],
  [
    'restricted',
    /\bpayment\b.*\brequired|\brequires?\b.*\bpayment|\bpaid (relay|member|user|subscri)|\bpay (to|for|on)\b|\bnot (allowed|authori[sz]ed|permitted|admitted|whitelisted|on (the |our )?white.?list)|unauthori[sz]ed|members? only|subscription required|\b(access|permission) denied/i,
  ],
  ['blocked', /\bblocked\b|\bbanned?\b|forbidden|blacklisted/i],
  [
    'limit',
    /\blimit\b.*(above|exceed|greater|large|high|big|too|max|must|at most|over|less)|max(imum)?[ _]limit|exceed\w* .*\blimit\b/i,
  ],
];

/**
 * Names the refusal in the text of a CLOSED, NOTICE or NEG-ERR. NOTICE carries no subscription id, so its text is all
 * there is. What the text says about the filter takes precedence over the prefixes `blocked:` and `restricted:`.
 */
export function refusalOf(text: string): Refusal {
  const prefix = prefixOf(text);
  const isOfClient = prefix === 'rate_limited' || prefix === 'auth_required';
  const filterRefusal = isOfClient ? null : filterRefusalOf(text);
  if (filterRefusal) return filterRefusal;
  return prefix ?? refusalInWords(text) ?? 'other';
}

/** The same for the text of an OK or NOTICE about an event that was published; null where it names no refusal. */
export function eventRefusalOf(text: string): ClientRefusal | 'limit' | null {
  return prefixOf(text) ?? refusalInWords(text);
}

/**
 * Reads the relay's OK for an event (NIP-01). `duplicate:` and `mute:` count as accepted even with false: the second is
 * what a relay answers to an ephemeral event that passed its rules while no client was subscribed.
 *
 * @returns null when the relay takes the event, else why not
 */
export function refusalOfOk(accepted: boolean, text: string): EventRefusal | null {
  if (accepted) return null;
  const prefix = /^(duplicate|mute|pow|invalid|error):/.exec(text)?.[1];
  if (prefix === 'duplicate' || prefix === 'mute') return null;
  if (prefix === 'pow' || prefix === 'invalid' || prefix === 'error') return prefix;
  return eventRefusalOf(text) ?? 'rejected';
}

function prefixOf(text: string): ClientRefusal | null {
  const prefix = PREFIX.exec(text)?.[1]?.toLowerCase().replace('-', '_') ?? null;
  return isClientRefusal(prefix) ? prefix : null;
}

function refusalInWords(text: string): ClientRefusal | 'limit' | null {
  return REFUSALS.find(([, pattern]) => pattern.test(text))?.[0] ?? null;
}

/** Messages that answer no request of ours, by reason. */
export type UnusableMessage =
  | Extract<RelayMessage, { type: 'INVALID' }>['reason']
  | 'wrong_subscription';
