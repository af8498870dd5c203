/** How long an answer may be used again, and what to ask with whether it is still the same. */
export interface HttpCaching extends Validators {
  /** Seconds from now on; 0 when it has to be asked for each time. */
  readonly freshSeconds: number;
}

/** RFC 9110 section 8.8. */
export interface Validators {
  readonly etag: string | null;
  readonly lastModified: string | null;
}

/** However long a relay says that its document stays fresh, it is asked again after a week. */
const MAX_FRESH_SECONDS = 7 * 86_400;
const MAX_VALIDATOR_LENGTH = 256;

type Headers = Readonly<Record<string, string | string[] | undefined>>;

/**
 * Reads the caching headers of an answer (RFC 9111 section 4.2): `max-age` wins over `Expires`, time spent in other
 * caches is taken off, `no-cache` lets it be used only after asking, `no-store` not at all. Headers that make no
 * sense count as none.
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

/** The headers that ask for a document only if it is another one. */
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

/** RFC 9110 5.6.7; what JavaScript takes for a date besides ("0") is none. */
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

/** It is sent back as it came: printable ASCII alone, so that it can neither break a header nor a statement. */
function validatorOf(header: string | string[] | undefined): string | null {
  const text = textOf(header);
  return /^[\x20-\x7e]+$/.test(text) && text.length <= MAX_VALIDATOR_LENGTH ? text : null;
}

function textOf(header: string | string[] | undefined): string {
  return [header ?? ''].flat().join(', ').trim();
}
