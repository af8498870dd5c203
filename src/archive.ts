import { setTimeout as sleep } from 'node:timers/promises';
import type { Flaws, Relay, VisitEnd, VisitGaps, Wanted } from './bigbrotr.ts';
import { afterVisit, type Manners, type Reception } from './relay/manners.ts';
import { stopText } from './relay/pager-stop.ts';
import { blame } from './relay/tor.ts';
import { noteContradicted } from './visit/claims.ts';
import type { LiveRelays } from './visit/live.ts';
import { type FilterEnd, type GapsEnd, readFilter } from './visit/read-filter.ts';
import { readGaps, readWithheld } from './visit/read-gaps.ts';
import { isRateLimit, openSession } from './visit/session.ts';
import { Visit, type VisitContext } from './visit/visit.ts';
import { stopOf, stopOfFlaws, type VisitStop } from './visit/visit-stop.ts';

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

/** With so many forged and malformed events, and fewer others, a visit says that they were most of what came. */
const MANY_BROKEN_EVENTS = 20;

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
      : await readRelay(relay, context, wanted, gaps, live);
  const report =
    read.outcome === 'complete'
      ? withFlaws(
          read,
          await bigbrotr.countFlaws(relay, wanted),
          await bigbrotr.withheld.countUnseen({ relay, filterId }, wanted),
        )
      : read;
  await bigbrotr.endVisit(relay, filterId, report);
  return report;
}

