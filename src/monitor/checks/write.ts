import type { CheckResult, WriteData } from '../../nostr/check-result.ts';
import type { NostrEvent } from '../../nostr/event.ts';
import { makeTestEvent } from '../../nostr/nip66.ts';
import type { Authenticator } from '../../relay-client/authentication.ts';
import type { RelayConnection } from '../../relay-client/connection.ts';
import { firstAnswer } from '../../relay-client/first-answer.ts';
import { publishOnce } from '../../relay-client/publish.ts';
import { type CheckContext, failed, withAuthentication } from './context.ts';

/** Maximum wait for the test event to be read back, in milliseconds. */
const READ_BACK_MS = 5000;

/**
 * A relay is writable if it accepts our test event. The event is ephemeral (NIP-01: not stored) and expires (NIP-40). It
 * is then requested, to see whether it was stored nevertheless. It is not deleted (NIP-09), because relays keep deletion
 * requests permanently. The duration is that from EVENT to OK.
 *
 * @param minPow the proof of work that the relay's document requires, in bits
 */
export async function checkWrite(
  connection: RelayConnection,
  authenticator: Authenticator,
  ctx: CheckContext,
  minPow: Promise<number>,
): Promise<CheckResult<WriteData>> {
  const bits = await minPow;
  if (!connection.isOpen) return failed('disconnected', 0);
  const createdAt = ctx.now();
  const options = { createdAt, minPow: bits, signal: ctx.signal };
  const event = await makeTestEvent(ctx.secretKey, options);
  if (!event) return failed('pow', 0);
  return withAuthentication(
    async (authenticated) => {
      const started = performance.now();
      const outcome = await publishOnce(connection, event, ctx.timeoutMs, ctx.signal);
      const durationMs = performance.now() - started;
      if (outcome !== 'accepted') return failed(outcome, durationMs);
      const stored = await readBack(connection, event, ctx);
      return { success: true, durationMs, data: { stored, authenticated } };
    },
    authenticator,
    ctx,
  );
}

/** Whether the relay returns the event; null when it does not answer. */
async function readBack(
  connection: RelayConnection,
  { id }: NostrEvent,
  ctx: CheckContext,
): Promise<boolean | null> {
  const timeoutMs = Math.min(ctx.timeoutMs, READ_BACK_MS);
  const answer = await firstAnswer(
    connection,
    { ids: [id], limit: 1 },
    { timeoutMs, signal: ctx.signal },
  );
  if (answer.reason !== null) return null;
  return answer.event !== null && 'id' in answer.event && answer.event.id === id;
}
