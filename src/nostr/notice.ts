/** What a NOTICE refers to. It carries no subscription id (NIP-01), so only its text can show that. */

/** Machine-readable prefixes of NIP-01 and NIP-42; some relays put an `ERROR:` of their own before them. */
const PREFIX =
  /^\s*(?:rate-limited|auth-required|restricted|blocked|invalid|error|unsupported|pow|duplicate|mute):/i;
const REQUEST =
  /\breq(?:s|uests?)?\b|\bsub(?:s|id|scri\w*)?\b|\bfilters?\b|\bquer(?:y|ies)\b|\bread(?:s|ing|ers?)?\b|\bconcurrent\b/i;
/** Words about whatever the client sends. */
const CLIENT =
  /\brates?\b|rate.?limit|\blimit\b|\btoo (?:many|fast|frequent)|slow(?:ing)? down|throttl|\bquota\b|\b(?:un|not )?auth|\bnip-?42\b/i;
const WRITING =
  /\bwrit(?:e|es|ing|ten|able|ers?)\b|\bpublish\w*|\bpublication|\bpost(?:s|ed|ing)?\b|\bsubmi\w+|\bsend(?:ing)? (?:\w+ )?events?\b|\bbroadcast\w*|\bupload\w*|\b(?:accept|reject|refus|allow)\w*\b.*\bevents?\b|\bevents?\b.*\b(?:accept|reject|refus|allow|whitelist)/i;

/** Whether a NOTICE speaks of writing: events that a client publishes. */
export function speaksOfWriting(notice: string): boolean {
  return WRITING.test(notice);
}

/**
 * Whether a NOTICE may refer to a request to read: it names the subscription, or has a machine-readable prefix or a
 * word about requests, and none about writing.
 */
export function isAboutReading(notice: string, subscription: string): boolean {
  if (notice.includes(subscription)) return true;
  if (speaksOfWriting(notice)) return false;
  return PREFIX.test(notice) || REQUEST.test(notice) || CLIENT.test(notice);
}

/** Whether a NOTICE refers to this request for certain: it names the subscription, or is an error about requests. No greeting does. */
export function refersTo(notice: string, subscription: string): boolean {
  if (notice.includes(subscription)) return true;
  return /^\s*error\b/i.test(notice) && REQUEST.test(notice) && !speaksOfWriting(notice);
}

/**
 * Whether a NOTICE may refer to an EVENT of ours: it names the event, or has a word about writing, or a
 * machine-readable prefix and no word about requests to read.
 */
export function isAboutWriting(notice: string, eventId: string): boolean {
  if (notice.includes(eventId) || speaksOfWriting(notice)) return true;
  if (REQUEST.test(notice)) return false;
  return PREFIX.test(notice) || CLIENT.test(notice) || /\bevents?\b/i.test(notice);
}
