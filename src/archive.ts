import type { Relay, VisitEnd, Wanted } from './bigbrotr.ts';
import { afterVisit, type Manners, type Reception } from './relay/manners.ts';
import type { Gap } from './relay/paging.ts';
import { blame } from './relay/tor.ts';
import type { LiveRelays } from './visit/live.ts';
import { readGaps, readWithheld } from './visit/read-gaps.ts';
import type { PagesEnd } from './visit/read-pages.ts';
import { openSession } from './visit/session.ts';
import { TIME_IS_UP, Visit, type VisitContext } from './visit/visit.ts';

export type { VisitContext } from './visit/visit.ts';

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
  const gaps = await bigbrotr.beginVisit(relay, wanted, context);
  const read =
    gaps.missing.length + gaps.stale.length === 0
      ? idleReport('complete', null)
      : await readRelay(relay, context, gaps, live);
  // Holes are not asked for again at each visit, but a relay that has one is not complete.
  const holes = read.outcome === 'complete' ? await bigbrotr.countHoles(relay, wanted) : 0;
  const withheld = await withheldBy(relay, context, wanted);
  const details = [
    ...(holes > 0 ? [`${holes} stretches cannot be proven`] : []),
    ...(withheld > 0 ? [`${withheld} events are listed and withheld`] : []),
  ];
  const isPartial = read.outcome === 'complete' && details.length > 0;
  const report: VisitReport = isPartial
    ? { ...read, outcome: 'partial', detail: details.join(', ') }
    : read;
  await bigbrotr.endVisit(relay, filterId, report);
  return report;
}

/** Events of what is wanted that the relay lists by NIP-77 and has not shown. */
async function withheldBy(
  relay: Relay,
  { bigbrotr, filterId }: VisitContext,
  wanted: Wanted,
): Promise<number> {
  const key = { relay, filterId };
  if ((await bigbrotr.withheld.count(key, wanted)) === 0) return 0;
  await bigbrotr.withheld.forgetSighted(key);
  return bigbrotr.withheld.count(key, wanted);
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
  const session = live?.take(relay.url) ?? (await openSession(relay, context));
  if ('failure' in session) {
    if (session.failure === 'aborted') return idleReport('unfinished', 'stopped');
    // It is Tor that failed, and no matter of this relay's manners.
    if (session.failure === 'proxy_down') return idleReport('unfinished', 'proxy_down');
    await bigbrotr.setManners(relay, afterVisit(terms, 'failed', context.now()));
    return idleReport('failed', session.failure);
  }
  const visit = new Visit(relay, context, session, terms);
  let followed = false;
  try {
    const end = await readAll(visit, gaps);
    await visit.writer.flush();
    visit.tellInvalid();
    const report = await withBlame(reportOf(visit, end), visit);
    await bigbrotr.setManners(relay, mannersAfter(visit, report));
    const welcome = report.outcome !== 'failed' && visit.refusal === null;
    followed = welcome && (live?.follow(visit, end.caughtUp) ?? false);
    return report;
  } finally {
    if (!followed) visit.session.connection.close();
  }
}

/** The stretch of time that this visit should cover. It is empty when it would end before it begins. */
async function wantedOf(relay: Relay, context: VisitContext): Promise<Wanted> {
  const { bigbrotr, filterId, startTimestamp, stopTimestamp, overlapSeconds, now } = context;
  const since =
    startTimestamp === 'resume'
      ? await bigbrotr.resumeFrom(relay, filterId, overlapSeconds)
      : startTimestamp;
  const until = stopTimestamp === 'now' ? now() : stopTimestamp;
  return { filterId, since, until: Math.max(until, since - 1) };
}

interface GapsEnd extends PagesEnd {
  /** Whether all that was missing has been asked for, proven or not. */
  readonly caughtUp: boolean;
}

/** What was never proven comes first; then what was proven long ago, and what the relay withholds. */
async function readAll(visit: Visit, gaps: Gaps): Promise<GapsEnd> {
  const end = await readGaps(visit, gaps.missing, false);
  const caughtUp = end.interrupted === null;
  if (!caughtUp || end.stopped !== null) return { ...end, caughtUp };
  const last = { ...(await readGaps(visit, gaps.stale, true)), caughtUp };
  if (last.interrupted === null && last.stopped === null) await readWithheld(visit);
  return last;
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
  return { outcome: 'complete', detail: null, ...figures };
}

/** A visit that Tor cut short is one that goes on another time, and no failure of the relay. */
async function withBlame(report: VisitReport, visit: Visit): Promise<VisitReport> {
  if ((report.outcome !== 'failed' && report.outcome !== 'partial') || visit.refusal !== null)
    return report;
  const { relay, context, session } = visit;
  const reason = session.connection.isOpen ? 'timeout' : 'disconnected';
  const blamed = await blame(relay.url, reason, { ...context.connect, signal: context.signal });
  if (blamed !== 'proxy_down') return report;
  return { ...report, outcome: 'unfinished', detail: 'proxy_down' };
}

function mannersAfter(visit: Visit, { outcome, detail }: VisitReport): Manners {
  const inVain = outcome === 'unfinished' && !visit.proved;
  // A visit that we cut off before the relay has answered tells nothing. One that used up its time does: others wait.
  const usedUp = inVain && detail === TIME_IS_UP && visit.requests > 0;
  const failed = outcome === 'failed' || usedUp;
  const reception: Reception = visit.refusal ?? (failed ? 'failed' : 'welcome');
  if (reception === 'welcome' && inVain) return visit.manners;
  return afterVisit(visit.manners, reception, visit.context.now());
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
