import type { CheckResult, WriteData } from '../nostr/check-result.ts';
import type { NostrEvent } from '../nostr/event.ts';
import { parseRelayMessage, refusalOf } from '../nostr/message.ts';
import { makeTestEvent, refusalOfOk } from '../nostr/nip66.ts';
import { isAboutWriting } from '../nostr/notice.ts';
import type { Authenticator } from '../relay/authentication.ts';
import { refusalOfClose } from '../relay/close-frame.ts';
import type { RelayConnection } from '../relay/connection.ts';
import { deadline } from '../relay/deadline.ts';
import { firstAnswer } from '../relay/first-answer.ts';
import { beginRequest } from '../relay/first-request.ts';
import { type CheckContext, failed, withAuthentication } from './context.ts';

/** After a NOTICE that refuses, a relay that was going to say OK has done so by then. */
const REFUSAL_GRACE_MS = 2000;
/** Reading back is a question on top: it is not waited for as long as the others. */
const READ_BACK_MS = 5000;

/**
 * Writable is a relay that says OK to our test event. The event is ephemeral (NIP-01: not stored) and expires
 * (NIP-40); then it is asked for, to see whether it was stored all the same. It is not deleted (NIP-09): a deletion
 * request is an event that relays keep for good. Timed from EVENT to OK.
 *
 * @param minPow waited for: the proof of work that the relay's document asks for, in bits
 */
export async function checkWrite(
  connection: RelayConnection,
  authenticator: Authenticator,
  ctx: CheckContext,
  minPow: Promise<number>,
): Promise<CheckResult<WriteData>> {
  const bits = await minPow;
  if (!connection.isOpen) return failed('disconnected', 0);
  const createdAt = Math.floor(ctx.now() / 1000);
  const options = { createdAt, minPow: bits, signal: ctx.signal };
  const event = await makeTestEvent(ctx.secretKey, options);
  if (!event) return failed('pow', 0);
  return withAuthentication(
    async (authenticated) => {
      const { reason, durationMs } = await publish(connection, event, ctx);
      if (reason !== null) return failed(reason, durationMs);
      const stored = await readBack(connection, event, ctx);
      return { success: true, durationMs, data: { stored, authenticated } };
    },
    authenticator,
    ctx,
  );
}

/** Whether the relay gives the event out; null when it does not answer. */
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

interface Published {
  readonly reason: string | null;
  readonly durationMs: number;
}

/** Sends an event and waits for its OK, the end of the connection, the deadline or an abort. Never rejects. */
function publish(
  connection: RelayConnection,
  event: NostrEvent,
  ctx: CheckContext,
): Promise<Published> {
  return new Promise((resolve) => {
    const started = performance.now();
    const isFirst = beginRequest(connection);
    let refusal: string | null = null;
    const finish = (reason: string | null) => {
      cancel();
      stopListening();
      stopWatching();
      ctx.signal.removeEventListener('abort', onAbort);
      resolve({ reason, durationMs: performance.now() - started });
    };
    const onAbort = () => finish('aborted');
    const stopListening = connection.onMessage((data) => {
      const message = parseRelayMessage(data);
      if (message.type === 'OK' && message.id === event.id) {
        finish(refusalOfOk(message.accepted, message.text));
      } else if (message.type === 'NOTICE') receiveNotice(message.text);
    });
    const receiveNotice = (text: string) => {
      if (refusalOf(text, 'event') === 'other' || !isAboutWriting(text, event.id)) return;
      refusal = refusalOf(text, 'event');
      if (isFirst && !text.includes(event.id)) return; // it may be a greeting: the reason if nothing else comes
      cancel(); // wait a little for the OK, then believe it
      cancel = deadline(Math.min(REFUSAL_GRACE_MS, ctx.timeoutMs), () => finish(refusal));
    };
    const stopWatching = connection.onClosed((closed) =>
      finish(refusalOfClose(closed) ?? 'disconnected'),
    );
    let cancel = deadline(ctx.timeoutMs, () => finish(refusal ?? 'timeout'));
    ctx.signal.addEventListener('abort', onAbort, { once: true });
    if (ctx.signal.aborted) onAbort();
    else connection.send(['EVENT', event]);
  });
}
