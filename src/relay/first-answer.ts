import type { ReqFilter } from '../nostr/filter.ts';
import { refusalOf } from '../nostr/message.ts';
import type { RelayConnection } from './connection.ts';
import { type PageEnd, readPage } from './subscription.ts';

/** Far more than one event with `limit: 1` needs; a relay that ignores the limit is cut here. */
const READ_LIMITS = { maxEvents: 500, maxBytes: 16 * 1024 * 1024 };

/** The first event, or null when there is none; `reason` is why neither can be told. */
export interface FirstAnswer {
  readonly event: object | null;
  readonly reason: string | null;
  readonly durationMs: number;
}

/** Sends a REQ and takes its first event or its end. `timeoutMs` is the longest wait, in milliseconds. Never throws. */
export async function firstAnswer(
  connection: RelayConnection,
  filter: ReqFilter,
  { timeoutMs, signal }: { readonly timeoutMs: number; readonly signal: AbortSignal },
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
    case 'disconnected':
      return end.refusal ?? end.type;
    default:
      return end.type;
  }
}
