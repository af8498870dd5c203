import { readdirSync, readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { projectFile } from '../processes/project.ts';
import { ComposeStack, canHave, eventually, missingEngine } from './stack.ts';

// The profile `monitoring`, each container alone: whether its image takes our configuration.

const NAMES = ['prometheus', 'alertmanager', 'grafana'] as const;
const PASSWORDS = {
  ...{ POSTGRES_PASSWORD: 'a', POSTGRES_ADMIN_PASSWORD: 'b', POSTGRES_OWNER_PASSWORD: 'c' },
  ...{ API_DB_PASSWORD: 'd', PGBOUNCER_ADMIN_PASSWORD: 'e', PGADMIN_DEFAULT_PASSWORD: 'f' },
  ALERT_RECEIVER: 'smtp://me%40example.com:secret@mail.example.com:587/me@example.com',
};
const { services } = parse(readFileSync(projectFile('docker-compose.yml'), 'utf8'), {
  merge: true,
}) as { services: Record<string, { image: string }> };

const missing = await missingEngine();
const here = new Set<string>();
for (const name of missing === null ? NAMES : []) {
  const { image = '' } = services[name] ?? {};
  if (await canHave(image)) here.add(name);
  else console.warn(`Skipped: ${image} is not here and cannot be pulled.`);
}

describe.skipIf(here.size === 0)('the profile monitoring', () => {
  let stack: ComposeStack;
  const run = (name: string, shell: string) =>
    stack.compose(['run', '--rm', '--no-deps', '--entrypoint', 'sh', name, '-c', shell]);

  beforeAll(async () => {
    stack = await ComposeStack.create(['docker-compose.yml'], () => PASSWORDS);
  });
  afterAll(async () => {
    await stack?.down();
  }, 180_000);

  test.skipIf(!here.has('prometheus'))('Prometheus takes configuration and rules', async () => {
    const said = await run('prometheus', 'promtool check config /etc/prometheus/prometheus.yml');
    expect(said).toMatch(/\d+ rules found/);
  });

  test.skipIf(!here.has('alertmanager'))('Alertmanager takes its configuration', async () => {
    const said = await run(
      'alertmanager',
      'ALERTMANAGER=true /opt/bigbrotr/entrypoint.sh; amtool check-config /tmp/alertmanager.yml',
    );
    expect(said).toContain('SUCCESS');
  });

  test.skipIf(!here.has('grafana'))('Grafana shows every dashboard to anybody', async () => {
    await stack.up(['--no-deps', 'grafana']);
    const files = readdirSync(projectFile('dockerfiles/grafana/dashboards'));
    const url = `http://127.0.0.1:${stack.ports.GRAFANA_PORT}/api/search?type=dash-db`;
    const found = await eventually(
      'the dashboards',
      async () => (await (await fetch(url)).json()) as { title: string }[],
      (dashboards) => dashboards.length === files.length,
    );
    expect(found.map(({ title }) => title).sort()[0]).toMatch(/^Bigbrotr: /);
  });
});
