import { readFileSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { describedMetrics, metricTables } from '../../fixtures/metric-table.ts';
import { projectFile } from '../../processes/project.ts';

const PAGE = projectFile('docs/metrics.md');

test('docs/metrics.md has every metric: UPDATE_DOCS=1 writes it anew', async () => {
  const page = readFileSync(PAGE, 'utf8');
  const introduction = page.split(/^## /m)[0] ?? '';
  const wanted = introduction + (await metricTables());
  if (process.env.UPDATE_DOCS === '1') writeFileSync(PAGE, wanted);
  else expect(page).toBe(wanted);
});

test('metrics are named by the conventions of Prometheus', async () => {
  const metrics = await describedMetrics();
  expect(metrics.length).toBeGreaterThan(60);
  for (const { name, type, help } of metrics) {
    expect(name.endsWith('_total'), name).toBe(type === 'counter');
    expect(name, name).not.toMatch(
      /_(ms|milliseconds|minutes|hours|days|kb|mb|percent)(_|$)(?<!dirty_days)/,
    );
    if (type === 'histogram') expect(name).toMatch(/_seconds$/);
    expect(help, name).toMatch(/^\S.*\.$/);
  }
});
