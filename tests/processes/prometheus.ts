import { spawnSync } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { alertRules } from '../fixtures/monitoring.ts';
import { listenOnLoopback } from '../network/loopback.ts';
import { Program } from './programs.ts';

/** Whether Prometheus is installed (Debian package prometheus). */
export const hasPrometheus = spawnSync('prometheus', ['--version']).status === 0;

/** Time in the rules runs this many times faster, but no range is shorter than five scrapes. */
const FASTER = 600;
const SHORTEST_SECONDS = 5;
const UNITS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3600, d: 86_400 };

/** A duration of the rules as it is in the test. */
function faster(duration: string, shortest: number): string {
  const [, count = '0', unit = 's'] = /^(\d+)([smhd])$/.exec(duration) ?? [];
  return `${Math.max(Math.round((Number(count) * (UNITS[unit] ?? 1)) / FASTER), shortest)}s`;
}

/** Ranges are shorter, and so is what may be refused within one. */
const fasterRanges = (query: string) =>
  query
    .replace('> 1000 and', '> 50 and')
    .replace(/\[(\d+[smhd])\]/g, (_, range: string) => `[${faster(range, SHORTEST_SECONDS)}]`);

export interface Series {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: readonly [number, string];
}

/** A Prometheus on loopback that scrapes each second and has our alerts, with time running faster. */
export class Prometheus {
  readonly #url: string;
  readonly program: Program;

  private constructor(port: number, folder: string) {
    this.#url = `http://127.0.0.1:${port}`;
    const options = ['--config.file=prometheus.json', '--storage.tsdb.path=tsdb'];
    const listen = `--web.listen-address=127.0.0.1:${port}`;
    this.program = new Program('prometheus', [...options, listen], { cwd: folder, env: {} });
  }

  /** @param ports those of the services @param folder where it works: programs there are ended with the stack */
  static async start(ports: readonly number[], folder: string): Promise<Prometheus> {
    const rules = alertRules().map((rule) => ({
      ...{ ...rule, expr: fasterRanges(rule.expr) },
      ...(rule.for && { for: faster(rule.for, 1) }),
    }));
    const targets = ports.map((port) => `127.0.0.1:${port}`);
    const config = {
      global: { scrape_interval: '1s', scrape_timeout: '1s', evaluation_interval: '1s' },
      rule_files: ['rules.json'],
      scrape_configs: [{ job_name: 'bigbrotr', honor_labels: true, static_configs: [{ targets }] }],
    };
    await mkdir(join(folder, 'tsdb'));
    await writeFile(
      join(folder, 'rules.json'),
      JSON.stringify({ groups: [{ name: 'all', rules }] }),
    );
    await writeFile(join(folder, 'prometheus.json'), JSON.stringify(config));
    const server = createServer();
    const port = await listenOnLoopback(server);
    await new Promise((resolve) => server.close(resolve));
    return new Prometheus(port, folder);
  }

  /** The answer to a query now. @throws Error with what Prometheus says */
  async query(query: string): Promise<Series[]> {
    const parameters = new URLSearchParams({ query: fasterRanges(query) });
    const response = await fetch(`${this.#url}/api/v1/query?${parameters}`);
    const { data, error } = (await response.json()) as {
      data?: { result: Series[] };
      error?: string;
    };
    if (!data) throw new Error(`${query}: ${error}`);
    return data.result;
  }

  /** Names of the alerts that fire now; none before it answers. */
  async firing(): Promise<Set<string>> {
    const series = await this.query('ALERTS{alertstate="firing"}').catch(() => []);
    return new Set(series.map(({ metric }) => metric.alertname ?? ''));
  }

  /** Waits until these alerts fire, or until they do not. @throws Error that names those that do not come to it */
  async until(alerts: readonly string[], fire: boolean, timeoutMs = 90_000): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const firing = await this.firing();
      const waiting = alerts.filter((alert) => firing.has(alert) !== fire);
      if (waiting.length === 0) return;
      if (performance.now() > deadline)
        throw new Error(`${waiting.join(', ')}: ${fire ? 'did not fire' : 'did not clear'}`);
      await sleep(500);
    }
  }
}
