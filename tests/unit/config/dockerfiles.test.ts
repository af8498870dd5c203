import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { projectFile } from '../../processes/project.ts';

interface ComposeFile {
  readonly services: Readonly<Record<string, { readonly build?: { readonly dockerfile: string } }>>;
}

const read = (path: string) => readFileSync(projectFile(path), 'utf8');
const compose: ComposeFile = parse(read('docker-compose.yml'), { merge: true });
const services = Object.entries(compose.services);

describe('Dockerfiles', () => {
  const dockerfiles = readdirSync(projectFile('dockerfiles'))
    .filter((name) => name.endsWith('.Dockerfile'))
    .map((name) => `dockerfiles/${name}`);

  test('all of them are used', () => {
    const used = services.flatMap(([, each]) => (each.build ? [each.build.dockerfile] : []));
    const ofCitus = 'dockerfiles/citus.Dockerfile'; // compose-citus.test.ts
    expect([...new Set([...used, ofCitus])].sort()).toEqual(dockerfiles.sort());
  });

  test.each(dockerfiles)('%s has a known base image and does not end as root', (path) => {
    const lines = read(path).split('\n');
    const bases = lines
      .filter((line) => line.startsWith('FROM '))
      .map((line) => line.split(' ')[1]);
    for (const base of bases) {
      expect([
        ...['node:24-trixie-slim', 'debian:trixie-slim', 'postgres:17', 'citusdata/citus:13.2.0'],
      ]).toContain(base);
    }
    expect(lines.findLast((line) => line.startsWith('USER '))).toMatch(
      /^USER (node|pgbouncer|debian-tor|postgres)$/,
    );
    expect(lines.join('\n')).not.toMatch(/#\s*syntax=/);
  });
});
