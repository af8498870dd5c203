import { crashPoint } from './crash-point.ts';
import type { ReqFilter } from './nostr/filter.ts';
import { refusalOf } from './nostr/message.ts';
import { type Gap, type PageRequest, Pager, PageTally } from './relay/paging.ts';
import type { Visit } from './visit.ts';

/** How reading ended: everything asked, stopped by the relay, or interrupted by us. */
export interface PagesEnd {
  readonly stopped: string | null;
  readonly interrupted: string | null;
}

/** Below this a claimed `max_limit` is taken for a mistake. */
const SMALLEST_LIMIT = 20;

/** Reads gaps page by page, newest first; what a page proves is stored with its events. @throws DatabaseError */
export async function readPages(visit: Visit, gaps: readonly Gap[]): Promise<PagesEnd> {
  const pager = new Pager(gaps, { limit: pageLimit(visit) });
  const end = (interrupted: string | null) => ({ stopped: pager.stopped, interrupted });
  let limitRefused = false;
  for (let request = pager.next(); request; request = pager.next()) {
    const interruption = visit.interruption();
    if (interruption) return end(interruption);
    if (visit.isFlooded) {
      pager.stopped = 'too many forged or broken events';
      return end(null);
    }
    const tally = new PageTally(request);
    const page = await visit.ask(reqFilter(visit, request), tally);
    if (page.type === 'aborted') return end('stopped');
    if (visit.refusal !== null) {
      pager.stopped = page.type === 'closed' ? `${visit.refusal}: ${page.text}` : visit.refusal;
      return end(null);
    }
    if (page.type === 'closed') limitRefused ||= refusalOf(page.text) === 'limit';
    else if (limitRefused && page.type !== 'timeout' && page.type !== 'disconnected') {
      visit.manners = { ...visit.manners, pageLimit: request.limit };
      limitRefused = false;
    }
    crashPoint('after-page', visit.relay.url);
    const verdict = pager.accept(tally, page);
    visit.proved ||= verdict.proven.length > 0;
    visit.holes += verdict.holes.length;
    const restsOnSilence = pager.silent && verdict.evidence === 'paging';
    await visit.writer.endPage(restsOnSilence ? { ...verdict, evidence: 'silence' } : verdict);
  }
  return end(null);
}

/** The relay's own limit where it names one (NIP-11 `max_limit`) or was found to have one. */
function pageLimit({ context, terms, manners }: Visit): number {
  const limits = [context.batchSize, terms.limitation?.max_limit, manners.pageLimit];
  const smallest = Math.min(
    ...(limits.filter((limit) => typeof limit === 'number' && limit > 0) as number[]),
  );
  return Math.max(smallest, Math.min(SMALLEST_LIMIT, context.batchSize));
}

function reqFilter({ context }: Visit, { since, until, limit }: PageRequest): ReqFilter {
  return since > 0
    ? { ...context.filter, since, until, limit }
    : { ...context.filter, until, limit };
}
