/** The services under test, each started again when it dies, as Docker would, with what it says and how large it is. */
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { CrashPoint } from '../../../src/telemetry/crash-point.ts';
import type { TcpProxy } from '../../network/tcp-proxy.ts';
import type { End, LogLine, Program } from '../../processes/programs.ts';
import type { Entrypoint, Stack } from '../../processes/stack.ts';
import { THREAD_DEATH_CODE, type ThreadDeath } from '../../processes/thread-death.ts';
import type { Tally } from './tally.ts';

export type ServiceName = Extract<
  Entrypoint,
  'monitor' | 'synchronizer' | 'priority-synchronizer' | 'finder'
>;

/** At which point of the pipeline a service, or one worker of it, is to die. */
export interface CrashPlan {
  readonly point: CrashPoint;
  readonly nth: number;
  readonly scope: 'service' | 'worker';
}

/** A look at what a service uses. */
export interface UseSample {
  /** `performance.now()` */
  readonly at: number;
  readonly megabytes: number;
  /** Open files and sockets. */
  readonly descriptors: number;
  /** How long this process has run, in milliseconds. */
  readonly upMs: number;
}

export interface ServiceOptions {
  /** The loopback address that it connects from. */
  readonly address: string;
  /** Its own wire to the database, where several hosts are played. */
  readonly wire?: TcpProxy;
  readonly stack: Stack;
  readonly tally: Tally;
  /** Whether the database was away shortly before: who is started then may give up. */
  readonly databaseWasAway: () => boolean;
  /** Lets one of its threads die, where that is wanted. */
  readonly threadDeath?: ThreadDeath;
}

const STOP_MS = 15_000;
const RESTART_MS = 300;
/** Who is started so long after the database was away may give up. */
export const AWAY_MS = 45_000;
/** A worker dies in as many threads as this at most, after each start of its service. */
const CRASHING_THREADS = 2;

export class KeptService {
  readonly name: ServiceName;
  readonly samples: UseSample[] = [];
  /** How often each message came, by level and text. */
  readonly messages = new Map<string, number>();
  /** How often the finder has told of each relay that it found. */
  readonly found = new Map<string, number>();
  /** Whether a fault is to make it die; then no other is. */
  busy = false;
  starts = 0;
  lines = 0;
  bytes = 0;
  longestLine = 0;
  /** Threads that died as they were told. */
  threadDeaths = 0;
  /** Of its /health; 0 before it has told. */
  healthPort = 0;
  visits = 0;
  readonly #options: ServiceOptions;
  #program: Program | null = null;
  #plan: CrashPlan | null = null;
  #hasCrashed = false;
  #startedAt = 0;
  #read = 0;
  #wanted = false;
  /** What we have done to it, so that its end is no surprise. */
  #expected: 'nothing' | 'kill' | 'stop' = 'nothing';
  #isStopped = false;
  #wentOnAt = Number.NEGATIVE_INFINITY;
  #isCutOff = false;
  #backAt = Number.NEGATIVE_INFINITY;
  #life: Promise<void> = Promise.resolve();

  constructor(name: ServiceName, options: ServiceOptions) {
    this.name = name;
    this.#options = options;
  }

  get address(): string {
    return this.#options.address;
  }

  /** Its name and its address: there may be several of a name. */
  get label(): string {
    return `${this.name} (${this.address})`;
  }

  get canBeCutOff(): boolean {
    return this.#options.wire !== undefined;
  }

  /** Whether its process was stopped (SIGSTOP) at any time in the last given number of milliseconds. */
  wasStopped(withinMs: number): boolean {
    return this.#isStopped || performance.now() - this.#wentOnAt < withinMs;
  }

  get isRunning(): boolean {
    return this.#program?.isRunning ?? false;
  }

  /** The plan of this life; null when there is none, or when it has come about. */
  get plan(): CrashPlan | null {
    return this.#hasCrashed ? null : this.#plan;
  }

  get megabytes(): number {
    return this.samples.at(-1)?.megabytes ?? 0;
  }

