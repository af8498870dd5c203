import { Authenticator } from './authentication.ts';
import type { RelayConnection } from './connection.ts';

/** A connection to a relay and what answers its challenges (NIP-42): both are replaced when the connection is lost. */
export class RenewableSession {
  connection: RelayConnection;
  authenticator: Authenticator;
  readonly #secretKey: Uint8Array | null;
  readonly #connect: (timeoutMs: number) => Promise<RelayConnection>;

  /**
   * @param secretKey null: challenges stay unanswered
   * @param connect opens another connection to the same relay
   */
  constructor(
    connection: RelayConnection,
    secretKey: Uint8Array | null,
    connect: (timeoutMs: number) => Promise<RelayConnection>,
  ) {
    this.connection = connection;
    this.authenticator = new Authenticator(connection, secretKey);
    this.#secretKey = secretKey;
    this.#connect = connect;
  }

  /** Replaces the connection, which stays in place when no other can be opened. @returns whether it is a new one */
  async renew(timeoutMs: number): Promise<boolean> {
    const before = this.connection;
    try {
      this.connection = await this.#connect(timeoutMs);
    } catch {
      return false;
    }
    before.close();
    this.authenticator = new Authenticator(this.connection, this.#secretKey);
    return true;
  }
}
