/** What a NOTICE refers to. It has no subscription id (NIP-01), so only its text can show that. */

/** Machine-readable prefixes of NIP-01 and NIP-42, and `ERROR:`. */
const PREFIX =
  /^\s*(?:rate-limited|auth-required|restricted|blocked|invalid|error|unsupported|pow|duplicate|mute):/i;
const REQUEST =
  /\breq(?:s|uests?)?\b|\bsub(?:s|id|scri\w*)?\b|\bfilters?\b|\bquer(?:y|ies)\b|\bread(?:s|ing|ers?)?\b|\bconcurrent\b/i;
/** Words about anything that a client sends. */
const CLIENT =
  /\brates?\b|rate.?limit|\blimit\b|\btoo (?:many|fast|frequent)|slow(?:ing)? down|throttl|\bquota\b|\b(?:un|not )?auth|\bnip-?42\b/i;
const WRITING =
  /\bwrit(?:e|es|ing|ten|able|ers?)\b|\bpublish\w*|\bpublication|\bpost(?:s|ed|ing)?\b|\bsubmi\w+|\bsend(?:ing)? (?:\w+ )?events?\b|\bbroadcast\w*|\bupload\w*|\b(?:accept|reject|refus|allow)\w*\b.*\bevents?\b|\bevents?\b.*\b(?:accept|reject|refus|allow|whitelist)/i;

/** Whether a NOTICE mentions writing: events that a client publishes. */
export function mentionsWriting(notice: string): boolean {
  return WRITING.test(notice);
}

/**
 * Whether a NOTICE may refer to a request to read: it names the subscription, or has a machine-readable prefix or a
 * word about requests, and none about writing.
 */
export function isAboutReading(notice: string, subscription: string): boolean {
  if (notice.includes(subscription)) return true;
  if (mentionsWriting(notice)) return false;
  return PREFIX.test(notice) || REQUEST.test(notice) || CLIENT.test(notice);
}

/** Whether a NOTICE certainly refers to this request: it names the subscription, or is an error about requests. Greetings do neither. */
export function isCertainlyAbout(notice: string, subscription: string): boolean {
  if (notice.includes(subscription)) return true;
  return /^\s*error\b/i.test(notice) && REQUEST.test(notice) && !mentionsWriting(notice);
}

/**
 * Whether a NOTICE may refer to a published EVENT: it names the event, or has a word about writing, or a
 * machine-readable prefix and no word about requests to read.
 */
export function isAboutWriting(notice: string, eventId: string): boolean {
  if (notice.includes(eventId) || mentionsWriting(notice)) return true;
  if (REQUEST.test(notice)) return false;
  return PREFIX.test(notice) || CLIENT.test(notice) || /\bevents?\b/i.test(notice);
}
