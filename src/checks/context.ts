import type { CheckResult } from '../nostr/check-result.ts';
import type { EventFilter } from '../nostr/filter.ts';
import { type Authenticator, askAuthenticated } from '../relay/authentication.ts';
import { asRelayError, RelayError, type TorProxy } from '../relay/connection.ts';
import type { RelayUrl } from '../relay/url.ts';

/** What every check of one relay works with. */
export interface CheckContext {
  /** Signs the test event and answers NIP-42. */
  readonly secretKey: Uint8Array;
  /** Deadline of each answer, in milliseconds. */
  readonly timeoutMs: number;
  readonly allowPrivate: boolean;
  readonly torProxy: TorProxy | null;
  readonly signal: AbortSignal;
  /** What the synchronizers archive (SYNCHRONIZER_EVENT_FILTER), so that the relay is asked the same; all events unless told. */
  readonly eventFilter?: EventFilter;
  /** Unix milliseconds. */
  readonly now: () => number;
  /** Certificates trusted instead of the system's, as PEM: for tests with an authority of their own. */
  readonly ca?: string;
}

/** Why a check failed, as something to be thrown inside it. */
export function failure(reason: string): RelayError {
  return new RelayError(reason, reason);
}

export function failed(
  reason: string,
  durationMs: number,
): Extract<CheckResult<unknown>, { success: false }> {
  return { success: false, durationMs, reason };
}

/** Runs a check and makes its outcome a result, whatever it throws: a failed check never costs the others. */
export async function measured<Data>(
  url: RelayUrl,
  work: () => Promise<Data> | Data,
): Promise<CheckResult<Data>> {
  const started = performance.now();
  try {
    const data = await work();
    return { success: true, durationMs: performance.now() - started, data };
  } catch (error) {
    return failed(reasonOf(error, url), performance.now() - started);
  }
}

/** A mistake of ours is not held against the relay. */
function reasonOf(error: unknown, url: RelayUrl): string {
  const isOfTheNetwork = error instanceof Error && (error instanceof RelayError || 'code' in error);
  return isOfTheNetwork ? asRelayError(error, url).reason : 'internal';
}

/**
 * Tries a step, and again after NIP-42 where the relay asks for it. What the relay says of a key that it does
 * not want (`restricted`) is then the result; where it gives no challenge it stays `auth_required`.
 */
export async function withAuthentication<Data>(
  step: (authenticated: boolean) => Promise<CheckResult<Data>>,
  authenticator: Authenticator,
  ctx: CheckContext,
): Promise<CheckResult<Data>> {
  const { answer } = await askAuthenticated(
    step,
    (result) => !result.success && result.reason === 'auth_required',
    { authenticator, timeoutMs: ctx.timeoutMs, signal: ctx.signal },
  );
  return answer;
}
