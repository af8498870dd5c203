/** What relays say in NEG-ERR, CLOSED and NOTICE when they refuse a reconciliation (NIP-77). */
import { isFilterRefusal } from '../nostr/filter-refusal.ts';
import { refusalOf } from '../nostr/message.ts';
import { isAboutReading, speaksOfWriting } from '../nostr/notice.ts';

/** `blocked:` of NIP-77, less those who are blocked themselves, and what relays say instead. */
const TOO_LARGE =
  /^blocked:(?!.*(\bbann?ed\b|not allowed|forbidden|whitelist))|too (big|large)|too many (query )?(results|events|records|items)|results_too_big/i;
const DISABLED =
  /disabled|not (supported|implemented|enabled|available)|unsupported|unknown (command|verb|message)/i;
/** How relays complain of a message that they do not know: strfry, khatru, nostr-rs-relay and others. */
const UNKNOWN_MESSAGE =
  /neg-?(open|msg|entropy)|unknown|unrecogni[sz]ed|invalid|bad (msg|message|command)|parse|envelope/i;

/** Whether the relay says that it does not do NIP-77, or not now. */
export function isDisabled(text: string): boolean {
  return DISABLED.test(text);
}

/** Whether the relay complains of a message that it does not know. */
export function isUnknownMessage(text: string): boolean {
  return UNKNOWN_MESSAGE.test(text);
}

/** Whether it is the window that is refused: the relay lists no more events at once. */
export function isTooLarge(text: string): boolean {
  return TOO_LARGE.test(text) && !DISABLED.test(text) && !isFilterRefusal(refusalOf(text));
}

/** Whether it is the client that is refused, or asked to wait, or the filter, and not NIP-77. */
export function isAboutUs(text: string): boolean {
  const refusal = refusalOf(text);
  const ofClient = ['rate_limited', 'auth_required', 'restricted', 'blocked'].includes(refusal);
  return ofClient || isFilterRefusal(refusal);
}

/** NOTICE carries no subscription id: only its text tells whether it is about this session. */
export function isRefusal(text: string, session: string): boolean {
  if (DISABLED.test(text)) return !speaksOfWriting(text);
  return refusalOf(text) !== 'other' && isAboutReading(text, session);
}
