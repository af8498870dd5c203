import type { Relay, VisitEnd, Wanted } from './bigbrotr.ts';
import type { LiveRelays } from './live.ts';
import { type PagesEnd, readPages } from './read-pages.ts';
import { Authenticator } from './relay/authentication.ts';
import { connectRelay, RelayError } from './relay/connection.ts';
import { afterVisit, type Manners, type Reception } from './relay/manners.ts';
import type { Gap } from './relay/paging.ts';
import { type RelaySession, Visit, type VisitContext } from './visit.ts';

export type { VisitContext } from './visit.ts';

/** What a visit did; plain data, for the thread that schedules. */
export interface VisitReport extends VisitEnd {
  readonly events: number;
  readonly sightings: number;
  readonly quarantined: number;
  /** What was refused, by reason. */
  readonly invalid: Record<string, number>;
  readonly bytes: number;
}

/**
 * Visits one relay: reads what its coverage lacks, archives what verifies, and remembers how the relay took it.
 * It can stop anywhere and goes on from what is proven. A relay that fails is a report, not an exception.
 *
 * @param live takes over the connection of a relay that is caught up; null where nothing is to be followed
 * @throws DatabaseError when the archive cannot be written; nothing is claimed then that is not stored.
 */
export async function visitRelay(
  relay: Relay,
  context: VisitContext,
  live: LiveRelays | null = null,
): Promise<VisitReport> {
  const { bigbrotr, filterId } = context;
  const wanted = await wantedOf(relay, context);
  if (!wanted) return idleReport('complete', null);
  const gaps = await bigbrotr.beginVisit(relay, wanted, context);
  const report =
    gaps.missing.length + gaps.stale.length === 0
      ? idleReport('complete', null)
      : await readRelay(relay, context, gaps, live);
  await bigbrotr.endVisit(relay, filterId, report);
  return report;
}

interface Gaps {
  readonly missing: Gap[];
  readonly stale: Gap[];
}

async function readRelay(
  relay: Relay,
  context: VisitContext,
  gaps: Gaps,
  live: LiveRelays | null,
): Promise<VisitReport> {
  const { bigbrotr } = context;
  const terms = await bigbrotr.relayTerms(relay);
  const session = live?.session(relay.url) ?? (await openSession(relay, context));
  if ('failure' in session) {
    if (session.failure === 'aborted') return idleReport('unfinished', 'stopped');
    await bigbrotr.setManners(relay, afterVisit(terms, 'failed', context.now()));
    return idleReport('failed', session.failure);
  }
  const visit = new Visit(relay, context, session, terms);
  let followed = false;
  try {
    const end = await readGaps(visit, gaps);
    await visit.writer.flush();
    visit.tellInvalid();
    const report = reportOf(visit, end);
    await bigbrotr.setManners(relay, mannersAfter(visit, report, end));
    followed =
      report.outcome !== 'failed' &&
      report.outcome !== 'unfinished' &&
      (live?.follow(visit) ?? false);
    return report;
  } finally {
    if (!followed) session.connection.close();
  }
}

/** The stretch of time that this visit should cover; null when it is empty. */
async function wantedOf(relay: Relay, context: VisitContext): Promise<Wanted | null> {
  const { bigbrotr, filterId, startTimestamp, stopTimestamp, now } = context;
  const until = stopTimestamp === 'now' ? now() : stopTimestamp;
  const since =
    startTimestamp === 'resume'
      ? ((await bigbrotr.newestCovered(relay, filterId)) ?? 0)
      : startTimestamp;
  return since <= until ? { filterId, since, until } : null;
}

async function openSession(
  relay: Relay,
  { connect, signal, secretKey }: VisitContext,
): Promise<RelaySession | { failure: string }> {
  try {
    const connection = await connectRelay(relay.url, { ...connect, signal });
    return { connection, authenticator: new Authenticator(connection, secretKey) };
  } catch (error) {
    if (!(error instanceof RelayError)) throw error;
    return { failure: error.reason };
  }
}

/** What was never proven comes first; then what was proven long ago. */
async function readGaps(visit: Visit, gaps: Gaps): Promise<PagesEnd> {
  const end = await readPages(visit, gaps.missing);
  if (end.stopped !== null || end.interrupted !== null || gaps.stale.length === 0) return end;
  return readPages(visit, gaps.stale);
}

function reportOf(visit: Visit, { stopped, interrupted }: PagesEnd): VisitReport {
  const figures = {
    pages: visit.requests,
    ...visit.stored,
    invalid: Object.fromEntries(visit.invalid),
    bytes: visit.bytesReceived,
  };
  if (interrupted !== null) return { outcome: 'unfinished', detail: interrupted, ...figures };
  if (stopped !== null)
    return { outcome: visit.proved ? 'partial' : 'failed', detail: stopped, ...figures };
  if (visit.holes > 0) {
    return { outcome: 'partial', detail: `${visit.holes} stretches cannot be proven`, ...figures };
  }
  return { outcome: 'complete', detail: null, ...figures };
}

function mannersAfter(visit: Visit, { outcome }: VisitReport, { limit }: PagesEnd): Manners {
  const reception: Reception = visit.refusal ?? (outcome === 'failed' ? 'failed' : 'welcome');
  const manners = afterVisit(visit.manners, reception, visit.context.now());
  // A limit that was lowered and then answered is the relay's own.
  return visit.proved && limit < visit.context.batchSize
    ? { ...manners, pageLimit: limit }
    : manners;
}

function idleReport(outcome: VisitEnd['outcome'], detail: string | null): VisitReport {
  return {
    outcome,
    detail,
    pages: 0,
    events: 0,
    sightings: 0,
    quarantined: 0,
    invalid: {},
    bytes: 0,
  };
}
