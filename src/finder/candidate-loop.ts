/** Probes candidates: the loop of the finder. */
import type { FinderConfig } from '../config/load.ts';
import type { Claim } from '../database/bigbrotr.ts';
import type { Candidate } from '../database/candidates.ts';
import type { Network } from '../network/url.ts';
import { DueLoop, type Ending, endingOf, type Found } from '../runtime/due-loop.ts';
import { reportLost, runReported } from '../runtime/run-reported.ts';
import { type Scheduler, WORKER_DIED } from '../runtime/scheduler.ts';
import type { Service } from '../runtime/service.ts';
import { endClaim, loopReports } from '../runtime/service-parts.ts';
import type { FinderJob, FinderProgress, FinderReport } from './find-names.ts';

/** Interval of look-ups while no candidate is due, in milliseconds. */
const POLL_MS = 10_000;
/** Pause after a claim that found no candidate within the budgets, in milliseconds; new names end it. */
const CLAIM_PAUSE_MS = 60_000;
/** Candidates claimed at a time per slot: selecting them among 100,000 takes a second. */
const CLAIM_AHEAD = 5;
/** Maximum length of a round, in milliseconds. */
const REPORT_MS = 900_000;

export type FinderScheduler = Scheduler<FinderJob, FinderReport, FinderProgress>;

/** Probes due candidates as soon as a slot is free, within the hourly budgets. */
export class CandidateLoop {
  readonly loop: DueLoop<Candidate>;
  /** Sources that failed since the latest report. */
  failedSources = 0;
  readonly #config: FinderConfig;
  readonly #service: Service;
  readonly #slots: number;
  /** Claimed in the archive and not probed yet. */
  readonly #claimed = new Map<number, Candidate>();
  /** Being probed, by their keys. */
  readonly #probed = new Map<number, Candidate>();
  #isClaiming = false;
  #failure: Error | null = null;
  /** When a claim last found no candidate, in `performance.now()` milliseconds. */
  #noneAtMs = Number.NEGATIVE_INFINITY;
  #hasNewNames = false;

  constructor(config: FinderConfig, service: Service, scheduler: FinderScheduler) {
    this.#config = config;
    this.#service = service;
    this.#slots = config.numCores * config.requestsPerCore;
    let probing = 0;
    service.claims.onLost('try', (nameId) => {
      this.#claimed.delete(nameId);
      const probed = this.#probed.get(nameId);
      if (probed) scheduler.cancel(probed.url);
    });
    this.loop = new DueLoop<Candidate>({
      keyOf: ({ nameId }) => nameId,
      lookUp: async (limit) => this.#next(limit ?? this.#slots),
      freeSlots: () => Math.min(this.#slots - probing, scheduler.totalFreeSlots),
      run: async (candidate) => {
        this.#claimed.delete(candidate.nameId);
        this.#probed.set(candidate.nameId, candidate);
        probing += 1;
        const { ending, reason } = await probe({ type: 'probe', candidate }, service, scheduler);
        probing -= 1;
        this.#probed.delete(candidate.nameId);
        // With `--once` nothing waits for our network.
        if (
          reason === 'network_down' &&
          !service.once &&
          service.claims.holds('try', candidate.nameId)
        )
          this.#claimed.set(candidate.nameId, candidate);
        else endClaim(service, 'try', candidate.nameId, ending);
        return ending;
      },
      pollMs: POLL_MS,
      reportMs: REPORT_MS,
      ...loopReports(service, 'candidates'),
      onRound: ({ failed, ...round }) => {
        service.roundFinished({ ...round, failed: failed + this.failedSources });
        this.failedSources = 0;
      },
      ends: service.once ? 'when nothing is due' : 'never',
    });
  }

  /** Notes that new candidates were named: they are claimed immediately. */
  noteNewNames(): void {
    this.#hasNewNames = true;
  }

  /** Returns claimed candidates, and claims the next ones in the background. @throws the error of the latest claim */
  #next(limit: number): Found<Candidate> {
    const failure = this.#failure;
    this.#failure = null;
    if (failure) throw failure;
    const foundNone = performance.now() - this.#noneAtMs < CLAIM_PAUSE_MS;
    const isPausing = foundNone && !this.#hasNewNames;
    const { network, once } = this.#service;
    const isCut = network.isDown && !once;
    if (!this.#isClaiming && !isPausing && !isCut && this.#claimed.size < this.#slots) {
      this.#hasNewNames = false;
      this.#isClaiming = true;
      void this.#claim();
    }
    const reachable = [...this.#claimed.values()].filter(
      (candidate) => once || network.canReach(candidate),
    );
    network.noteWaiting(this.#claimed.size - reachable.length);
    const due = reachable.slice(0, limit);
    if (isCut) return { due, more: false };
    return { due, more: this.#isClaiming || due.length < this.#claimed.size };
  }

  async #claim(): Promise<void> {
    const { bigbrotr, metrics, claims } = this.#service;
    try {
      const limit = this.#slots * CLAIM_AHEAD;
      const askedMs = performance.now();
      const found = await bigbrotr.finder.claim(
        limit,
        reachableNetworks(this.#config.tor !== null),
        claims,
      );
      for (const candidate of found) this.#claimed.set(candidate.nameId, candidate);
      claims.hold(found.flatMap(claimOf), askedMs);
      if (found.length === 0) {
        this.#noneAtMs = performance.now();
        metrics.count({ names_forgotten: await bigbrotr.finder.tidy() });
      }
    } catch (error) {
      this.#failure = error as Error;
    }
    this.#isClaiming = false;
    this.loop.lookSoon();
  }
}

function claimOf({ nameId: key, token }: Candidate): Claim[] {
  return token === undefined ? [] : [{ work: 'try', key, token }];
}

async function probe(
  job: Extract<FinderJob, { type: 'probe' }>,
  service: Service,
  scheduler: FinderScheduler,
): Promise<{ readonly ending: Ending; readonly reason: string | null }> {
  const { url } = job.candidate;
  const outcome = await runReported('asking', url, job, scheduler, service);
  if (!outcome.ok) {
    if (outcome.crashesWorker) await putOff(job.candidate, outcome.reason, service);
    else if (!outcome.claimLost) reportLost({ subject: url }, 'job lost', outcome, service);
    return { ending: endingOf(outcome), reason: outcome.reason };
  }
  const { reason, isNew } = outcome.result;
  if (reason === 'network_down') {
    service.metrics.visitStopped(reason);
    return { ending: 'held_back', reason };
  }
  service.noteStored(true);
  service.metrics.relayVisited(reason ?? 'answered');
  if (isNew) {
    service.metrics.count({ relays_found: 1 });
    service.log.info({ relay: url }, 'relay found');
  }
  return { ending: 'good', reason };
}

/** A candidate whose probe crashes a worker that runs nothing else is retried with back-off, like one that does not answer. */
async function putOff(candidate: Candidate, reason: string, service: Service): Promise<void> {
  const { url } = candidate;
  const { bigbrotr, log, metrics } = service;
  log.error({ relay: url, reason }, 'candidate postponed: its probes crash their worker');
  metrics.relayVisited(WORKER_DIED);
  try {
    await bigbrotr.finder.putOff(candidate, WORKER_DIED);
  } catch (err) {
    log.error({ relay: url, err }, 'postponing a candidate could not be stored');
  }
}

/** The networks whose relays can be probed. */
export function reachableNetworks(tor: boolean): Network[] {
  return tor ? ['clearnet', 'tor'] : ['clearnet'];
}
