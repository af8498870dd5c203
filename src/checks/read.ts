import type { CheckResult, ReadData } from '../nostr/check-result.ts';
import type { Authenticator } from '../relay/authentication.ts';
import type { RelayConnection } from '../relay/connection.ts';
import { firstAnswer } from '../relay/first-answer.ts';
import { type CheckContext, failed, withAuthentication } from './context.ts';

/**
 * Readable is a relay that answers a REQ with an event or with EOSE: an empty one is. Timed from REQ to the first
 * answer. Fails with `auth_required`, `restricted`, `rate_limited`, `blocked`, `limit`, `closed`, `timeout`,
 * `disconnected`, `overflow`, `garbled` or `aborted`.
 */
export function checkRead(
  connection: RelayConnection,
  authenticator: Authenticator,
  ctx: CheckContext,
): Promise<CheckResult<ReadData>> {
  return withAuthentication(
    async (authenticated) => {
      const answer = await firstAnswer(connection, { limit: 1 }, ctx);
      if (answer.reason !== null) return failed(answer.reason, answer.durationMs);
      const data = { empty: answer.event === null, authenticated };
      return { success: true, durationMs: answer.durationMs, data };
    },
    authenticator,
    ctx,
  );
}
