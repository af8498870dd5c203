import type { WriteStream } from 'node:tty';
import type { HealthStatus } from '../health.ts';
import { type DestinationStream, prettyStream } from '../logger.ts';

const REDRAW_MS = 500;
/** Levels whose lines a person should see; the others would push the view away. */
const IMPORTANT = new Set(['warn', 'error', 'fatal']);
const CLEAR_LINE = '\r\x1b[2K';

/**
 * What one machine's services do: for a person at a terminal a line that moves, below what is worth knowing; else
 * their log lines as they are.
 */
export class Progress {
  readonly #out: WriteStream;
  readonly #pretty: DestinationStream;
  readonly #statuses = new Map<string, HealthStatus>();
  /** Counts of services that ended, since a service that is started again counts from zero. */
  readonly #ended: Record<string, number> = {};
  #timer: NodeJS.Timeout | null = null;
  #lastEvents = 0;
  #lastRate = performance.now();
  #rate = 0;

  constructor(out: WriteStream) {
    this.#out = out;
    this.#pretty = prettyStream({ write: (text: string) => void out.write(text) });
  }

  /** Shows the moving line from now on; at a terminal only important lines of the log are shown beside it. */
  begin(): void {
    if (this.#out.isTTY) this.#timer = setInterval(() => this.#draw(), REDRAW_MS);
  }

  /** Takes a log line, of a service or of our own. */
  line(line: string): void {
    if (!this.#out.isTTY) this.#out.write(`${line}\n`);
    else if (!this.#timer) this.#pretty.write(`${line}\n`);
    else if (IMPORTANT.has(levelOf(line))) {
      this.#clear();
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

  /** Takes the moving line away. May be called twice. */
  end(): void {
    if (!this.#timer) return;
    clearInterval(this.#timer);
    this.#timer = null;
    this.#clear();
  }

  #clear(): void {
    this.#out.write(CLEAR_LINE);
  }

  #draw(): void {
    const width = (this.#out.columns || 80) - 1;
    this.#out.write(CLEAR_LINE + this.#text(this.counts()).slice(0, width));
  }

  #text(counts: Record<string, number>): string {
    const figure = (name: string) => (counts[name] ?? 0).toLocaleString('en-US');
    const parts = [
      `${figure('relays_checked')} relays checked, ${figure('relays_readable')} readable`,
      `${figure('events')} events, ${this.#eventsPerSecond(counts.events ?? 0)}/s`,
    ];
    const busy = ['synchronising', 'checking']
      .map((what) => this.#detail(what))
      .find((text) => text);
    if (busy) parts.push(busy);
    return parts.join(' | ');
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

  #detail(what: string): string {
    const relays = [...this.#statuses.values()]
      .map(({ details }) => details?.[what])
      .filter((text) => text);
    return relays.length > 0 ? `${what} ${relays.join(' ').replace(/\bwss?:\/\//g, '')}` : '';
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
