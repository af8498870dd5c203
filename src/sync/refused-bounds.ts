import type { ReqFilter } from '../nostr/filter.ts';
import { refusalOf } from '../nostr/message.ts';
import type { PageEnd } from '../relay-client/subscription.ts';

type Filters = ReqFilter | readonly ReqFilter[];
type Bound = 'since' | 'until';

/** Words about a part of a request: both bounds are plain English as well. */
const OF_REQUEST =
  '(?:future|ahead|too \\w+|invalid|unsupported|supported|allowed|permitted|accepted|must|can ?not|bad|filters?|parameter|field)';
const NAMED: Readonly<Record<Bound, RegExp>> = { since: named('since'), until: named('until') };
/** `until` may be left out of a request for events up to the last seconds, where nothing is expected above it. */
const RECENT_SECONDS = 300;

/**
 * Bounds of a filter that a relay refuses in words that name them, such as an `until` that its clock has not reached yet.
 * Requests are then sent without: their pages show more than was asked for, which paging takes for what it is.
 */
export class RefusedBounds {
  readonly #refused = new Set<Bound>();

  /** What is sent instead of these filters. @param now Unix seconds */
  without(filters: Filters, now: number): Filters {
    if (this.#refused.size === 0) return filters;
    return isList(filters)
      ? filters.map((filter) => this.#without(filter, now))
      : this.#without(filters, now);
  }

  /** Learns from the answer to these filters. @returns whether to send them again, without what was refused */
  learn(filters: Filters, end: PageEnd, now: number): boolean {
    if (end.type !== 'closed' || refusalOf(end.text) === 'rate_limited') return false;
    const sent = isList(filters) ? filters : [filters];
    for (const bound of ['since', 'until'] as const) {
      const isSent = sent.some((filter) => mayLeaveOut(filter, bound, now));
      if (!isSent || this.#refused.has(bound) || !NAMED[bound].test(end.text)) continue;
      this.#refused.add(bound);
      return true;
    }
    return false;
  }

  #without(filter: ReqFilter, now: number): ReqFilter {
    const { since, until, ...rest } = filter;
    const keeps = (bound: Bound) => !this.#refused.has(bound) || !mayLeaveOut(filter, bound, now);
    return {
      ...rest,
      ...(since !== undefined && keeps('since') && { since }),
      ...(until !== undefined && keeps('until') && { until }),
    };
  }
}

function named(bound: Bound): RegExp {
  const word = `\\b${bound}\\b`;
  return new RegExp(`${word}.{0,40}\\b${OF_REQUEST}\\b|\\b${OF_REQUEST}\\b.{0,40}${word}`, 'i');
}

function mayLeaveOut({ since, until }: ReqFilter, bound: Bound, now: number): boolean {
  return bound === 'since'
    ? since !== undefined
    : until !== undefined && until > now - RECENT_SECONDS;
}

function isList(filters: Filters): filters is readonly ReqFilter[] {
  return Array.isArray(filters);
}
