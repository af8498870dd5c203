import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

/** How a program ended: by an exit code, or by a signal that it did not handle. */
export interface End {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface ProgramOptions {
  /** All of its environment: nothing is taken over from ours but PATH and HOME. */
  readonly env: Readonly<Record<string, string>>;
  /** Where it works; a `.env` there would be read. */
  readonly cwd: string;
}

const running = new Set<Program>();

/** A program under test, in a process group of its own as at a terminal, with everything it says. */
export class Program {
  readonly pid: number;
  /** Where it works. */
  readonly cwd: string;
  /** Resolves when the program has ended and all its output has come. */
  readonly ended: Promise<End>;
  /** Lines of standard output and of standard error so far. */
  readonly out: string[] = [];
  readonly err: string[] = [];
  readonly #child: ChildProcess;
  readonly #waiting = new Set<() => void>();
  #end: End | null = null;

  constructor(command: string, args: readonly string[], { env, cwd }: ProgramOptions) {
    const { PATH = '', HOME = '' } = process.env;
    this.#child = spawn(command, args, {
      cwd,
      env: { PATH, HOME, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    this.pid = this.#child.pid ?? 0;
    this.cwd = cwd;
    this.#follow(this.#child.stdout, this.out);
    this.#follow(this.#child.stderr, this.err);
    running.add(this);
    this.ended = new Promise((resolve, reject) => {
      this.#child.once('error', (error) => {
        running.delete(this);
        reject(error);
      });
      this.#child.once('close', (code, signal) => {
        running.delete(this);
        this.#end = { code, signal };
        this.#changed();
        resolve(this.#end);
      });
    });
    this.ended.catch(() => {}); // heard of by whoever waits
  }

  get isRunning(): boolean {
    return this.#end === null;
  }

  /** Everything it has said, for messages of tests that fail. */
  get said(): string {
    return [...this.out, ...this.err].join('\n');
  }

  /** The lines of standard output that are log entries. */
  get log(): LogLine[] {
    return this.out.flatMap((line) => asLogLine(line) ?? []);
  }

  /** The first log entry that passes, among those that came and those to come. */
  async logged(test: (line: LogLine) => boolean, what: string, timeoutMs = 30_000) {
    await this.until(() => this.log.some(test), `the log line "${what}"`, timeoutMs);
    return this.log.find(test) as LogLine;
  }

  /** Resolves once the test holds, looked at after every line. @throws Error with all that was said when it does not come to. */
  until(test: () => boolean, what: string, timeoutMs = 30_000): Promise<void> {
    return new Promise((resolve, reject) => {
      const settle = (error?: Error) => {
        clearTimeout(timer);
        this.#waiting.delete(check);
        if (error) reject(error);
        else resolve();
      };
      const check = () => {
        if (test()) settle();
        else if (!this.isRunning) settle(new Error(`ended without ${what}:\n${this.said}`));
      };
      const timer = setTimeout(
        () => settle(new Error(`waited ${timeoutMs} ms in vain for ${what}:\n${this.said}`)),
        timeoutMs,
      );
      this.#waiting.add(check);
      check();
    });
  }

  /** Sends a signal to the program alone. */
  signal(name: NodeJS.Signals): void {
    this.#child.kill(name);
  }

  /** Sends a signal to the program and all its children, as a terminal does on Ctrl-C. */
  signalGroup(name: NodeJS.Signals): void {
    try {
      process.kill(-this.pid, name);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  }

  #follow(stream: NodeJS.ReadableStream | null, lines: string[]): void {
    if (!stream) return;
    createInterface({ input: stream }).on('line', (line) => {
      lines.push(line);
      this.#changed();
    });
  }

  #changed(): void {
    for (const check of this.#waiting) check();
  }
}

/**
 * Ends what still runs of the programs started here. For the end of a test, however it went.
 * @param cwd ends only those that work in this folder. Default: all
 */
export async function endPrograms(cwd?: string): Promise<void> {
  const ended = [...running].filter((program) => cwd === undefined || program.cwd === cwd);
  await Promise.all(
    ended.map(async (program) => {
      program.signalGroup('SIGKILL');
      await program.ended;
    }),
  );
}

/** One line of a service's log. */
export interface LogLine {
  readonly level: string;
  readonly service: string;
  readonly msg: string;
  readonly [field: string]: unknown;
}

function asLogLine(line: string): LogLine | null {
  if (!line.startsWith('{')) return null;
  try {
    return JSON.parse(line) as LogLine;
  } catch {
    return null;
  }
}

export interface ProcessFacts {
  readonly pid: number;
  readonly parent: number;
  readonly group: number;
  readonly command: string;
}

/** Every process of this machine, those that are mere remains apart. */
export function processes(): ProcessFacts[] {
  if (existsSync('/proc/self/stat')) {
    return readdirSync('/proc').flatMap((name) => (/^\d+$/.test(name) ? factsOf(name) : []));
  }
  const options = ['-A', '-ww', '-o', 'pid=,ppid=,pgid=,args='];
  const { stdout } = spawnSync('ps', options, { encoding: 'utf8' });
  return [...stdout.matchAll(/^\s*(\d+)\s+(\d+)\s+(\d+)\s+(.*)$/gm)].map(
    ([, pid, parent, group, command = '']) => ({
      pid: Number(pid),
      parent: Number(parent),
      group: Number(group),
      command,
    }),
  );
}

function factsOf(pid: string): ProcessFacts[] {
  try {
    // proc(5): the name in parentheses may hold anything, so fields are counted from the last one.
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\) /s, '');
    const [state, parent, group] = stat.split(' ');
    const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
    if (state === 'Z') return [];
    return [{ pid: Number(pid), parent: Number(parent), group: Number(group), command }];
  } catch {
    return []; // it has ended in the meantime
  }
}
