import type { EventFilter, ReqFilter } from '../nostr/filter.ts';
import { isFilterRefusal } from '../nostr/filter-refusal.ts';
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

/** With what a relay was asked: any event, events of the filter that is archived, or events of a few kinds. */
export type Asked = 'bare' | 'filter' | 'kinds';

/** Kinds that are asked for where a relay refuses filters without any: those that most relays hold, and notes last. */
const KINDS_ASKED: readonly (readonly number[])[] = [[0, 3], [1]];

/**
 * Asks what the synchronizer will ask: events of its filter, or any event where that is `{}`. A relay that refuses the
 * filter for its shape, or by CLOSED without a reason that tells, is asked with one value of each list, and then by
 * kinds. The reason is that of the first refusal which does not speak of the filter.
 */
export async function firstAnswerOf(
  connection: RelayConnection,
  filter: EventFilter,
  options: { readonly timeoutMs: number; readonly signal: AbortSignal },
): Promise<FirstAnswer & { readonly asked: Asked }> {
  let last: (FirstAnswer & { readonly asked: Asked }) | null = null;
  for (const question of questionsOf(filter)) {
    const { asked } = question;
    const answer = await firstAnswer(connection, { ...question.filter, limit: 1 }, options);
    if (answer.reason === null || !last || isFilterRefusal(last.reason))
      last = { ...answer, asked };
    if (!mayBeOfFilter(answer.reason) || !connection.isOpen) break;
  }
  if (!last) throw new Error('there is always something to ask');
  return last;
}

/** Whether a narrower filter may be taken after this. `blocked:` and `restricted:` stand before refusals of filters too. */
export function mayBeOfFilter(reason: string | null): boolean {
  return (
    isFilterRefusal(reason) ||
    reason === 'closed' ||
    reason === 'blocked' ||
    reason === 'restricted'
  );
}

/** The questions in turn; each is asked where the one before it may have been refused for its shape. */
export function questionsOf(
  filter: EventFilter,
): { readonly asked: Asked; readonly filter: EventFilter }[] {
  const own = { asked: Object.keys(filter).length === 0 ? 'bare' : 'filter', filter } as const;
  const narrow = narrowFilter(filter);
  const isNarrower = Object.keys(filter).some(
    (key) => (filter[key as '#t']?.length ?? 0) > (narrow[key as '#t']?.length ?? 0),
  );
  const kinds = filter.kinds ? [] : KINDS_ASKED.map((kinds) => ({ ...narrow, kinds }));
  return [
    own,
    ...(isNarrower ? [{ asked: 'filter' as const, filter: narrow }] : []),
    ...kinds.map((filter) => ({ asked: 'kinds' as const, filter })),
  ];
}

/** The filter with the first value of each list alone. */
function narrowFilter(filter: EventFilter): EventFilter {
  return Object.fromEntries(
    Object.entries(filter).flatMap(([key, values]) => (values ? [[key, values.slice(0, 1)]] : [])),
  );
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
