import { MAX_TAG_STRINGS, MAX_TAGS } from './event.ts';
import { type FilterRefusal, filterRefusalOf } from './filter-refusal.ts';

/** What a relay sends, parsed once (NIP-01, NIP-42, NIP-45, NIP-67, NIP-77). Anything else is `INVALID` with its reason. */
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

/** What NIP-67 lets a relay add to EOSE: everything was sent, or there is more. */
export type EoseHint = 'finish' | 'more';

const NOT_A_MESSAGE = { type: 'INVALID', reason: 'not_a_message' } as const;
/** An empty array takes three characters as text and forty bytes once parsed: longer messages are looked over before. */
const LOOKED_OVER_ABOVE = 128 * 1024;
/** More than the largest event has that is accepted: its tags, all their strings, and a few around them. */
const MAX_ELEMENTS = MAX_TAGS + MAX_TAG_STRINGS + 100;

/**
 * Parses one text frame of a relay.
 *
 * @returns the message; never throws. JSON too deep for the parser is `not_json`.
 */
export function parseRelayMessage(data: string): RelayMessage {
  if (data.length > LOOKED_OVER_ABOVE && hasTooManyElements(data))
    return { type: 'INVALID', reason: 'too_many_elements' };
  let message: unknown;
  try {
    message = JSON.parse(data);
  } catch {
    return { type: 'INVALID', reason: 'not_json' };
  }
  return Array.isArray(message) ? parseMessageArray(message) : NOT_A_MESSAGE;
}

const [QUOTE, BACKSLASH, COMMA, BRACKET, BRACE] = [0x22, 0x5c, 0x2c, 0x5b, 0x7b];

/** Counts what begins an element, outside of strings. What it says of text that is no JSON does not matter. */
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

/** NIP-67 sends an array of hints; its first drafts sent the bare word. Contradicting hints count as none. */
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
 * Text of a relay that is meant for people, made fit for logs and rows: cut to 500 characters, and without control
 * characters and lone surrogates, since a NUL breaks the statement that stores it (SQLSTATE 22021).
 */
export function plainText(text: string): string {
  return text.slice(0, MAX_TEXT_LENGTH).replace(/[\p{Cc}\p{Surrogate}]/gu, '\u{fffd}');
}

/** Why a relay refuses: the machine-readable prefixes of NIP-01 and NIP-42, and what relays say in free text. */
export type Refusal =
  | 'rate_limited'
  | 'auth_required'
  | 'restricted'
  | 'blocked'
  | 'limit'
  | FilterRefusal
  | 'other';

/** Refusals that are meant for us, whatever is asked: they end a visit. */
export type ClientRefusal = Exclude<Refusal, 'limit' | 'other' | FilterRefusal>;

/** The machine-readable prefixes; some relays put an `ERROR:` of their own before them. */
const PREFIX = /^\s*(?:error:\s*)?(rate-limited|auth-required|restricted|blocked):/i;

/** Free text, tried in this order: "rate limit exceeded" is no matter of `limit`. */
const REFUSALS: [Refusal, RegExp][] = [
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
 * there is. What is said of the filter counts for more than `blocked:` or `restricted:` before it.
 *
 * @param what was refused: of an event that was to be published, no filter is spoken of
 */
export function refusalOf(text: string, what: 'request' | 'event' = 'request'): Refusal {
  const prefix = PREFIX.exec(text)?.[1]?.toLowerCase().replace('-', '_');
  const isOfUs = prefix === 'rate_limited' || prefix === 'auth_required';
  const filterRefusal = isOfUs || what === 'event' ? null : filterRefusalOf(text);
  if (filterRefusal) return filterRefusal;
  if (prefix) return prefix as Refusal;
  return REFUSALS.find(([, pattern]) => pattern.test(text))?.[0] ?? 'other';
}
