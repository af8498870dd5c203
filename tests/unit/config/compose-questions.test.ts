/** The tools `explain` and `status` of docker-compose.yml. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { loadExplainConfig } from '../../../src/config/load.ts';
import { projectFile } from '../../processes/project.ts';

interface Service {
  readonly entrypoint?: readonly string[];
  readonly environment?: Readonly<Record<string, string | null>>;
  readonly ports?: readonly string[];
  readonly profiles?: readonly string[];
  readonly volumes?: readonly { readonly target: string }[];
}

const compose: { services: Record<string, Service> } = parse(
  readFileSync(projectFile('docker-compose.yml'), 'utf8'),
  { merge: true },
);
const { explain, status } = compose.services;

test('status asks every service that has a health port and runs without a profile', () => {
  const running = Object.entries(compose.services).filter(([, { profiles }]) => !profiles);
  const published = running.flatMap(([name, { ports = [] }]) =>
    ports
      .map((port) => `${name}:${port.split(':').at(-1)}`)
      .filter((text) => /:808[1-9]$/.test(text)),
  );
  expect(published).toHaveLength(6);
  expect(status?.entrypoint).toEqual(['node', 'dist/status.js', ...published]);
});

test('explain has every file that it reads, and the settings by which relays are visited', () => {
  const { environment = {}, volumes = [] } = explain ?? {};
  const given = Object.fromEntries(
    Object.entries(environment).map(([name, value]) => [name, value ?? undefined]),
  );
  const { blocklistPath, priorityRelaysPath, seedRelaysPath } = loadExplainConfig(given);
  const paths = [blocklistPath, priorityRelaysPath, seedRelaysPath];
  expect(volumes.map(({ target }) => target).sort()).toEqual([...paths].sort());
  expect(environment).toHaveProperty('SYNCHRONIZER_LOOP_INTERVAL_MINUTES', null);
  expect(environment).toHaveProperty('SYNCHRONIZER_RELAY_METADATA_THRESHOLD_HOURS', null);
});
