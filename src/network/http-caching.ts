/** How long a response may be reused, and the validators to ask whether it has changed. */
export interface HttpCaching extends Validators {
  /** Seconds from now; 0 when it must be requested each time. */
  readonly freshSeconds: number;
}

/** RFC 9110 section 8.8. */
export interface Validators {
  readonly etag: string | null;
  readonly lastModified: string | null;
}

/** Upper bound on freshness, whatever the server declares: a week, in seconds. */
const MAX_FRESH_SECONDS = 7 * 86_400;
const MAX_VALIDATOR_LENGTH = 256;

type Headers = Readonly<Record<string, string | string[] | undefined>>;

/**
 * Reads the caching headers of a response (RFC 9111 section 4.2): `max-age` takes precedence over `Expires`, `Age` is
 * subtracted, `no-cache` requires revalidation, `no-store` forbids reuse. Malformed headers count as absent.
 */
export function readCaching(headers: Headers): HttpCaching {
  const directives = directivesOf(headers['cache-control']);
  if (directives.has('no-store')) return { freshSeconds: 0, etag: null, lastModified: null };
  const seconds = directives.has('no-cache') ? 0 : freshSeconds(headers, directives.get('max-age'));
  return {
    freshSeconds: Math.min(Math.max(0, seconds), MAX_FRESH_SECONDS),
    etag: validatorOf(headers.etag),
    lastModified: validatorOf(headers['last-modified']),
  };
}

/** Request headers that ask for the document only if it has changed. */
export function validatorHeaders(validators: Validators | undefined): Record<string, string> {
  const { etag = null, lastModified = null } = validators ?? {};
  return {
    ...(etag !== null && { 'if-none-match': etag }),
    ...(lastModified !== null && { 'if-modified-since': lastModified }),
  };
}

function freshSeconds(headers: Headers, maxAge: string | undefined): number {
  const age = secondsOf(textOf(headers.age)) ?? 0;
  if (maxAge !== undefined) return (secondsOf(maxAge) ?? 0) - age;
  const expires = timeOf(headers.expires);
  const date = timeOf(headers.date);
  const span = Math.floor((expires - (Number.isNaN(date) ? Date.now() : date)) / 1000);
  return Number.isNaN(span) ? 0 : span - age;
}

/** RFC 9110 section 5.6.7. JavaScript accepts more as a date ("0"), which counts as absent. */
function timeOf(header: string | string[] | undefined): number {
  const text = textOf(header);
  return text.endsWith(' GMT') ? Date.parse(text) : Number.NaN;
}

function directivesOf(header: string | string[] | undefined): Map<string, string> {
  const directives = textOf(header)
    .split(',')
    .map((directive) => directive.trim().toLowerCase());
  return new Map(
    directives.map((directive) => {
      const [name = '', value = ''] = directive.split('=');
      return [name.trim(), value.trim().replace(/^"(.*)"$/, '$1')];
    }),
  );
}

function secondsOf(text: string): number | null {
  return /^\d{1,15}$/.test(text) ? Number(text) : null;
}

/** Validators are sent back unchanged: only printable ASCII, which can break neither a header nor an SQL statement. */
function validatorOf(header: string | string[] | undefined): string | null {
  const text = textOf(header);
  return /^[\x20-\x7e]+$/.test(text) && text.length <= MAX_VALIDATOR_LENGTH ? text : null;
}

function textOf(header: string | string[] | undefined): string {
  return [header ?? ''].flat().join(', ').trim();
}
