/** The alerts of dockerfiles/prometheus, judged by promtool (Debian package prometheus). */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { ALERT_CASES, type AlertCase } from '../../fixtures/alert-cases.ts';
import { alertRules } from '../../fixtures/monitoring.ts';
import { projectFile } from '../../processes/project.ts';

const RULES = projectFile('dockerfiles/prometheus/rules.yml');
const rules = alertRules();
const hasPromtool = spawnSync('promtool', ['--version']).status === 0;
if (!hasPromtool)
  console.warn('promtool is not installed (apt-get install prometheus): alerts are not tested');

/** What promtool says; empty: all is well. */
function promtool(...args: string[]): string {
  const { status, stdout, stderr } = spawnSync('promtool', args, { encoding: 'utf8' });
  return status === 0 ? '' : `${stdout}${stderr}`;
}

describe('alerts', () => {
  test('have a name, a severity, sentences and an entry in docs/runbook.md', () => {
    const runbook = readFileSync(projectFile('docs/runbook.md'), 'utf8');
    const entries = [...runbook.matchAll(/^### (\w+)$/gm)].map(([, name]) => name);
    expect(entries.sort()).toEqual(rules.map(({ alert }) => alert).sort());
    for (const { alert, labels, annotations } of rules) {
      expect(labels.severity, alert).toMatch(/^(critical|warning)$/);
      expect(annotations.runbook).toBe(`docs/runbook.md#${alert.toLowerCase()}`);
      for (const text of [annotations.summary, annotations.description])
        expect(text, alert).toMatch(/^\S.*\.$/);
    }
    for (const entry of runbook.split(/^### /m).slice(1)) {
      const name = entry.split('\n')[0];
      for (const part of ['**Means.**', '**Look.**', '**Do.**'])
        expect(entry.includes(part), `${name} ${part}`).toBe(true);
    }
  });

  test('have each a case', () => {
    const withCase = new Set(ALERT_CASES.map(({ alert }) => alert));
    expect([...withCase].sort()).toEqual(rules.map(({ alert }) => alert).sort());
    for (const { fires, quiet } of ALERT_CASES)
      expect(Math.min(fires.length, quiet.length)).toBeGreaterThan(0);
  });
});

describe.skipIf(!hasPromtool)('promtool', () => {
  test('accepts rules and configuration', () => {
    expect(promtool('check', 'rules', RULES)).toBe('');
    const folder = mkdtempSync(join(tmpdir(), 'bigbrotr-promtool-'));
    const text = readFileSync(projectFile('dockerfiles/prometheus/prometheus.yml'), 'utf8');
    writeFileSync(
      join(folder, 'prometheus.yml'),
      text.replaceAll('/etc/prometheus/rules.yml', RULES),
    );
    const said = promtool('check', 'config', join(folder, 'prometheus.yml'));
    rmSync(folder, { recursive: true });
    expect(said).toBe('');
    expect(parse(text).rule_files).toEqual(['/etc/prometheus/rules.yml']);
  });

  test('sees every alert fire and clear where it should', () => {
    const folder = mkdtempSync(join(tmpdir(), 'bigbrotr-promtool-'));
    const files = ALERT_CASES.map((each, place) => writeCase(folder, each, place));
    const said = promtool('test', 'rules', ...files);
    rmSync(folder, { recursive: true });
    expect(said).toBe('');
  });
});

/** A file for promtool with one case: its rule alone, evaluated at each sample, since all rules each minute take a minute. */
function writeCase(folder: string, each: AlertCase, place: number): string {
  const { alert, interval, series, fires, quiet } = each;
  const ofCase = rules.filter((rule) => rule.alert === alert);
  const rulesFile = join(folder, `${place}-rules.yml`);
  writeFileSync(rulesFile, JSON.stringify({ groups: [{ name: alert, rules: ofCase }] }));
  const expr = `count(ALERTS{alertname="${alert}",alertstate="firing"})`;
  const promql_expr_test = [
    ...fires.map((at) => ({ expr, eval_time: at, exp_samples: [{ labels: '{}', value: 1 }] })),
    ...quiet.map((at) => ({ expr, eval_time: at, exp_samples: [] })),
  ];
  const input_series = Object.entries(series).map(([name, values]) => ({ series: name, values }));
  const file = join(folder, `${place}.yml`);
  const tests = [{ name: alert, interval, input_series, promql_expr_test }];
  writeFileSync(
    file,
    JSON.stringify({ rule_files: [rulesFile], evaluation_interval: interval, tests }),
  );
  return file;
}
