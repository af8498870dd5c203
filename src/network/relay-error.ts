import { isTlsCode } from './tls-codes.ts';
import { TorError, type TorErrorReason } from './tor.ts';
import type { RelayUrl } from './url.ts';

/** Why a relay could not be reached, or an HTTP GET failed: one stable word, for counting. */
export type RelayErrorReason =
  /** Not tried: refused by the address guard, on the blocklist, or no proxy for its network. */
  | 'forbidden'
  | 'blocklisted'
  | 'no_proxy'
  | TorErrorReason
  /** Our own network failed, and not the relay. */
  | 'network_down'
  | 'dns'
  | 'reset'
  | 'tls'
  /** The server does not speak WebSocket or HTTP. */
  | 'protocol'
  /** The HTTP status instead of the upgrade, or of a GET whose status is not 200. */
  | `http_${number}`
  /** Of a GET: more than one redirect or one to another host; an unrequested compression; too many bytes. */
  | 'redirect'
  | 'encoding'
  | 'too_large'
  | 'aborted';

/** A relay could not be reached, or the connection was lost. `message` is for the log. */
export class RelayError extends Error {
  override readonly name = 'RelayError';
  readonly reason: RelayErrorReason;
  /** The pause that the server asked for (`Retry-After`), in seconds; null if it did not. */
  readonly retryAfterSeconds: number | null;

  constructor(reason: RelayErrorReason, message: string, retryAfter: number | null = null) {
    super(message);
    this.reason = reason;
    this.retryAfterSeconds = retryAfter;
  }
}

const REASON_OF_CODE: Readonly<Record<string, RelayErrorReason>> = {
  EFORBIDDEN: 'forbidden',
  ENOTFOUND: 'dns',
  EAI_AGAIN: 'dns',
  ENODATA: 'dns',
  ECONNREFUSED: 'refused',
  ETIMEDOUT: 'timeout',
  EHOSTUNREACH: 'unreachable',
  ENETUNREACH: 'unreachable',
  ENETDOWN: 'unreachable',
  EADDRNOTAVAIL: 'unreachable',
  ECONNRESET: 'reset',
  EPIPE: 'reset',
};

/** The pause that the server asked for (`Retry-After`), in seconds; null if it did not. */
export function retryAfterOf(error: unknown): number | null {
  return error instanceof RelayError ? error.retryAfterSeconds : null;
}

/**
 * Finds the reason of a failed connection attempt, of a WebSocket or an HTTP GET.
 *
 * @param signal the caller's: once it has aborted, the reason is `aborted`
 */
export function asRelayError(error: unknown, url: RelayUrl, signal?: AbortSignal): RelayError {
  if (signal?.aborted) return new RelayError('aborted', `connecting to ${url} was stopped`);
  if (error instanceof RelayError) return error;
  const { message, code } = describe(error);
  const reason = error instanceof TorError ? error.reason : reasonOf(message, code);
  return new RelayError(reason, `${url}: ${message || code || 'unknown error'}`);
}

/** Node joins the attempts over several addresses into one AggregateError with an empty message. */
function describe(error: unknown): { message: string; code: string } {
  if (!(error instanceof Error)) return { message: String(error), code: '' };
  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  if (error instanceof AggregateError && error.message === '') {
    return { message: error.errors.map((inner) => describe(inner).message).join('; '), code };
  }
  if (!code && error.cause instanceof Error) return describe(error.cause);
  return { message: error.message, code };
}

function reasonOf(message: string, code: string): RelayErrorReason {
  const known = REASON_OF_CODE[code];
  if (known) return known;
  if (isTlsCode(code)) return 'tls';
  if (/certificate|\bssl\b|\btls\b/i.test(message)) return 'tls';
  if (/hang up|before secure TLS/i.test(message)) return 'reset';
  return 'protocol';
}
