import type { WriteStream } from 'node:tty';
import type { ProgressFigures } from '../database/progress-figures.ts';
import type { HealthStatus } from '../telemetry/health.ts';
import { type DestinationStream, prettyStream } from '../telemetry/logger.ts';
import { progressLines } from './progress-lines.ts';

const REDRAW_MS = 500;
/** Of a terminal that does not say how wide it is. */
const DEFAULT_COLUMNS = 80;
/** Levels that are shown above the progress; the others would flood the terminal. */
const IMPORTANT = new Set(['WARN', 'ERROR', 'FATAL']);
/** What several services report within this time for one reason is shown once, in milliseconds. */
const TOGETHER_MS = 10_000;
const CLEAR_LINE = '\r\x1b[2K';
const LINE_UP = '\x1b[1A';

/**
 * Shows what the services of one machine do: at a terminal some lines of progress below warnings and errors; elsewhere
 * their log lines as they are.
 */
export class Progress {
  readonly #out: WriteStream;
  readonly #err: Pick<WriteStream, 'write'>;
  readonly #pretty: DestinationStream;
  readonly #statuses = new Map<string, HealthStatus>();
  /** Counts of services that have ended: one that is started again counts from zero. */
  readonly #ended: Record<string, number> = {};
  /** Reports that were shown, by message and reason: of which service, and when. */
  readonly #shown = new Map<string, { readonly service: string; readonly atMs: number }>();
  #archive: ProgressFigures | null = null;
  #timer: NodeJS.Timeout | null = null;
  #drawn: readonly string[] = [];
  #hasEnded = false;
  #lastEvents = 0;
  #lastRate = performance.now();
  #rate = 0;

  constructor(out: WriteStream, err: Pick<WriteStream, 'write'> = process.stderr) {
    this.#out = out;
    this.#err = err;
    this.#pretty = prettyStream({ write: (text: string) => void out.write(text) });
  }

  /** Shows the progress from now on, and above it only warnings and errors. */
  begin(): void {
    if (this.#out.isTTY) this.#timer = setInterval(() => this.#draw(), REDRAW_MS);
  }

  /** Takes a log line of a service or of this process. */
  line(line: string): void {
    if (!this.#out.isTTY) this.#out.write(`${line}\n`);
    else if (!this.#timer) this.#pretty.write(`${line}\n`);
    else if (this.#isNews(reportOf(line))) this.#above(() => this.#pretty.write(`${line}\n`));
  }

  /** Whether a line is to be shown: it is important, and no other service has just reported the same for the same reason. */
  #isNews({ level, service, msg, reason }: Report): boolean {
    if (!IMPORTANT.has(String(level))) return false;
    if (reason === undefined) return true;
    const key = `${msg}: ${reason}`;
    const before = this.#shown.get(key);
    const now = performance.now();
    if (before && before.service !== String(service) && now - before.atMs < TOGETHER_MS)
      return false;
    for (const [old, { atMs }] of this.#shown)
      if (now - atMs >= TOGETHER_MS) this.#shown.delete(old);
    this.#shown.set(key, { service: String(service), atMs: now });
    return true;
  }

  /** Takes a line that a service wrote to standard error. */
  errorLine(line: string): void {
    this.#above(() => this.#err.write(`${line}\n`));
  }

  update(service: string, status: HealthStatus): void {
    const before = this.#statuses.get(service);
    if (before && status.uptimeSeconds < before.uptimeSeconds) add(this.#ended, before.counts);
    this.#statuses.set(service, status);
  }

  /** Takes what the archive holds now. */
  updateArchive(figures: ProgressFigures): void {
    this.#archive = figures;
  }

  /** Figures of all services since the start, by name. */
  counts(): Record<string, number> {
    const sum = { ...this.#ended };
    for (const { counts } of this.#statuses.values()) add(sum, counts);
    return sum;
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** Removes the progress. May be called twice. */
  end(): void {
    this.#hasEnded = true;
    if (!this.#timer) return;
    clearInterval(this.#timer);
    this.#timer = null;
    this.#clear();
  }

  /** Writes lines of their own, where the progress stands below them. */
  #above(write: () => void): void {
    if (!this.#timer) return void write();
    this.#clear();
    write();
    this.#draw();
  }

  /** Of the terminal, as it is now. */
  get #columns(): number {
    return this.#out.columns || DEFAULT_COLUMNS;
  }

  /** A line that was drawn for a wider terminal takes several rows of a narrower one. */
  #clear(): void {
    if (this.#drawn.length === 0) return;
    const rows = this.#drawn.map(({ length }) => Math.max(1, Math.ceil(length / this.#columns)));
    const above = rows.reduce((sum, count) => sum + count, 0) - 1;
    this.#out.write(CLEAR_LINE + `${LINE_UP}${CLEAR_LINE}`.repeat(above));
    this.#drawn = [];
  }

  #draw(): void {
    const counts = this.counts();
    const view = {
      archive: this.#archive,
      counts,
      eventsPerSecond: this.#eventsPerSecond(counts.events ?? 0),
      statuses: [...this.#statuses.values()],
    };
    this.#clear();
    this.#drawn = progressLines(view, this.#columns - 1);
    this.#out.write(CLEAR_LINE + this.#drawn.join('\n'));
  }

  #eventsPerSecond(events: number): number {
    const now = performance.now();
    const elapsed = now - this.#lastRate;
    if (elapsed >= 1000) {
      this.#rate = Math.round(((events - this.#lastEvents) * 1000) / elapsed);
      this.#lastEvents = events;
      this.#lastRate = now;
    }
    return Math.max(0, this.#rate);
  }
}

function add(sum: Record<string, number>, counts: Readonly<Record<string, number>>): void {
  for (const [name, count] of Object.entries(counts)) sum[name] = (sum[name] ?? 0) + count;
}

/** The fields of a log line that decide whether it is shown. */
type Report = Readonly<Partial<Record<'level' | 'service' | 'msg' | 'reason', unknown>>>;

function reportOf(line: string): Report {
  try {
    return JSON.parse(line) as Report;
  } catch {
    return { level: 'ERROR' }; // not a log line, such as a stack trace: it should be seen
  }
}
