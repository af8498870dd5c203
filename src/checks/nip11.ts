import type { CheckResult, Nip11Data } from '../nostr/check-result.ts';
import type { HttpCaching } from '../relay/http-caching.ts';
import type { fetchNip11 } from '../relay/nip11-fetch.ts';
import type { DocumentRetry } from '../relay/retry-after.ts';
import type { RelayAddress } from '../relay/url.ts';
import type { Carried, CarryTerms } from './carried.ts';
import { type CheckContext, failed, failure, measured } from './context.ts';

/**
 * Longest body that is kept as it came, in characters: real ones stay below 10,000, and one that changes at each
 * check is stored at each.
 */
export const MAX_RAW_LENGTH = 16 * 1024;

export interface Nip11Check {
  readonly result: CheckResult<Nip11Data>;
  /** Null when the result cannot be carried on, or stays as it was. */
  readonly terms: CarryTerms | null;
  /** The relay was not asked: the document is still fresh. */
  readonly isCarried: boolean;
  /** The server refused and named when to come again (`Retry-After`). */
  readonly retry?: DocumentRefusal;
}

export interface DocumentRefusal {
  /** From now on. */
  readonly seconds: number;
  readonly reason: string;
}

/**
 * The information document of a relay (NIP-11). One that is still fresh by its HTTP headers is not asked for; one
 * that was, only if it has changed; one that the server refused with `Retry-After`, not before that time. Fails with the reasons of `fetchNip11`. Never throws.
 */
export async function checkNip11(
  relay: RelayAddress,
  ctx: CheckContext,
  fetch: typeof fetchNip11,
  carried: Carried<Nip11Data> | undefined,
  refused?: DocumentRetry,
): Promise<Nip11Check> {
  const now = Math.floor(ctx.now() / 1000);
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
    const { timeoutMs, allowPrivate, torProxy, signal, ca } = ctx;
    const fetched = await fetch(relay.url, {
      ...{ timeoutMs, allowPrivate, torProxy, signal },
      ...(ca !== undefined && { ca }),
      ...(carried && { validators: carried }),
    });
    if (!fetched.ok) {
      const { reason, retryAfterSeconds: seconds } = fetched;
      if (seconds !== undefined) retry = { seconds, reason };
      throw failure(reason);
    }
    const isNew = 'raw' in fetched;
    const data = isNew ? dataOf(fetched) : carried?.data;
    if (!data) throw failure('http_304');
    if (data.raw !== null) terms = termsOf(fetched.caching, now, isNew ? undefined : carried);
    return data;
  });
  return { result, terms, isCarried: false, ...(retry && { retry }) };
}

function dataOf({ document, raw, dropped }: Nip11Data & { raw: string }): Nip11Data {
  return { document, raw: raw.length > MAX_RAW_LENGTH ? null : raw, dropped };
}

/** An answer "unchanged" may leave out the validators: those that were asked with still hold. */
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
