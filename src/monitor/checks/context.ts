import type { OwnNetwork } from '../../network/own-network.ts';
import { asRelayError, RelayError, type RelayErrorReason } from '../../network/relay-error.ts';
import type { TorProxy } from '../../network/tor.ts';
import type { RelayUrl } from '../../network/url.ts';
import type { CheckResult } from '../../nostr/check-result.ts';
import type { EventFilter } from '../../nostr/filter.ts';
import type { Nip11Failure } from '../../nostr/nip11.ts';
import { type Authenticator, askAuthenticated } from '../../relay-client/authentication.ts';
import type { AnswerFailure } from '../../relay-client/page-end.ts';

/** What every check of one relay needs. */
export interface CheckContext {
  /** Signs the test event and answers NIP-42. */
  readonly secretKey: Uint8Array;
  /** Deadline of each answer, in milliseconds. */
  readonly timeoutMs: number;
  readonly allowPrivate: boolean;
  readonly torProxy: TorProxy | null;
  /** Our own network, where it is tested. */
  readonly ownNetwork?: OwnNetwork | null;
  readonly signal: AbortSignal;
  /** SYNCHRONIZER_EVENT_FILTER: the relay is asked what the synchronizers will ask. Default: all events. */
  readonly eventFilter?: EventFilter;
  /** Unix seconds. */
  readonly now: () => number;
  /** Certificates trusted instead of the system's, as PEM: for tests with their own authority. */
  readonly ca?: string;
}

/** Why a check failed, beside the reasons of a connection and of an answer. */
export type CheckFailure =
  | RelayErrorReason
  | AnswerFailure
  | Nip11Failure
  | 'no_tls'
  | 'certificate'
  | 'literal'
  | 'not_found'
  | 'no_address'
  | 'server_failed'
  | 'no_database'
  | 'unknown_address';

/** Thrown by a check that fails; `measured` turns it into a result. */
export class CheckError extends Error {
  override readonly name = 'CheckError';
  readonly reason: CheckFailure;

  constructor(reason: CheckFailure) {
    super(reason);
    this.reason = reason;
  }
}

export function failed(
  reason: string,
  durationMs: number,
): Extract<CheckResult<unknown>, { success: false }> {
  return { success: false, durationMs, reason };
}

/** Runs a check and returns its result, whatever it throws: a failed check never affects the others. */
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

/** `internal` is a bug of ours: it says nothing about the relay. */
function reasonOf(error: unknown, url: RelayUrl): string {
  if (error instanceof CheckError) return error.reason;
  const isOfNetwork = error instanceof Error && (error instanceof RelayError || 'code' in error);
  return isOfNetwork ? asRelayError(error, url).reason : 'internal';
}

/**
 * Runs a step, and again after NIP-42 if the relay requires it or was silent after its challenge. The second result
 * counts, such as `restricted` for a key that the relay does not accept; without a challenge it stays `auth_required`.
 */
export async function withAuthentication<Data>(
  step: (authenticated: boolean) => Promise<CheckResult<Data>>,
  authenticator: Authenticator,
  ctx: CheckContext,
): Promise<CheckResult<Data>> {
  const { answer } = await askAuthenticated(
    step,
    (result) => !result.success && result.reason === 'auth_required',
    {
      ...{ authenticator, timeoutMs: ctx.timeoutMs, signal: ctx.signal },
      isSilent: (result) => !result.success && result.reason === 'timeout',
    },
  );
  return answer;
}
