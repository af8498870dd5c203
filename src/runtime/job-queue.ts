import type { JobOutcome, QueuedJob, WorkerSlot } from './worker-slot.ts';
import type { ToWorker } from './worker-thread.ts';

/**
 * Maximum tries of a job whose worker crashes. In the last one it has the worker to itself: if that crashes too, the job
 * is the cause.
 */
export const MAX_TRIES = 3;

/** Which jobs a worker takes. */
export interface QueueOptions<Job> {
  /** Jobs that one worker runs at a time. */
  readonly jobsPerWorker: number;
  /** A number of the job that decides its slot (`slotFor`). Default: the slot with the fewest jobs takes it. */
  readonly slotOf?: (job: Job) => number;
  /**
   * Whether a job runs until it is stopped. It ends with its worker and is not retried; a job that needs a worker to
   * itself does not wait for it.
   */
  readonly isEndless?: (job: Job) => boolean;
}

/** The jobs that wait for a worker, and the choice of the worker for each. */
export class JobQueue<Job, Result> {
  readonly #slots: readonly WorkerSlot<Job, Result>[];
  readonly #options: QueueOptions<Job>;
  #waiting: QueuedJob<Job, Result>[] = [];
  #jobs = 0;

  constructor(slots: readonly WorkerSlot<Job, Result>[], options: QueueOptions<Job>) {
    this.#slots = slots;
    this.#options = options;
  }

  /** Jobs that wait for a worker. */
  get length(): number {
    return this.#waiting.length;
  }

  /** Whether any slot is not abandoned. */
  get isServed(): boolean {
    return this.#livingSlots.length > 0;
  }

  add(key: string, job: Job, resolve: (outcome: JobOutcome<Result>) => void): void {
    this.#jobs += 1;
    this.#waiting.push({ id: `${this.#jobs}`, key, job, resolve, tries: 0 });
  }

  /** Queues a job whose worker crashed again, before all others. */
  putBack(job: QueuedJob<Job, Result>): void {
    this.#waiting.unshift(job);
  }

  /** Resolves the waiting jobs of a key: their claim was lost. */
  cancel(key: string): void {
    const isCancelled = (queued: QueuedJob<Job, Result>) => queued.key === key;
    const cancelled = this.#waiting.filter(isCancelled);
    this.#waiting = this.#waiting.filter((queued) => !isCancelled(queued));
    for (const { resolve } of cancelled)
      resolve({ ok: false, reason: 'the claim was lost', claimLost: true });
  }

  /** Resolves all waiting jobs as failed. */
  giveUp(reason: string): void {
    for (const { resolve } of this.#waiting.splice(0)) resolve({ ok: false, reason });
  }

  /**
   * The slot that runs the jobs with a number: always the same one. When it is abandoned, its numbers move to other slots
   * (rendezvous hashing), and no other number moves.
   */
  slotFor(number: number): number {
    const own = number % this.#slots.length;
    if (!this.#slots[own]?.abandoned) return own;
    const score = ({ index }: WorkerSlot<Job, Result>) =>
      Math.imul((own + 1) * 0x9e3779b1 + index, 0x85ebca6b) >>> 0;
    return this.#livingSlots.sort((a, b) => score(b) - score(a))[0]?.index ?? own;
  }

  /** Jobs that could start at once, by slot: 0 while a worker is replaced. Jobs that wait for a slot are subtracted. */
  freeSlots(): number[] {
    const { slotOf, jobsPerWorker } = this.#options;
    const waiting = this.#slots.map(() => 0);
    for (const { job } of slotOf ? this.#waiting : []) {
      const slot = this.slotFor(slotOf?.(job) ?? 0);
      waiting[slot] = (waiting[slot] ?? 0) + 1;
    }
    return this.#slots.map((slot, index) =>
      this.#hasRoom(slot)
        ? Math.max(0, jobsPerWorker - slot.running.size - (waiting[index] ?? 0))
        : 0,
    );
  }

  /** Jobs that could start at once, of all slots. Waiting jobs are subtracted. */
  get totalFreeSlots(): number {
    const waiting = this.#options.slotOf ? 0 : this.#waiting.length;
    return this.freeSlots().reduce((sum, free) => sum + free, -waiting);
  }

  get #livingSlots(): WorkerSlot<Job, Result>[] {
    return this.#slots.filter(({ abandoned }) => !abandoned);
  }

  /** Assigns jobs to workers with room, in the order of the queue. */
  dispatch(): void {
    /** Slots that must become empty first, for a job that needs its worker to itself. */
    const reserved = new Set<WorkerSlot<Job, Result>>();
    for (let index = 0; index < this.#waiting.length; ) {
      const free = this.#slots.filter((slot) => this.#hasRoom(slot) && !reserved.has(slot));
      if (free.length === 0) return;
      const queued = this.#waiting[index] as QueuedJob<Job, Result>;
      const slot = this.#freeSlotFor(queued.job, free);
      if (!slot || (needsOwnWorker(queued) && this.#endingJobs(slot).length > 0)) {
        if (slot) reserved.add(slot);
        index += 1; // its worker is busy; the next job may have another one
        continue;
      }
      this.#waiting.splice(index, 1);
      queued.tries += 1;
      slot.running.set(queued.id, queued);
      slot.worker?.postMessage({
        type: 'job',
        key: queued.id,
        name: queued.key,
        job: queued.job,
      } satisfies ToWorker<Job>);
    }
  }

  /** The slot of a job among those that have room: its own, or the one with the fewest jobs. */
  #freeSlotFor(job: Job, free: WorkerSlot<Job, Result>[]): WorkerSlot<Job, Result> | undefined {
    const { slotOf } = this.#options;
    if (!slotOf) return free.sort((a, b) => a.running.size - b.running.size)[0];
    const slot = this.#slots[this.slotFor(slotOf(job))];
    return slot && free.includes(slot) ? slot : undefined;
  }

  #hasRoom(slot: WorkerSlot<Job, Result>): boolean {
    if (!slot.ready || slot.running.size >= this.#options.jobsPerWorker) return false;
    if (!this.#options.isEndless && slot.running.size !== 1) return true; // fast path
    const ending = this.#endingJobs(slot);
    return ending.length !== 1 || !ending.some(({ tries }) => tries >= MAX_TRIES);
  }

  /** The jobs of a slot that end by themselves. */
  #endingJobs({ running }: WorkerSlot<Job, Result>): QueuedJob<Job, Result>[] {
    return [...running.values()].filter((queued) => !this.isEndless(queued));
  }

  /** Whether a job runs until it is stopped. */
  isEndless({ job }: QueuedJob<Job, Result>): boolean {
    return this.#options.isEndless?.(job) ?? false;
  }
}

/** Whether the next try of a job is the last: both workers before it crashed. */
function needsOwnWorker({ tries }: Pick<QueuedJob<unknown, unknown>, 'tries'>): boolean {
  return tries >= MAX_TRIES - 1;
}
