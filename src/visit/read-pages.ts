import { crashPoint } from '../crash-point.ts';
import type { ReqFilter } from '../nostr/filter.ts';
import {
  type Gap,
  type PageRequest,
  Pager,
  PageTally,
  stopText,
  type Verdict,
} from '../relay/paging.ts';
import { PageSize } from './page-size.ts';
import type { Visit } from './visit.ts';

/** How reading ended: everything asked, stopped by the relay, or interrupted by us. */
export interface PagesEnd {
  readonly stopped: string | null;
  readonly interrupted: string | null;
}

/**
 * Reads gaps page by page, newest first; what a page proves is stored with its events.
 *
 * @param onPage hears of each page; true ends reading there
 * @throws DatabaseError
 */
export async function readPages(
  visit: Visit,
  gaps: readonly Gap[],
  onPage?: (verdict: Verdict) => Promise<boolean>,
): Promise<PagesEnd> {
  const size = new PageSize(visit);
  const pager = new Pager(gaps, { limit: size.limit });
  const end = (interrupted: string | null) => ({
    stopped: pager.stopped && stopText(pager.stopped),
    interrupted,
  });
  for (let request = pager.next(); request; request = pager.next()) {
    const interruption = visit.interruption();
    if (interruption) return end(interruption);
    if (visit.isFlooded) {
      pager.stop('forged', 'too many forged or broken events');
      return end(null);
    }
    const tally = new PageTally(request);
    const page = await visit.ask(reqFilter(visit, request), tally);
    if (page.type === 'aborted') return end('stopped');
    if (visit.refusal !== null) {
      pager.stop(visit.refusal, page.type === 'closed' ? page.text : '');
      return end(null);
    }
    if (visit.filterRefusal !== null) {
      pager.stop('filter_refused', visit.filterRefusal.text);
      return end(null);
    }
    crashPoint('after-page', visit.relay.url);
    const verdict = pager.accept(tally, page);
    const isLost = page.type === 'oversized' || page.type === 'disconnected';
    if (isLost && pager.next() !== null && !(await visit.reconnect()))
      pager.stop(page.type, page.text);
    const limit = size.after(request, tally, page);
    if (limit !== null) pager.useLimit(limit);
    visit.proved ||= verdict.proven.length > 0;
    visit.holes += verdict.holes.length;
    const restsOnSilence = pager.silent && !visit.holdsOthers && verdict.evidence === 'paging';
    await visit.writer.endPage(restsOnSilence ? { ...verdict, evidence: 'silence' } : verdict);
    if (await onPage?.(verdict)) return end(null);
  }
  return end(null);
}

function reqFilter({ context }: Visit, { since, until, limit }: PageRequest): ReqFilter {
  return since > 0
    ? { ...context.filter, since, until, limit }
    : { ...context.filter, until, limit };
}
