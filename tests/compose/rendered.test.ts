import { beforeAll, describe, expect, test } from 'vitest';
import { ComposeStack, missingCompose } from './stack.ts';

// What docker-compose.yml means to Docker, with every default and every merge resolved. Needs the client alone.

interface RenderedService {
  readonly user: string;
  readonly cap_drop: readonly string[];
  readonly cap_add?: readonly string[];
  readonly security_opt: readonly string[];
  readonly read_only: boolean;
  readonly privileged?: boolean;
  readonly mem_limit: string;
  readonly pids_limit: number;
  readonly stop_grace_period?: string;
  readonly healthcheck?: { readonly test: readonly string[] };
  readonly logging: { readonly driver: string; readonly options: Record<string, string> };
  readonly networks: Readonly<Record<string, unknown>>;
  readonly ports?: readonly { readonly host_ip?: string; readonly published: string }[];
  readonly volumes?: readonly { readonly type: string; readonly read_only?: boolean }[];
  readonly environment?: Readonly<Record<string, string | null>>;
}

interface Rendered {
  readonly services: Readonly<Record<string, RenderedService>>;
  readonly networks: Readonly<Record<string, { readonly internal?: boolean }>>;
}

const PASSWORDS = {
  POSTGRES_PASSWORD: 'of the writer',
  POSTGRES_ADMIN_PASSWORD: 'of the superuser',
  POSTGRES_OWNER_PASSWORD: 'of the owner',
  API_DB_PASSWORD: 'of the API',
  POSTGRES_READER_PASSWORD: 'of the reader',
  PGBOUNCER_ADMIN_PASSWORD: 'of the pooler',
  PGADMIN_DEFAULT_PASSWORD: 'of pgAdmin',
};
const GB = 1024 ** 3;

const missing = await missingCompose();
if (missing !== null) console.warn(`Skipped: no Docker client with Compose v2 (${missing}).`);

describe.skipIf(missing !== null)('docker compose config', () => {
  let rendered: Rendered;
  const all = () => Object.entries(rendered.services);
  const on = (network: string) =>
    all().flatMap(([name, { networks }]) => (network in networks ? [name] : []));

  beforeAll(async () => {
    const stack = await ComposeStack.create(['docker-compose.yml'], () => PASSWORDS);
    try {
      rendered = JSON.parse(await stack.compose(['config', '--format', 'json']));
    } finally {
      stack.forget();
    }
  });

  test('every container runs without root and capabilities, cannot gain them, and writes only to its own volume', () => {
    expect(all().map(([name]) => name)).toEqual(expect.arrayContaining(['api', 'refresher']));
    expect(all()).toHaveLength(13);
    for (const [name, service] of all()) {
      expect(service, name).toMatchObject({
        cap_drop: ['ALL'],
        security_opt: ['no-new-privileges:true'],
        read_only: true,
      });
      expect(service.user, name).toMatch(/^(?!root|0)/);
      expect(service.privileged ?? false, name).toBe(false);
      expect(service.cap_add ?? [], name).toEqual(name === 'pgadmin' ? ['NET_BIND_SERVICE'] : []);
      for (const { type, read_only } of service.volumes ?? [])
        if (type === 'bind') expect(read_only, name).toBe(true);
    }
  });

  test('every container has limits for memory, processes, log size and stop time; long-running ones have a health check', () => {
    for (const [name, service] of all()) {
      expect(Number(service.mem_limit), name).toBeGreaterThan(0);
      expect(Number(service.mem_limit), name).toBeLessThanOrEqual(4 * GB);
      expect(service.pids_limit, name).toBeGreaterThan(0);
      expect(service.logging, name).toEqual({
        driver: 'json-file',
        options: { 'max-file': expect.any(String), 'max-size': expect.any(String) },
      });
      const runsOnce = ['check_env', 'roles', 'initializer'].includes(name);
      if (!runsOnce) expect(service.stop_grace_period, name).toMatch(/^\d/);
      expect(service.healthcheck === undefined, name).toBe(runsOnce);
    }
  });

  test('every port is on 127.0.0.1', () => {
    const ports = all().flatMap(([, service]) => service.ports ?? []);
    expect(ports.length).toBeGreaterThanOrEqual(7);
    for (const { host_ip, published } of ports) expect(host_ip, published).toBe('127.0.0.1');
  });

  test('the network of the database is internal; only services that connect to relays are on the one with internet access', () => {
    expect(rendered.networks.database?.internal).toBe(true);
    expect(on('egress').sort()).toEqual(
      ['finder', 'monitor', 'priority_synchronizer', 'synchronizer', 'torproxy'].sort(),
    );
    expect(on('database')).not.toContain('torproxy');
    expect(on('default')).toEqual([]);
  });

  test('each password reaches only the services that need it', () => {
    const readers = (variable: string) =>
      all().flatMap(([name, { environment = {} }]) =>
        Object.values(environment).includes(PASSWORDS[variable as keyof typeof PASSWORDS])
          ? [name]
          : [],
      );
    expect(readers('POSTGRES_ADMIN_PASSWORD').sort()).toEqual(['check_env', 'postgres', 'roles']);
    expect(readers('POSTGRES_OWNER_PASSWORD').sort()).toEqual(
      ['check_env', 'initializer', 'postgres', 'roles'].sort(),
    );
    expect(readers('API_DB_PASSWORD').sort()).toEqual(
      ['api', 'check_env', 'postgres', 'roles'].sort(),
    );
    expect(readers('PGADMIN_DEFAULT_PASSWORD').sort()).toEqual(['check_env', 'pgadmin']);
    const passwordsOf = (name: string) =>
      Object.keys(PASSWORDS).filter((variable) => readers(variable).includes(name));
    for (const name of ['monitor', 'synchronizer', 'finder', 'refresher'])
      expect(passwordsOf(name), name).toEqual(['POSTGRES_PASSWORD']);
    expect(passwordsOf('api')).toEqual(['API_DB_PASSWORD']);
  });
});