async function readRelay(
  relay: Relay,
  context: VisitContext,
  wanted: Wanted,
  gaps: VisitGaps,
  live: LiveRelays | null,
): Promise<VisitReport> {
  const { bigbrotr } = context;
  const terms = await bigbrotr.relayTerms(relay);
  const session = live?.take(relay.url) ?? (await openSession(relay, context));
  if ('failure' in session) {
    if (session.failure === 'aborted') return idleReport('unfinished', stopOf('stopped'));
    // It is Tor that failed, and no matter of this relay's manners.
    if (session.failure === 'proxy_down') return idleReport('unfinished', stopOf('proxy_down'));
    const { failure, retryAfterSeconds: after } = session;
    if (after !== null) await bigbrotr.retryTimes.setRelay(relay, after);
    const reception: Reception = isRateLimit(failure, after) ? 'rate_limited' : 'failed';
    await bigbrotr.setManners(relay, afterVisit(terms, reception, context.now(), after));
    return idleReport('failed', stopOf(session.failure));
  }
  const visit = new Visit(relay, context, session, terms);
  let followed = false;
  try {
    const end = await readFilter(visit, wanted, gaps, readAll);
    await awaitLate(visit);
    await visit.writer.flush();
    if (visit.distrust && end.interrupted !== null) await noteContradicted(visit);
    visit.intake.tellInvalid();
    const report = withBearing(await withBlame(reportOf(visit, end), visit), visit);
    const { retryAfterSeconds: after } = visit;
    if (after !== null) await bigbrotr.retryTimes.setRelay(relay, after);
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

/** What was never proven comes first; then what was proven long ago, and what the relay withholds. */
async function readAll(visit: Visit, gaps: VisitGaps): Promise<GapsEnd> {
  const end = await readGaps(visit, gaps.missing, false);
  const caughtUp = end.interrupted === null;
  if (!caughtUp || end.stopped !== null) return { ...end, caughtUp };
  const last = { ...(await readGaps(visit, gaps.stale, true)), caughtUp };
  if (last.interrupted === null && last.stopped === null) await readWithheld(visit);
  return last;
}

/** Claims of a stretch at least this long, in seconds, rest on history that was read for the first time. */
const HISTORY = 86_400;

/**
 * Takes what comes late after the last answer. A reading of history that took less time than late events may take waits
 * for the rest of that time; others wait for nothing. @throws DatabaseError
 */
async function awaitLate(visit: Visit): Promise<void> {
  const { claims, context, firstEndAt, session } = visit;
  const windows = claims.filterIds.flatMap((filterId) => claims.of(filterId, 'paging'));
  const isHistory = windows.some(({ since, until }) => until - since >= HISTORY);
  const left = (firstEndAt ?? 0) + visit.lingerMs - performance.now();
  if (isHistory && firstEndAt !== null && left > 0 && session.connection.isOpen)
    await sleep(left, undefined, { signal: context.signal }).catch(() => {});
  await visit.checkLate();
}

function reportOf(visit: Visit, { stopped, interrupted, lacking }: FilterEnd): VisitReport {
  const figures = {
    pages: visit.requests,
    ...visit.stored,
    invalid: Object.fromEntries(visit.intake.invalid),
    bytes: visit.bytesReceived,
  };
  const outcome = visit.proved ? 'partial' : 'failed';
  if (visit.distrust) return { outcome, ...stopOf(stopText(visit.distrust)), ...figures };
  if (interrupted !== null) return { outcome: 'unfinished', ...stopOf(interrupted), ...figures };
  if (stopped !== null) return { outcome, ...stopOf(stopText(stopped)), ...figures };
  if (lacking !== null) return { outcome: 'partial', ...stopOf(lacking), ...figures };
  return { outcome: 'complete', ...mostlyBroken(visit), ...figures };
}

/** A complete reading of which most was refused says so: what is proven then is that there is little else. */
function mostlyBroken({ intake }: Visit): Pick<VisitEnd, 'reason' | 'detail'> {
  const { broken, good } = intake;
  if (broken < MANY_BROKEN_EVENTS || broken <= good) return { reason: null, detail: null };
  const detail = `${broken} of ${broken + good} events were refused, forged or malformed`;
  return { reason: 'forged', detail };
}

/**
 * Holes are not asked for again at each visit, but a relay that has one is not complete. Nor are forged events, but a
 * relay that never sent any other is not one that has nothing.
 */
function withFlaws(
  report: VisitReport,
  { holes, brokenAlone }: Flaws,
  withheld: number,
): VisitReport {
  const stop = stopOfFlaws(holes, withheld);
  if (stop !== null) return { ...report, outcome: 'partial', ...stop };
  if (brokenAlone === 0 || report.reason !== null) return report;
  const detail = `all ${brokenAlone} events that it ever sent were refused, forged or malformed`;
  return { ...report, reason: 'forged', detail };
}

/** A visit that Tor cut short is one that goes on another time, and no failure of the relay. */
async function withBlame(report: VisitReport, visit: Visit): Promise<VisitReport> {
  if ((report.outcome !== 'failed' && report.outcome !== 'partial') || visit.refusal !== null)
    return report;
  const { relay, context, session } = visit;
  const reason = session.connection.isOpen ? 'timeout' : 'disconnected';
  const blamed = await blame(relay.url, reason, { ...context.connect, signal: context.signal });
  if (blamed !== 'proxy_down') return report;
  return { ...report, outcome: 'unfinished', ...stopOf('proxy_down') };
}

/** What an unfinished visit says of its relay. One that used up its time in vain has failed: others wait meanwhile. */
function withBearing(report: VisitReport, { proved, requests }: Visit): VisitReport {
  if (report.outcome !== 'unfinished') return report;
  const usedUp = report.reason === 'time_is_up' && requests > 0;
  return { ...report, countsAs: proved ? 'success' : usedUp ? 'failure' : 'neither' };
}

function mannersAfter(visit: Visit, { outcome, countsAs }: VisitReport): Manners {
  const failed = outcome === 'failed' || countsAs === 'failure';
  const reception: Reception = refusalOfRelay(visit) ?? (failed ? 'failed' : 'welcome');
  if (reception === 'welcome' && countsAs === 'neither') return visit.manners;
  return afterVisit(visit.manners, reception, visit.context.now(), visit.retryAfterSeconds);
}

/**
 * What the relay refuses us with. One that has proven something in this visit serves us, and refuses something else,
 * such as its history: it is left alone as after a failure, not for days.
 */
function refusalOfRelay({ refusal, proved }: Visit): Reception | null {
  return proved && refusal !== null && refusal !== 'rate_limited' ? 'failed' : refusal;
}

function idleReport(outcome: VisitEnd['outcome'], stop: VisitStop | null): VisitReport {
  return {
    outcome,
    reason: stop?.reason ?? null,
    detail: stop?.detail ?? null,
    pages: 0,
    events: 0,
    sightings: 0,
    quarantined: 0,
    invalid: {},
    bytes: 0,
  };
}
