import { setTimeout as sleep } from 'node:timers/promises';
import type { Relay, VisitGaps, Wanted } from '../database/bigbrotr.ts';
import { ClaimLost } from '../database/claims.ts';
import { attributeFailure, isOurFailure } from '../network/attribute-failure.ts';
import {
  afterVisit,
  isSamePolicy,
  type RelayPolicy,
  type VisitResult,
} from '../network/relay-policy.ts';
import { networkOf } from '../network/url.ts';
import { JobCancelled } from '../runtime/worker-thread.ts';
import type { LiveRelays } from './live.ts';
import type { PagesEnd } from './paging/read-pages.ts';
import { type GapsEnd, readFilter } from './read-filter.ts';
import { readGaps, readUnanswered, readWithheld, settle } from './read-gaps.ts';
import { isRateLimit, openSession } from './session.ts';
import { Visit, type VisitContext } from './visit.ts';
import { idleReport, reportOf, type VisitReport, withFlaws } from './visit-report.ts';
import { stopOfConnection } from './visit-stop.ts';

export type { VisitContext } from './visit.ts';
export type { VisitReport } from './visit-report.ts';

/**
 * Visits one relay: reads the gaps of its coverage, archives the events that verify, and updates the relay policy. A visit
 * can stop anywhere; the next one continues from what is proven. A relay that fails is a report, not an exception.
 *
 * @param live takes over the connection of a relay that is caught up; null without live subscriptions
 * @throws DatabaseError when the archive cannot be written; coverage claims nothing then that is not stored. ClaimLost when
 * another process holds the relay now: events are stored, and nothing else is written.
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
    gaps.missing.length + gaps.stale.length + gaps.unanswered.length === 0
      ? idleReport('complete', null)
      : await readRelay(relay, context, wanted, gaps, live);
  const report =
    read.outcome === 'complete' ? withFlaws(read, await bigbrotr.countFlaws(relay, wanted)) : read;
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
    const { failure, retryAfterSeconds: after } = session;
    const stop = stopOfConnection(failure);
    // Shutting down, a failure of Tor or of our own network: not a matter of this relay's policy.
    if (failure === 'aborted' || isOurFailure(failure)) return idleReport('unfinished', stop);
    if (after !== null) await bigbrotr.retryTimes.setRelay(relay, after);
    const visitResult: VisitResult = isRateLimit(failure, after) ? 'rate_limited' : 'failed';
    await bigbrotr.setRelayPolicy(relay, afterVisit(terms, visitResult, context.now(), after));
    return idleReport('failed', stop);
  }
  const visit = new Visit(relay, context, session, terms);
  const { signal } = context;
  // At once, and not when what has arrived is stored: the next holder connects.
  const onAbort = () => signal.reason instanceof JobCancelled && visit.session.connection.close();
  signal.addEventListener('abort', onAbort, { once: true });
  let followed = false;
  try {
    const end = await readFilter(visit, wanted, gaps, readAll);
    await awaitLate(visit);
    await visit.writer.flush();
    const { proofs } = visit;
    if (proofs.distrusted && end.interrupted !== null) await proofs.noteContradicted();
    visit.intake.reportInvalid();
    const report = withVisitCount(await withAttributedFailure(reportOf(visit, end), visit), visit);
    const { retryAfterSeconds: after } = visit;
    if (after !== null) await bigbrotr.retryTimes.setRelay(relay, after);
    const policy = policyAfter(visit, report);
    if (!terms.hasPolicy || !isSamePolicy(policy, terms))
      await bigbrotr.setRelayPolicy(relay, policy);
    const mayFollow = report.outcome !== 'failed' && visit.refusal === null;
    followed = mayFollow && (live?.follow(visit, end.live, end.caughtUp) ?? false);
    return report;
  } catch (error) {
    if (error instanceof ClaimLost) await visit.writer.storeRest();
    throw error;
  } finally {
    signal.removeEventListener('abort', onAbort);
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

/** What was never proven comes first; then what was proven long ago, and what the relay lists and has not served. */
async function readAll(visit: Visit, gaps: VisitGaps): Promise<GapsEnd> {
  const missing = await readGaps(visit, gaps.missing, false);
  const end = isCutOff(missing) ? missing : await readProven(visit, gaps);
  const settled = await settle(visit, end);
  const isLeft = missing.interrupted !== null || settled.interrupted !== end.interrupted;
  return { ...settled, caughtUp: !isLeft };
}

