import type { JobOutcome, SchedulerOptions } from '../scheduler.ts';
import type { ToWorker } from '../worker-thread.ts';
import type { Seat, Waiting } from './seat.ts';

/**
 * A job whose worker dies is tried so many times in all; then the job is to blame. The last time it has its worker to
 * itself, so that nobody is blamed who was only beside it.
 */
export const MAX_TRIES = 3;

type QueueOptions<Job> = Pick<
  SchedulerOptions<Job, never>,
  'jobsPerWorker' | 'seatOf' | 'isLasting'
>;

/** The jobs that wait for a worker, and which of them goes to which. */
export class JobQueue<Job, Result> {
  readonly #seats: readonly Seat<Job, Result>[];
  readonly #options: QueueOptions<Job>;
  #waiting: Waiting<Job, Result>[] = [];
  #jobs = 0;

  constructor(seats: readonly Seat<Job, Result>[], options: QueueOptions<Job>) {
    this.#seats = seats;
    this.#options = options;
  }

  /** Jobs that wait for a worker. */
  get length(): number {
    return this.#waiting.length;
  }

  /** Whether any seat has a worker, or will have one again. */
  get isServed(): boolean {
    return this.#living.length > 0;
  }

  add(key: string, job: Job, resolve: (outcome: JobOutcome<Result>) => void): void {
    this.#jobs += 1;
    this.#waiting.push({ id: `${this.#jobs}`, key, job, resolve, tries: 0 });
  }

  /** Lets a job that lost its worker wait again, before all others. */
  putBack(job: Waiting<Job, Result>): void {
    this.#waiting.unshift(job);
  }

  /** Gives up all that wait. */
  giveUp(reason: string): void {
    for (const waiting of this.#waiting.splice(0)) waiting.resolve({ ok: false, reason });
  }

  /** The seat that does the jobs of a number: always the same. When that is given up, one other, and no other job moves. */
  seatFor(number: number): number {
    const own = number % this.#seats.length;
    if (!this.#seats[own]?.abandoned) return own;
    const score = ({ index }: Seat<Job, Result>) =>
      Math.imul((own + 1) * 0x9e3779b1 + index, 0x85ebca6b) >>> 0;
    return this.#living.sort((a, b) => score(b) - score(a))[0]?.index ?? own;
  }

  /** Jobs that could begin at once, by seat: none where the worker is being replaced. Jobs that wait for a seat count. */
  freeSlots(): number[] {
    const { seatOf, jobsPerWorker } = this.#options;
    const waiting = this.#seats.map(() => 0);
    for (const { job } of seatOf ? this.#waiting : []) {
      const seat = this.seatFor(seatOf?.(job) ?? 0);
      waiting[seat] = (waiting[seat] ?? 0) + 1;
    }
    return this.#seats.map((seat, index) =>
      this.#hasRoom(seat)
        ? Math.max(0, jobsPerWorker - seat.running.size - (waiting[index] ?? 0))
        : 0,
    );
  }

  /** The same in all: jobs that wait for no seat of their own count too. */
  get freeInAll(): number {
    const waiting = this.#options.seatOf ? 0 : this.#waiting.length;
    return this.freeSlots().reduce((sum, free) => sum + free, -waiting);
  }

  get #living(): Seat<Job, Result>[] {
    return this.#seats.filter(({ abandoned }) => !abandoned);
  }

  /** Hands out the jobs whose worker has room, the first in the queue first. */
  dispatch(): void {
    /** Seats that have to be empty first, for a job that is to have its worker to itself. */
    const kept = new Set<Seat<Job, Result>>();
    for (let index = 0; index < this.#waiting.length; ) {
      const free = this.#seats.filter((seat) => this.#hasRoom(seat) && !kept.has(seat));
      if (free.length === 0) return;
      const waiting = this.#waiting[index] as Waiting<Job, Result>;
      const seat = this.#seatFor(waiting.job, free);
      if (!seat || (isSuspect(waiting) && this.#passing(seat).length > 0)) {
        if (seat) kept.add(seat);
        index += 1; // its worker is busy, another's job may be next
        continue;
      }
      this.#waiting.splice(index, 1);
      waiting.tries += 1;
      seat.running.set(waiting.id, waiting);
      seat.worker?.postMessage({
        type: 'job',
        key: waiting.id,
        job: waiting.job,
      } satisfies ToWorker<Job>);
    }
  }

  /** The seat of a job among those that have room: its own, or the freest. */
  #seatFor(job: Job, free: Seat<Job, Result>[]): Seat<Job, Result> | undefined {
    const { seatOf } = this.#options;
    if (!seatOf) return free.sort((a, b) => a.running.size - b.running.size)[0];
    const seat = this.#seats[this.seatFor(seatOf(job))];
    return seat && free.includes(seat) ? seat : undefined;
  }

  #hasRoom(seat: Seat<Job, Result>): boolean {
    if (!seat.ready || seat.running.size >= this.#options.jobsPerWorker) return false;
    if (!this.#options.isLasting && seat.running.size !== 1) return true; // the usual case, at no cost
    const passing = this.#passing(seat);
    return passing.length !== 1 || !passing.some(({ tries }) => tries >= MAX_TRIES);
  }

  /** The jobs of a seat that end by themselves. */
  #passing({ running }: Seat<Job, Result>): Waiting<Job, Result>[] {
    return [...running.values()].filter((waiting) => !this.lasts(waiting));
  }

  /** Whether a job goes on until it is told to stop. */
  lasts({ job }: Waiting<Job, Result>): boolean {
    return this.#options.isLasting?.(job) ?? false;
  }
}

/** Whether a job is to have a worker to itself, since two that did it died. */
function isSuspect({ tries }: Pick<Waiting<unknown, unknown>, 'tries'>): boolean {
  return tries >= MAX_TRIES - 1;
}
