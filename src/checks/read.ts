import type { CheckResult, ReadData } from '../nostr/check-result.ts';
import type { ReqFilter } from '../nostr/filter.ts';
import { refusalOf } from '../nostr/message.ts';
import type { Authenticator } from '../relay/authentication.ts';
import type { RelayConnection } from '../relay/connection.ts';
import { type PageEnd, readPage } from '../relay/subscription.ts';
import { type CheckContext, failed, withAuthentication } from './context.ts';

/** Far more than one event with `limit: 1` needs; a relay that ignores the limit is cut here. */
const READ_LIMITS = { maxEvents: 500, maxBytes: 16 * 1024 * 1024 };

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

/** The first event, or null when there is none; `reason` is why neither can be told. */
export interface FirstAnswer {
  readonly event: object | null;
  readonly reason: string | null;
  readonly durationMs: number;
}

/** Sends a REQ and takes its first event or its end. Never throws. */
export async function firstAnswer(
  connection: RelayConnection,
  filter: ReqFilter,
  { timeoutMs, signal }: Pick<CheckContext, 'timeoutMs' | 'signal'>,
): Promise<FirstAnswer> {
  const limits = { ...READ_LIMITS, idleTimeoutMs: timeoutMs, totalTimeoutMs: timeoutMs };
  const started = performance.now();
  const page = readPage(connection, filter, limits, signal);
  try {
    for (;;) {
      const step = await page.next();
      const durationMs = performance.now() - started;
      if (step.done) return { event: null, reason: reasonOfEnd(step.value), durationMs };
      const event = step.value.find((value) => typeof value === 'object' && value !== null);
      if (event) return { event, reason: null, durationMs };
    }
  } finally {
    await page.return({ type: 'aborted' });
  }
}

/** Why a page that ended so proves nothing; null when it does. */
export function reasonOfEnd(end: PageEnd): string | null {
  switch (end.type) {
    case 'finish':
    case 'more':
    case 'eose':
      return null;
    case 'closed': {
      const refusal = refusalOf(end.text);
      return refusal === 'other' ? 'closed' : refusal;
    }
    default:
      return end.type;
  }
}
