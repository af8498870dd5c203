import { Contacts, Metadata, ShortTextNote } from 'nostr-tools/kinds';
import type { EventFilter, ReqFilter } from '../nostr/filter.ts';
import { isFilterRefusal } from '../nostr/filter-refusal.ts';
import { refusalOf } from '../nostr/message.ts';
import type { RelayConnection } from './connection.ts';
import type { AnswerFailure, PageEnd } from './page-end.ts';
import { readPage } from './subscription.ts';

/** Far above one event with `limit: 1`: bounds a relay that ignores the limit. */
const READ_LIMITS = { maxEvents: 500, maxBytes: 16 * 1024 * 1024 };

/** The first event, or null when there is none; `reason` is why the relay gave neither. */
export interface FirstAnswer {
  readonly event: object | null;
  readonly reason: AnswerFailure | null;
  readonly durationMs: number;
}

/** Sends a REQ and returns its first event or how it ended. `timeoutMs` is the longest wait, in milliseconds. Never throws. */
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

/** What a request asked for: any event, events of the archived filter, or events of a few kinds. */
export type Asked = 'bare' | 'filter' | 'kinds';

/** Kinds requested from a relay that refuses filters without kinds: those that most relays hold, notes last. */
const COMMON_KINDS: readonly (readonly number[])[] = [[Metadata, Contacts], [ShortTextNote]];

/**
 * Sends the request of the synchronizer: events of its filter, or any event when that is `{}`. If the relay refuses the
 * filter for its shape, or by CLOSED without a clear reason, the request is repeated with one value of each list, and then
 * by kinds. The reason is that of the first refusal which is not about the filter. Never throws.
 *
 * @param until requests events at or before it, Unix seconds; default: the newest
 */
export async function firstAnswerOf(
  connection: RelayConnection,
  filter: EventFilter,
  options: { readonly timeoutMs: number; readonly signal: AbortSignal },
  until?: number,
): Promise<FirstAnswer & { readonly asked: Asked }> {
  let last: (FirstAnswer & { readonly asked: Asked }) | null = null;
  for (const question of filterVariants(filter)) {
    const { asked } = question;
    const bounded = until === undefined ? question.filter : { ...question.filter, until };
    const answer = await firstAnswer(connection, { ...bounded, limit: 1 }, options);
    if (answer.reason === null || !last || isFilterRefusal(last.reason))
      last = { ...answer, asked };
    if (!mayConcernFilter(answer.reason) || !connection.isOpen) break;
  }
  if (!last) throw new Error('a filter has at least one variant');
  return last;
}

/** Whether the relay may accept a narrower filter. `blocked:` and `restricted:` are prefixes of refused filters too. */
export function mayConcernFilter(reason: string | null): boolean {
  return (
    isFilterRefusal(reason) ||
    reason === 'closed' ||
    reason === 'blocked' ||
    reason === 'restricted'
  );
}

/** The filter and narrower ones, in the order in which they are tried after a refusal. */
export function filterVariants(
  filter: EventFilter,
): { readonly asked: Asked; readonly filter: EventFilter }[] {
  const own = { asked: Object.keys(filter).length === 0 ? 'bare' : 'filter', filter } as const;
  const narrow = narrowFilter(filter);
  const isNarrower = Object.keys(filter).some(
    (key) => (filter[key as '#t']?.length ?? 0) > (narrow[key as '#t']?.length ?? 0),
  );
  const kinds = filter.kinds ? [] : COMMON_KINDS.map((kinds) => ({ ...narrow, kinds }));
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

/** Why a page with this end proves nothing; null when it may prove something. */
export function reasonOfEnd(end: PageEnd): AnswerFailure | null {
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
