import type { CheckResult, ReadData } from '../nostr/check-result.ts';
import type { Authenticator } from '../relay/authentication.ts';
import type { RelayConnection } from '../relay/connection.ts';
import { firstAnswerOf } from '../relay/first-answer.ts';
import { type CheckContext, failed, withAuthentication } from './context.ts';

/**
 * Readable is a relay that answers a REQ with an event or with EOSE: an empty one is. It is asked what the synchronizer
 * will ask; where it refuses that for the shape of the filter, with less. Timed from that REQ to the first answer. Fails with `auth_required`, `restricted`, `rate_limited`, `blocked`, `limit`, `filter_refused`, `too_many_values`, `closed`, `timeout`,
 * `disconnected`, `overflow`, `garbled` or `aborted`.
 */
export function checkRead(
  connection: RelayConnection,
  authenticator: Authenticator,
  ctx: CheckContext,
): Promise<CheckResult<ReadData>> {
  return withAuthentication(
    async (authenticated) => {
      const answer = await firstAnswerOf(connection, ctx.eventFilter ?? {}, ctx);
      if (answer.reason !== null) return failed(answer.reason, answer.durationMs);
      const data = { empty: answer.event === null, authenticated, asked: answer.asked };
      return { success: true, durationMs: answer.durationMs, data };
    },
    authenticator,
    ctx,
  );
}
