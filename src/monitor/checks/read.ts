import type { CheckResult, ReadData } from '../../nostr/check-result.ts';
import { firstAnswerOf } from '../../relay-client/first-answer.ts';
import { answerOrOlder } from '../../relay-client/older-answer.ts';
import type { RenewableSession } from '../../relay-client/renewable-session.ts';
import { type CheckContext, failed, withAuthentication } from './context.ts';

type ReadResult = CheckResult<ReadData>;

/**
 * A relay is readable if it answers a REQ with an event or with EOSE, so an empty relay is. The REQ is that of the
 * synchronizer; if the relay refuses the shape of the filter, a narrower one; if the answer is lost, one for older events,
 * because the newest event may be one that the relay cannot send. The duration is that of the REQ that was answered.
 *
 * Fails with `auth_required`, `restricted`, `rate_limited`, `blocked`, `limit`, `filter_refused`, `too_many_values`,
 * `closed`, `timeout`, `disconnected`, `oversized`, `overflow`, `garbled` or `aborted`.
 *
 * @param session may have another connection afterwards
 */
export async function checkRead(session: RenewableSession, ctx: CheckContext): Promise<ReadResult> {
  const { answer, isOlder } = await answerOrOlder(await ask(session, ctx), {
    ask: (until, timeoutMs) => ask(session, { ...ctx, timeoutMs }, until),
    reasonOf: (result) => (result.success ? null : result.reason),
    isOpen: () => session.connection.isOpen,
    reconnect: (timeoutMs) => session.renew(timeoutMs),
    ...{ timeoutMs: ctx.timeoutMs, signal: ctx.signal, now: ctx.now },
  });
  if (!isOlder || !answer.success) return answer;
  return { ...answer, data: { ...answer.data, empty: false, asked: 'older' } };
}

/** Requests one event, at or before `until` if given. */
function ask(session: RenewableSession, ctx: CheckContext, until?: number): Promise<ReadResult> {
  const { connection, authenticator } = session;
  return withAuthentication(
    async (authenticated) => {
      const answer = await firstAnswerOf(connection, ctx.eventFilter ?? {}, ctx, until);
      if (answer.reason !== null) return failed(answer.reason, answer.durationMs);
      const data = { empty: answer.event === null, authenticated, asked: answer.asked };
      return { success: true, durationMs: answer.durationMs, data };
    },
    authenticator,
    ctx,
  );
}
