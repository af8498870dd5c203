/** Asking candidates: the loop of the finder. */
import type { Candidate } from './bigbrotr/candidates.ts';
import type { FinderConfig } from './config.ts';
import { DueLoop, type Ending, type Found } from './due-loop.ts';
import type { FinderJob, FinderProgress, FinderReport } from './finder/find-names.ts';
import type { Network } from './relay/url.ts';
import { runShown } from './run-shown.ts';
import { type JobOutcome, type Scheduler, WORKER_DIED } from './scheduler.ts';
import type { Service } from './service.ts';

/** When nobody is to be asked, candidates are looked for this often, in milliseconds. */
const POLL_MS = 10_000;
/** After a time without anybody to ask, within the budgets, the next is looked for, in milliseconds; new names at once. */
const LOOK_AGAIN_MS = 60_000;
/** Candidates taken at a time, for each one that is asked at the same time: to choose them takes a second among 100,000. */
const CLAIM_AHEAD = 5;
/** What was asked is reported at the latest after this, in milliseconds. */
const REPORT_MS = 900_000;

export type FinderScheduler = Scheduler<FinderJob, FinderReport, FinderProgress>;
type Lost = Extract<JobOutcome<FinderReport>, { ok: false }>;

/** The candidates whose turn it is, each asked as soon as a slot is free, as far as the budgets of the hour go. */
export class CandidateLoop {
  readonly loop: DueLoop<Candidate>;
  /** Sources that failed since the latest report. */
  failedSources = 0;
  readonly #config: FinderConfig;
  readonly #service: Service;
  readonly #slots: number;
  /** Taken from the archive, and not asked yet. */
  readonly #taken = new Set<Candidate>();
  #isTaking = false;
  #failure: Error | null = null;
  #nobodyAt = Number.NEGATIVE_INFINITY;
  #heard = 0;

  constructor(config: FinderConfig, service: Service, scheduler: FinderScheduler) {
    this.#config = config;
    this.#service = service;
    this.#slots = config.numCores * config.requestsPerCore;
    let asking = 0;
    this.loop = new DueLoop<Candidate>({
      keyOf: ({ nameId }) => nameId,
      lookUp: async (limit) => this.#next(limit ?? this.#slots),
      freeSlots: () => Math.min(this.#slots - asking, scheduler.freeInAll),
      run: async (candidate) => {
        this.#taken.delete(candidate);
        asking += 1;
        const ending = await ask({ type: 'ask', candidate }, service, scheduler);
        asking -= 1;
        return ending;
      },
      pollMs: POLL_MS,
      reportMs: REPORT_MS,
      onRound: ({ failed, ...round }) => {
        service.roundFinished({ ...round, failed: failed + this.failedSources });
        this.failedSources = 0;
      },
      onBusy: service.busy,
      onAway: ({ message }) =>
        service.log.error({ reason: message }, 'candidates cannot be looked up'),
      ends: service.once ? 'when nothing is due' : 'never',
      signal: service.signal,
    });
  }

  /** What was taken; the next are taken meanwhile, since that may last. @throws what failed when it was tried last */
  #next(limit: number): Found<Candidate> {
    const failure = this.#failure;
    this.#failure = null;
    if (failure) throw failure;
    const heard = this.#service.counted('candidates');
    const isQuiet = heard === this.#heard && performance.now() - this.#nobodyAt < LOOK_AGAIN_MS;
    if (!this.#isTaking && !isQuiet && this.#taken.size < this.#slots) {
      this.#heard = heard;
      this.#isTaking = true;
      void this.#take();
    }
    const due = [...this.#taken].slice(0, limit);
    return { due, more: this.#isTaking || due.length < this.#taken.size };
  }

  async #take(): Promise<void> {
    const { bigbrotr, count } = this.#service;
    try {
      const limit = this.#slots * CLAIM_AHEAD;
      const found = await bigbrotr.finder.claim(limit, networks(this.#config.tor !== null));
      for (const candidate of found) this.#taken.add(candidate);
      if (found.length === 0) {
        this.#nobodyAt = performance.now();
        count('names_forgotten', await bigbrotr.finder.tidy());
      }
    } catch (error) {
      this.#failure = error as Error;
    }
    this.#isTaking = false;
    this.loop.lookSoon();
  }
}

async function ask(
  job: Extract<FinderJob, { type: 'ask' }>,
  service: Service,
  scheduler: FinderScheduler,
): Promise<Ending> {
  const { url } = job.candidate;
  const outcome = await runShown('asking', url, job, scheduler, service);
  if (!outcome.ok) {
    if (outcome.deadly) await putOff(job.candidate, outcome.reason, service);
    else lost(url, outcome, service);
    return outcome.notStored ? 'not_stored' : 'lost';
  }
  service.stored(true);
  const { reason, isNew } = outcome.result;
  service.metrics.relayVisited(reason ?? 'answered');
  service.count('candidates_asked');
  if (reason === null) service.count('candidates_answered');
  if (isNew) {
    service.count('relays_found');
    service.log.info({ relay: url }, 'relay found');
  }
  return 'good';
}

/** A candidate that kills a worker which asks nobody else: it is tried again later and later, as one that is silent. */
async function putOff({ nameId, url }: Candidate, reason: string, service: Service): Promise<void> {
  const { bigbrotr, log, metrics, count } = service;
  log.error({ relay: url, reason }, 'candidate put off: asking it ends the worker');
  metrics.relayVisited(WORKER_DIED);
  for (const figure of ['candidates_asked', 'candidates_set_aside']) count(figure);
  try {
    await bigbrotr.finder.putOff(nameId, WORKER_DIED);
  } catch (err) {
    log.error({ relay: url, err }, 'what is known of a candidate could not be written');
  }
}

/** The networks that are asked. */
export function networks(tor: boolean): Network[] {
  return tor ? ['clearnet', 'tor'] : ['clearnet'];
}

/** Tells that a job ended without a result. */
export function lost(what: string, { reason, notStored }: Lost, service: Service): void {
  if (service.signal.aborted) return;
  service.log.error({ what, reason }, 'a job of the finder was lost');
  if (notStored) service.stored(false, `${what}: ${reason}`);
}
