import type { WriteStream } from 'node:tty';
import type { HealthStatus } from '../health.ts';
import { prettyStream } from '../logger.ts';

const REDRAW_MS = 500;
/** pino's number for warn; lines below it would push a person's view away. */
const IMPORTANT = new Set(['warn', 'error', 'fatal']);
const CLEAR_LINE = '\r\x1b[2K';

/** What one machine's services do: for a person at a terminal a line that moves, else their log lines as they are. */
export class Progress {
  readonly #out: WriteStream;
  readonly #pretty = prettyStream({ write: (text: string) => void process.stdout.write(text) });
  readonly #statuses = new Map<string, HealthStatus>();
  /** Counts of services that ended, since a service that is started again counts from zero. */
  readonly #ended: Record<string, number> = {};
  readonly #timer: NodeJS.Timeout | null;
  #lastEvents = 0;
  #lastDraw = performance.now();
  #rate = 0;

  constructor(out: WriteStream) {
    this.#out = out;
    this.#timer = out.isTTY ? setInterval(() => this.#draw(), REDRAW_MS) : null;
  }

  /** Takes a log line of a service. */
  line(line: string): void {
    if (!this.#timer) this.#out.write(`${line}\n`);
    else if (IMPORTANT.has(levelOf(line))) {
      this.clear();
      this.#pretty.write(`${line}\n`);
      this.#draw();
    }
  }

  update(service: string, status: HealthStatus): void {
    const before = this.#statuses.get(service);
    if (before && status.uptimeSeconds < before.uptimeSeconds) add(this.#ended, before.counts);
    this.#statuses.set(service, status);
  }

  /** Figures of all services since the start, by name. */
  counts(): Record<string, number> {
    const sum = { ...this.#ended };
    for (const { counts } of this.#statuses.values()) add(sum, counts);
    return sum;
  }

  clear(): void {
    if (this.#timer) this.#out.write(CLEAR_LINE);
  }

  end(): void {
    if (!this.#timer) return;
    clearInterval(this.#timer);
    this.clear();
  }

  #draw(): void {
    const counts = this.counts();
    const width = (this.#out.columns || 80) - 1;
    this.#out.write(CLEAR_LINE + this.#text(counts).slice(0, width));
  }

  #text(counts: Record<string, number>): string {
    const figure = (name: string) => (counts[name] ?? 0).toLocaleString('en-US');
    const parts = [
      `relays checked ${figure('relays_checked')}, readable ${figure('relays_readable')}`,
      `events ${figure('events')} (${this.#eventsPerSecond(counts.events ?? 0)}/s)`,
      `sightings ${figure('sightings')}`,
    ];
    const busy = ['synchronising', 'checking']
      .map((what) => this.#detail(what))
      .find((text) => text);
    if (busy) parts.push(busy);
    return parts.join(' | ');
  }

  #eventsPerSecond(events: number): number {
    const now = performance.now();
    const elapsed = now - this.#lastDraw;
    if (elapsed >= 1000) {
      this.#rate = Math.round(((events - this.#lastEvents) * 1000) / elapsed);
      this.#lastEvents = events;
      this.#lastDraw = now;
    }
    return Math.max(0, this.#rate);
  }

  #detail(what: string): string {
    const relays = [...this.#statuses.values()]
      .map(({ details }) => details?.[what])
      .filter((text) => text);
    return relays.length > 0 ? `${what} ${relays.join(' ')}` : '';
  }
}

function add(sum: Record<string, number>, counts: Readonly<Record<string, number>>): void {
  for (const [name, count] of Object.entries(counts)) sum[name] = (sum[name] ?? 0) + count;
}

function levelOf(line: string): string {
  try {
    return String((JSON.parse(line) as { level?: unknown }).level);
  } catch {
    return 'error'; // not one of our lines: somebody should see it
  }
}
