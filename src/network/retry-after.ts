/** Maximum pause that a server can impose with `Retry-After`, in seconds. */
export const LONGEST_RETRY_AFTER = 24 * 60 * 60;

/** A NIP-11 document that is not requested for some time: the server refused it with `Retry-After`. */
export interface DocumentRetry {
  /** Why the latest request failed, such as `http_429`. */
  readonly reason: string;
  /** Not requested before this, Unix seconds. */
  readonly until: number;
}

/** The three formats of an HTTP date (RFC 9110 section 5.6.7). The last one names no zone and means GMT. */
const IMF_OR_RFC850 =
  /^[A-Z][a-z]{2,8}, \d{2}[ -][A-Z][a-z]{2}[ -](\d{2}|\d{4}) \d{2}:\d{2}:\d{2} GMT$/;
const ASCTIME = /^[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d{2}:\d{2}:\d{2} \d{4}$/;

/**
 * Reads a `Retry-After` header (RFC 9110 section 10.2.3): seconds or an HTTP date.
 *
 * @param now Unix milliseconds
 * @returns seconds from now, 86,400 at most; null if the header is absent, malformed or in the past
 */
export function retryAfterSeconds(
  header: string | readonly string[] | undefined,
  now = Date.now(),
): number | null {
  const text = (typeof header === 'string' ? header : (header?.[0] ?? '')).trim();
  const seconds = /^\d{1,15}$/.test(text) ? Number(text) : Math.ceil((httpDate(text) - now) / 1000);
  return seconds > 0 ? Math.min(seconds, LONGEST_RETRY_AFTER) : null; // NaN is not above 0
}

/** Unix milliseconds; NaN when the text is not an HTTP date. */
function httpDate(text: string): number {
  if (IMF_OR_RFC850.test(text)) return Date.parse(text.replace(/(?<=\d)-|-(?=\d)/g, ' '));
  return ASCTIME.test(text) ? Date.parse(`${text} GMT`) : Number.NaN;
}
