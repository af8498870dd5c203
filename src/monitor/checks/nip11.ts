import type { HttpCaching } from '../../network/http-caching.ts';
import type { DocumentRetry } from '../../network/retry-after.ts';
import type { RelayAddress } from '../../network/url.ts';
import type { CheckResult, Nip11Data } from '../../nostr/check-result.ts';
import type { Carried, CarryTerms } from './carried.ts';
import { type CheckContext, CheckError, failed, measured } from './context.ts';
import type { fetchNip11 } from './nip11-fetch.ts';

/**
 * Maximum length of a body that is stored as it was sent, in characters. Real documents stay below 10,000; a document that
 * changes at each check is stored each time.
 */
export const MAX_RAW_LENGTH = 16 * 1024;

export interface Nip11Check {
  readonly result: CheckResult<Nip11Data>;
  /** Null when the result must not be reused, or the stored terms still hold. */
  readonly terms: CarryTerms | null;
  /** Whether the stored document was reused without a request, because it is still fresh. */
  readonly isCarried: boolean;
  /** Set when the server refused with `Retry-After`. */
  readonly retry?: DocumentRefusal;
}

export interface DocumentRefusal {
  /** The pause that the server asked for. */
  readonly seconds: number;
  readonly reason: string;
}

/**
 * Checks the information document of a relay (NIP-11). A stored document that is fresh by its HTTP headers is reused; a
 * stale one is requested with its validators; after a refusal with `Retry-After` there is no request before that time.
 * Fails with the reasons of `fetchNip11`. Never throws.
 */
export async function checkNip11(
  relay: RelayAddress,
  ctx: CheckContext,
  fetch: typeof fetchNip11,
  carried: Carried<Nip11Data> | undefined,
  refused?: DocumentRetry,
): Promise<Nip11Check> {
  const now = ctx.now();
  if (carried && carried.freshUntil > now) {
    const { data, durationMs } = carried;
    return {
      result: { success: true, durationMs, data },
      terms: null,
      isCarried: true,
    };
  }
  if (refused && refused.until > now)
    return { result: failed(refused.reason, 0), terms: null, isCarried: false };
  let terms: CarryTerms | null = null;
  let retry: DocumentRefusal | undefined;
  const result = await measured(relay.url, async () => {
    const { timeoutMs, allowPrivate, torProxy, ownNetwork = null, signal, ca } = ctx;
    const fetched = await fetch(relay.url, {
      ...{ timeoutMs, allowPrivate, torProxy, ownNetwork, signal },
      ...(ca !== undefined && { ca }),
      ...(carried && { validators: carried }),
    });
    if (!fetched.ok) {
      const { reason } = fetched;
      if ('retryAfterSeconds' in fetched) retry = { seconds: fetched.retryAfterSeconds, reason };
      throw new CheckError(reason);
    }
    const isNew = 'raw' in fetched;
    const data = isNew ? dataOf(fetched) : carried?.data;
    if (!data) throw new CheckError('http_304');
    if (data.raw !== null) terms = termsOf(fetched.caching, now, isNew ? undefined : carried);
    return data;
  });
  return { result, terms, isCarried: false, ...(retry && { retry }) };
}

function dataOf({ document, raw, dropped }: Nip11Data & { raw: string }): Nip11Data {
  return { document, raw: raw.length > MAX_RAW_LENGTH ? null : raw, dropped };
}

/** A 304 may leave out the validators: those of the request still hold. */
function termsOf(
  { freshSeconds, etag, lastModified }: HttpCaching,
  now: number,
  carried: CarryTerms | undefined,
): CarryTerms | null {
  if (freshSeconds === 0 && etag === null && lastModified === null) return null;
  return {
    freshUntil: now + freshSeconds,
    etag: etag ?? carried?.etag ?? null,
    lastModified: lastModified ?? carried?.lastModified ?? null,
  };
}
