/** The dashboards of Grafana as files; tests/e2e/monitoring.test.ts runs their queries on a Prometheus. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { describedMetrics } from '../../fixtures/metric-table.ts';
import { alertRules, dashboards, metricsOf } from '../../fixtures/monitoring.ts';
import { projectFile } from '../../processes/project.ts';

const all = dashboards();

test('each panel has a title, a description, a unit and queries', () => {
  expect(all.map(({ file }) => file).sort()).toEqual([
    ...['collection.json', 'completeness.json', 'database.json', 'overview.json'],
    ...['relays.json', 'serving.json'],
  ]);
  expect(new Set(all.map(({ uid }) => uid)).size).toBe(all.length);
  for (const { title, panels } of all) {
    expect(panels.length, title).toBeLessThanOrEqual(12);
    for (const panel of panels) {
      const name = `${title}, ${panel.title}`;
      expect(panel.description ?? '', name).toMatch(/^\S.{15,}\.$/);
      expect(panel.fieldConfig.defaults.unit, name).toMatch(/^\w+$/);
      expect(panel.datasource.uid).toBe('prometheus');
      expect(panel.targets.length, name).toBeGreaterThan(0);
      for (const { expr } of panel.targets) expect(metricsOf(expr).length, expr).toBeGreaterThan(0);
    }
  }
});

test('panels do not overlap', () => {
  for (const { title, panels } of all) {
    const taken = new Set<string>();
    for (const { gridPos, title: panel } of panels)
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x += 1)
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y += 1) {
          expect(taken.has(`${x} ${y}`) || x >= 24, `${title}, ${panel}`).toBe(false);
          taken.add(`${x} ${y}`);
        }
  }
});

test('every metric of ours that a rule or panel names is one', async () => {
  const known = new Set<string>();
  for (const { name, type } of await describedMetrics()) {
    if (type === 'histogram')
      for (const part of ['bucket', 'count', 'sum']) known.add(`${name}_${part}`);
    else known.add(name);
  }
  const queries = [
    ...alertRules().map(({ expr }) => expr),
    ...all.flatMap(({ panels }) =>
      panels.flatMap(({ targets }) => targets.map(({ expr }) => expr)),
    ),
  ];
  const named = queries.flatMap(metricsOf).filter((name) => name.startsWith('bigbrotr_'));
  expect(named.length).toBeGreaterThan(80);
  expect([...new Set(named)].filter((name) => !known.has(name))).toEqual([]);
});

test('are provisioned from where Compose mounts them', () => {
  const read = (path: string) => parse(readFileSync(projectFile(path), 'utf8'));
  const [source] = read('dockerfiles/grafana/provisioning/datasources/prometheus.yml').datasources;
  expect(source).toMatchObject({ uid: 'prometheus', url: 'http://prometheus:9090' });
  const [provider] = read('dockerfiles/grafana/provisioning/dashboards/bigbrotr.yml').providers;
  const { grafana } = read('docker-compose.yml').services;
  expect(grafana.volumes[0]).toBe('./dockerfiles/grafana:/etc/bigbrotr:ro');
  expect(provider.options.path).toBe('/etc/bigbrotr/dashboards');
  expect(grafana.environment.GF_PATHS_PROVISIONING).toBe('/etc/bigbrotr/provisioning');
});
