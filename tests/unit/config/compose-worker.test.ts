import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import {
  commonVariables,
  databaseVariables,
  keyVariables,
  monitorVariables,
  relayVariables,
  synchronizerVariables,
  syncVariables,
} from '../../../src/config/schema.ts';
import { projectFile } from '../../processes/project.ts';

// What docs/hosts.md promises of the Compose files for workers on other hosts.

interface Service {
  readonly user: string;
  readonly read_only: boolean;
  readonly cap_drop: readonly string[];
  readonly security_opt: readonly string[];
  readonly ports?: readonly string[];
  readonly container_name?: string;
  readonly profiles?: readonly string[];
  readonly environment?: Readonly<Record<string, string | null>>;
}

const servicesOf = (path: string) =>
  Object.entries(
    (
      parse(readFileSync(projectFile(path), 'utf8'), { merge: true }) as {
        readonly services: Readonly<Record<string, Service>>;
      }
    ).services,
  );
const workers = servicesOf('dockerfiles/compose.worker.yml');
const tls = servicesOf('dockerfiles/compose.tls.yml');

test.each([...workers, ...tls])('%s is contained', (_name, service) => {
  expect(service.user).toMatch(/^(node|debian-tor|pgbouncer)$/);
  expect(service.read_only).toBe(true);
  expect(service.cap_drop).toEqual(['ALL']);
  expect(service.security_opt).toEqual(['no-new-privileges:true']);
});

describe('compose.worker.yml', () => {
  test('runs synchronizers, and on request a monitor and Tor', () => {
    expect(workers.map(([name, { profiles }]) => [name, profiles])).toEqual([
      ['synchronizer', undefined],
      ['monitor', ['monitor']],
      ['torproxy', ['tor']],
    ]);
  });

  test('can be scaled: no service has a port or a name of its own', () => {
    for (const [, service] of workers) {
      expect(service.ports).toBeUndefined();
      expect(service.container_name).toBeUndefined();
    }
  });

  const every = { ...commonVariables, ...databaseVariables, ...relayVariables, ...keyVariables };
  test.each([
    ['synchronizer', { ...every, ...syncVariables, ...synchronizerVariables }],
    ['monitor', { ...every, ...monitorVariables }],
  ])(
    'tells the %s all that src/config/load.ts asks for, without files of the archive’s host',
    (name, wanted) => {
      const files = ['SYNCHRONIZER_PRIORITY_RELAYS_PATH', 'GEOIP_CITY_PATH', 'GEOIP_ASN_PATH'];
      const [, service] = workers.find(([other]) => other === name) ?? [];
      expect(Object.keys(service?.environment ?? {}).sort()).toEqual(
        Object.keys(wanted)
          .filter((variable) => !files.includes(variable))
          .sort(),
      );
      expect(service?.environment).toMatchObject({
        // biome-ignore lint/suspicious/noTemplateCurlyInString: as Compose reads it
        POSTGRES_SSL_MODE: '${POSTGRES_SSL_MODE:-verify-full}',
      });
    },
  );
});

test('compose.tls.yml adds a PgBouncer that takes no connection without TLS', () => {
  expect(tls.map(([name]) => name)).toEqual(['pgbouncer_tls']);
  expect(tls[0]?.[1].environment).toMatchObject({ PGBOUNCER_TLS: 'require' });
  const entrypoint = readFileSync(projectFile('dockerfiles/pgbouncer/entrypoint.sh'), 'utf8');
  expect(entrypoint).toContain('client_tls_sslmode = require');
});
