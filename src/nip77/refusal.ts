/** Reads the texts of NEG-ERR, CLOSED and NOTICE with which relays refuse a reconciliation (NIP-77). */
import { isFilterRefusal } from '../nostr/filter-refusal.ts';
import { isClientRefusal, refusalOf } from '../nostr/message.ts';
import { isAboutReading, mentionsWriting } from '../nostr/notice.ts';

/** `blocked:` of NIP-77, unless it refuses the client, and equivalent texts. */
const TOO_LARGE =
  /^blocked:(?!.*(\bbann?ed\b|not allowed|forbidden|whitelist))|too (big|large)|too many (query )?(results|events|records|items)|results_too_big/i;
const DISABLED =
  /disabled|not (supported|implemented|enabled|available)|unsupported|unknown (command|verb|message)/i;
/** Errors about an unknown message: strfry, khatru, nostr-rs-relay and others. */
const UNKNOWN_MESSAGE =
  /neg-?(open|msg|entropy)|unknown|unrecogni[sz]ed|invalid|bad (msg|message|command)|parse|envelope/i;

/** Whether the text says that NIP-77 is not supported or disabled. */
export function isDisabled(text: string): boolean {
  return DISABLED.test(text);
}

/** Whether the text is an error about an unknown message. */
export function isUnknownMessage(text: string): boolean {
  return UNKNOWN_MESSAGE.test(text);
}

/** Whether the text refuses the window, as having too many events. */
export function isTooLarge(text: string): boolean {
  return TOO_LARGE.test(text) && !DISABLED.test(text) && !isFilterRefusal(refusalOf(text));
}

/** Whether the text refuses the client or the filter, and not NIP-77. */
export function isClientOrFilterRefusal(text: string): boolean {
  const refusal = refusalOf(text);
  return isClientRefusal(refusal) || isFilterRefusal(refusal);
}

/** Whether a NOTICE may refuse this session. It has no subscription id: only its text can be matched. */
export function isRefusal(text: string, session: string): boolean {
  if (DISABLED.test(text)) return !mentionsWriting(text);
  return refusalOf(text) !== 'other' && isAboutReading(text, session);
}