async function readProven(visit: Visit, { stale, unanswered }: VisitGaps): Promise<PagesEnd> {
  const end = await readGaps(visit, stale, true);
  if (isCutOff(end)) return end;
  const last = await readUnanswered(visit, unanswered);
  if (!isCutOff(last)) await readWithheld(visit);
  return last;
}

function isCutOff({ stopped, interrupted }: PagesEnd): boolean {
  return stopped !== null || interrupted !== null;
}

/** Claims of a stretch at least this long, in seconds, rest on history that was read for the first time. */
const HISTORY = 86_400;

/**
 * Takes what comes late after the last answer. A reading of history that took less time than late events may take waits
 * for the rest of that time; others wait for nothing. A relay that has filled pages before their EOSE needs a fifth of
 * it: this seldom outlasts the reading. @throws DatabaseError
 */
async function awaitLate(visit: Visit): Promise<void> {
  const { context, firstEndAt, session } = visit;
  const { claims } = visit.proofs;
  const windows = claims.filterIds.flatMap((filterId) => claims.of(filterId, 'paging'));
  const isHistory = windows.some(({ since, until }) => until - since >= HISTORY);
  const waitMs = visit.lingerMs * visit.late.shareOfWait;
  const left = (firstEndAt ?? 0) + waitMs - performance.now();
  if (isHistory && firstEndAt !== null && left > 0 && session.connection.isOpen)
    await sleep(left, undefined, { signal: context.signal }).catch(() => {});
  await visit.checkLate();
}

/** A visit that Tor or our own network cut short is one that goes on another time, and no failure of the relay. */
async function withAttributedFailure(report: VisitReport, visit: Visit): Promise<VisitReport> {
  if ((report.outcome !== 'failed' && report.outcome !== 'partial') || visit.refusal !== null)
    return report;
  const { relay, context, session } = visit;
  const end = session.connection.isOpen ? 'timeout' : 'disconnected';
  const attributed = await attributeFailure(
    relay.url,
    networkOf(relay.url) === 'tor' ? end : (report.reason ?? 'none'),
    { ...context.connect, signal: context.signal, sinceMs: visit.beganAt },
  );
  if (!isOurFailure(attributed)) return report;
  return { ...report, outcome: 'unfinished', ...stopOfConnection(attributed) };
}

/** Whether an unfinished visit counts as success or failure. One that used up its time and proved nothing has failed. */
function withVisitCount(report: VisitReport, { proofs, requests }: Visit): VisitReport {
  if (report.outcome !== 'unfinished') return report;
  const usedUp = report.reason === 'time_is_up' && requests > 0;
  return { ...report, countsAs: proofs.count > 0 ? 'success' : usedUp ? 'failure' : 'neither' };
}

function policyAfter(visit: Visit, { outcome, countsAs }: VisitReport): RelayPolicy {
  const failed = outcome === 'failed' || countsAs === 'failure';
  const visitResult: VisitResult = refusalOfRelay(visit) ?? (failed ? 'failed' : 'ok');
  if (visitResult === 'ok' && countsAs === 'neither') return visit.policy.current;
  return afterVisit(
    visit.policy.current,
    visitResult,
    visit.context.now(),
    visit.retryAfterSeconds,
  );
}

/**
 * What the relay refuses us with. One that has proven something in this visit serves us, and refuses something else,
 * such as its history: it is left alone as after a failure, not for days.
 */
function refusalOfRelay({ refusal, proofs }: Visit): VisitResult | null {
  return proofs.count > 0 && refusal !== null && refusal !== 'rate_limited' ? 'failed' : refusal;
}
