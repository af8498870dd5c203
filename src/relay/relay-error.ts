import { isTlsCode } from './tls-codes.ts';
import { TorError } from './tor.ts';
import type { RelayUrl } from './url.ts';

/** A relay could not be reached, or was lost. `reason` is one stable word for counting, `message` is for people. */
export class RelayError extends Error {
  override readonly name = 'RelayError';
  readonly reason: string;
  /** How long the server asked to be left alone (`Retry-After`), in seconds; null where it did not. */
  readonly retryAfterSeconds: number | null;

  constructor(reason: string, message: string, retryAfter: number | null = null) {
    super(message);
    this.reason = reason;
    this.retryAfterSeconds = retryAfter;
  }
}

const REASON_OF_CODE: Record<string, string> = {
  EFORBIDDEN: 'forbidden',
  ENOTFOUND: 'dns',
  EAI_AGAIN: 'dns',
  ENODATA: 'dns',
  ECONNREFUSED: 'refused',
  ETIMEDOUT: 'timeout',
  EHOSTUNREACH: 'unreachable',
  ENETUNREACH: 'unreachable',
  EADDRNOTAVAIL: 'unreachable',
  ECONNRESET: 'reset',
  EPIPE: 'reset',
};

/** How long a failure keeps us away (`Retry-After`), in seconds; null where the server did not say. */
export function retryAfterOf(error: unknown): number | null {
  return error instanceof RelayError ? error.retryAfterSeconds : null;
}

/** Names the reason of a failed connect; used for WebSocket and for NIP-11 over HTTP alike. */
export function asRelayError(error: unknown, url: RelayUrl): RelayError {
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

function reasonOf(message: string, code: string): string {
  const known = REASON_OF_CODE[code];
  if (known) return known;
  if (isTlsCode(code)) return 'tls';
  if (/certificate|\bssl\b|\btls\b/i.test(message)) return 'tls';
  if (/hang up|before secure TLS/i.test(message)) return 'reset';
  return 'protocol';
}
