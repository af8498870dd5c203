import type { Flaws, VisitEnd } from '../database/bigbrotr.ts';
import type { FilterEnd } from './read-filter.ts';
import type { Visit } from './visit.ts';
import { stopOfFlaws, stopOfInterruption, stopOfReading, type VisitStop } from './visit-stop.ts';

/** What a visit did; plain data, for the thread that schedules. */
export interface VisitReport extends VisitEnd {
  readonly events: number;
  readonly sightings: number;
  readonly quarantined: number;
  /** What was refused, by reason. */
  readonly invalid: Record<string, number>;
  readonly bytes: number;
}

/** From this many forged and malformed events on, if they outnumber the others, a visit reports `forged`. */
const MANY_BROKEN_EVENTS = 20;

/** What a visit did that has read all it was to read, or was stopped. */
export function reportOf(visit: Visit, { stopped, interrupted, lacking }: FilterEnd): VisitReport {
  const figures = {
    pages: visit.requests,
    ...visit.stored,
    invalid: Object.fromEntries(visit.intake.invalid),
    bytes: visit.bytesReceived,
  };
  const { count, distrusted } = visit.proofs;
  const outcome = count > 0 ? 'partial' : 'failed';
  if (distrusted) return { outcome, ...stopOfReading(distrusted), ...figures };
  if (interrupted !== null)
    return { outcome: 'unfinished', ...stopOfInterruption(interrupted), ...figures };
  if (stopped !== null) return { outcome, ...stopOfReading(stopped), ...figures };
  if (lacking !== null) return { outcome: 'partial', ...lacking, ...figures };
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
export function withFlaws(
  report: VisitReport,
  { holes, brokenAlone, withheld }: Flaws,
): VisitReport {
  const stop = stopOfFlaws(holes, withheld);
  if (stop !== null) return { ...report, outcome: 'partial', ...stop };
  if (brokenAlone === 0 || report.reason !== null) return report;
  const detail = `all ${brokenAlone} events that it ever sent were refused, forged or malformed`;
  return { ...report, reason: 'forged', detail };
}

/** Of a visit that has sent no request. */
export function idleReport(outcome: VisitEnd['outcome'], stop: VisitStop | null): VisitReport {
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
