import type { Relay } from '../database/bigbrotr.ts';
import { RelayError, type RelayErrorReason } from '../network/relay-error.ts';
import { Authenticator } from '../relay-client/authentication.ts';
import { connectRelay } from '../relay-client/connection.ts';
import type { RelaySession, VisitContext } from './visit-context.ts';

/** Why a relay could not be reached. */
export interface NoSession {
  readonly failure: RelayErrorReason;
  /** How long the relay asked to be left alone (`Retry-After`), in seconds; null where it did not. */
  readonly retryAfterSeconds: number | null;
}

/** Whether a connection was refused because of its rate: by status 429, or with the time to come again. */
export function isRateLimit(failure: string, retryAfterSeconds: number | null): boolean {
  return failure === 'http_429' || retryAfterSeconds !== null;
}

/** Connects to a relay. */
export async function openSession(
  relay: Relay,
  { connect, signal, secretKey }: VisitContext,
): Promise<RelaySession | NoSession> {
  try {
    const connection = await connectRelay(relay.url, { ...connect, signal });
    return { connection, authenticator: new Authenticator(connection, secretKey) };
  } catch (error) {
    if (!(error instanceof RelayError)) throw error;
    return { failure: error.reason, retryAfterSeconds: error.retryAfterSeconds };
  }
}
