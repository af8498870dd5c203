import type { Relay } from '../bigbrotr.ts';
import { Authenticator } from '../relay/authentication.ts';
import { connectRelay, RelayError } from '../relay/connection.ts';
import type { RelaySession, VisitContext } from './visit-context.ts';

/** Connects to a relay. `failure`: the reason why it could not be reached. */
export async function openSession(
  relay: Relay,
  { connect, signal, secretKey }: VisitContext,
): Promise<RelaySession | { failure: string }> {
  try {
    const connection = await connectRelay(relay.url, { ...connect, signal });
    return { connection, authenticator: new Authenticator(connection, secretKey) };
  } catch (error) {
    if (!(error instanceof RelayError)) throw error;
    return { failure: error.reason };
  }
}