  /** Starts it, and again whenever it ends, until `stop`. */
  start(plan: CrashPlan | null = null): void {
    this.#wanted = true;
    const { stack, threadDeath, address, wire } = this.#options;
    const program = stack.start(this.name, [], {
      ...environmentOf(plan),
      ...threadDeath?.env,
      ...(wire && { POSTGRES_HOST: wire.host, POSTGRES_PORT: String(wire.port) }),
      SOAK_ADDRESS: address,
    });
    this.#program = program;
    this.#plan = plan;
    this.#hasCrashed = false;
    this.#expected = 'nothing';
    this.#read = 0;
    this.#startedAt = performance.now();
    this.starts += 1;
    this.#life = this.#outlive(program);
  }

  /** `kill -9`; it is started again. @returns whether there was anything to kill */
  async kill(): Promise<boolean> {
    const program = this.#program;
    if (!program?.isRunning || this.#expected !== 'nothing') return false;
    this.#expected = 'kill';
    program.signal('SIGKILL');
    return (await program.ended).signal === 'SIGKILL';
  }

  /** Stops the process (SIGSTOP) for some milliseconds. @returns whether it was running before and after */
  async suspend(ms: number): Promise<boolean> {
    const program = this.#program;
    if (!program?.isRunning || this.#expected !== 'nothing') return false;
    this.#isStopped = true;
    program.signal('SIGSTOP');
    await sleep(ms);
    program.signal('SIGCONT');
    this.#isStopped = false;
    this.#wentOnAt = performance.now();
    return program.isRunning;
  }

  /**
   * Cuts it off from the database, and nobody else, for some milliseconds.
   *
   * @param how connections are refused, or bytes go nowhere and nobody is told
   * @returns whether it had connections
   */
  async cutOff(ms: number, how: 'refused' | 'silent'): Promise<boolean> {
    const { wire } = this.#options;
    if (!wire || !this.isRunning) return false;
    const open = wire.open();
    this.#isCutOff = true;
    if (how === 'silent') wire.stall();
    else {
      wire.refuse(Number.POSITIVE_INFINITY);
      wire.cut();
    }
    await sleep(ms);
    wire.recover();
    wire.refuse(0);
    this.#isCutOff = false;
    this.#backAt = performance.now();
    return open > 0;
  }

  /** Whether the database was away for it shortly before: who is started then may give up. */
  #hadNoDatabase(): boolean {
    const wasCutOff = this.#isCutOff || performance.now() - this.#backAt < AWAY_MS;
    return wasCutOff || this.#options.databaseWasAway();
  }

  /** Lets one of its threads die. How often one has died so far is in `threadDeaths`. */
  killThread(): void {
    this.#options.threadDeath?.come();
  }

  /** Lets it end in order, for good. */
  async stop(): Promise<void> {
    this.#wanted = false;
    const program = this.#program;
    if (program?.isRunning) {
      this.#expected = 'stop';
      program.signal('SIGTERM');
      const late = await Promise.race([program.ended.then(() => false), sleep(STOP_MS, true)]);
      if (late) {
        this.#options.tally.fail(`${this.name} did not end within ${STOP_MS} ms of SIGTERM`);
        program.signal('SIGKILL');
      }
    }
    await this.#life;
  }

  /** Ends it at once, for good, whatever it is doing. */
  async abandon(): Promise<void> {
    this.#wanted = false;
    this.#expected = 'kill';
    this.#program?.signal('SIGKILL');
    await this.#life;
  }

  async restart(plan: CrashPlan | null): Promise<void> {
    await this.stop();
    this.start(plan);
  }

  /** Reads what it has said and how large it is. */
  look(): void {
    this.#readLog();
    const use = this.#program?.isRunning ? useOf(this.#program.pid) : null;
    const at = performance.now();
    if (use !== null) this.samples.push({ at, ...use, upMs: at - this.#startedAt });
  }

  async #outlive(program: Program): Promise<void> {
    const end = await program.ended;
    this.#readLog();
    this.#judge(end, program);
    await sleep(RESTART_MS, undefined, { ref: false });
    if (this.#wanted && this.#program === program) this.start();
  }

  #judge({ code, signal }: End, program: Program): void {
    const { tally } = this.#options;
    const how = signal ?? `code ${code}`;
    const last = program.said.split('\n').slice(-3).join(' | ');
    if (this.#expected === 'stop') {
      // Node.js itself ends by the signal before our handler is installed.
      const tooEarly = signal === 'SIGTERM' && program.out.length === 0;
      if (code !== 0 && !tooEarly)
        tally.fail(`${this.name} ended with ${how} when it was told to stop`);
    } else if (this.#expected === 'kill') tally.count('(kill -9 of a service)');
    else if (signal === 'SIGKILL' && this.#plan?.scope === 'service') {
      this.#noteCrash(this.#plan);
    } else if (code === 1 && this.#hadNoDatabase()) {
      tally.count('(a service gave up without its database and was started again)');
    } else if (code === 1 && last.includes(`code ${THREAD_DEATH_CODE} before it was ready`)) {
      this.threadDeaths += 1; // a start that fails is told to whoever starts it
    } else {
      tally.fail(`${this.name} ended by itself with ${how}: ${last}`);
    }
    if (program.err.length > 0)
      tally.fail(`${this.name} wrote to standard error: ${program.err.slice(0, 5).join(' | ')}`);
  }

  #noteCrash({ scope, point }: CrashPlan): void {
    this.#hasCrashed = true;
    this.#options.tally.count(`crash point ${point} of a ${scope}`);
  }

  #readLog(): void {
    const lines = this.#program?.out ?? [];
    for (; this.#read < lines.length; this.#read += 1) this.#readLine(lines[this.#read] ?? '');
  }

  #readLine(text: string): void {
    this.lines += 1;
    this.bytes += text.length;
    this.longestLine = Math.max(this.longestLine, text.length);
    const line = parsed(text);
    if (!line) {
      this.#options.tally.fail(`${this.name} said what is no log line: ${text.slice(0, 200)}`);
      return;
    }
    const key = `${line.level}: ${line.msg}`;
    this.messages.set(key, (this.messages.get(key) ?? 0) + 1);
    if (line.msg === 'relay visited') this.visits += 1;
    if (line.msg === 'health is served') this.healthPort = Number(line.port);
    if (line.msg === 'relay found') {
      const url = String(line.relay);
      this.found.set(url, (this.found.get(url) ?? 0) + 1);
    }
    this.#readTrouble(line, text);
  }

  #readTrouble({ msg, reason = '' }: LogLine, text: string): void {
    const { tally } = this.#options;
    if (msg === 'a worker died, starting another') {
      if (reason === 'exit code 86' && this.#plan) this.#noteCrash(this.#plan);
      else if (reason === `exit code ${THREAD_DEATH_CODE}`) this.threadDeaths += 1;
      else if (this.#hadNoDatabase()) tally.count('(a worker was started without its database)');
      else tally.fail(`a worker of ${this.name} died: ${text.slice(0, 500)}`);
    }
    if (msg === 'a worker thread failed')
      tally.fail(`a worker of ${this.name} failed: ${text.slice(0, 2000)}`);
  }
}

function environmentOf(plan: CrashPlan | null): Record<string, string> {
  if (plan === null) return {};
  return {
    BIGBROTR_CRASH_AT: `${plan.point}:${plan.nth}`,
    BIGBROTR_CRASH_SCOPE: plan.scope,
    BIGBROTR_CRASH_THREADS: String(CRASHING_THREADS),
  };
}

function parsed(text: string): LogLine | null {
  try {
    return JSON.parse(text) as LogLine;
  } catch {
    return null;
  }
}

/** Resident memory and descriptors (proc(5): VmRSS, fd); null where they are not told, or the process has ended. */
function useOf(pid: number): Pick<UseSample, 'megabytes' | 'descriptors'> | null {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    const [, kilobytes] = /^VmRSS:\s+(\d+)/m.exec(status) ?? [];
    if (!kilobytes) return null;
    const descriptors = readdirSync(`/proc/${pid}/fd`).length;
    return { megabytes: Math.round(Number(kilobytes) / 1024), descriptors };
  } catch {
    return null;
  }
}
