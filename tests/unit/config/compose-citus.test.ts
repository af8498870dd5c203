import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { projectFile } from '../../processes/project.ts';

// What docs/citus.md promises of docker-compose.citus.yml, which is laid over docker-compose.yml.

interface Service {
  readonly image?: string;
  readonly build?: { readonly dockerfile: string };
  readonly user?: string;
  readonly restart?: string;
  readonly read_only?: boolean;
  readonly cap_drop?: readonly string[];
  readonly cap_add?: readonly string[];
  readonly security_opt?: readonly string[];
  readonly ports?: readonly string[];
  readonly networks?: readonly string[];
  readonly volumes?: readonly string[];
  readonly tmpfs?: readonly string[];
  readonly mem_limit?: string;
  readonly pids_limit?: number;
  readonly logging?: { readonly options: Readonly<Record<string, string>> };
  readonly environment?: Readonly<Record<string, string | null>>;
  readonly entrypoint?: readonly string[];
  readonly command?: readonly string[];
  readonly healthcheck?: object;
  readonly stop_grace_period?: string;
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>;
}

interface ComposeFile {
  readonly services: Readonly<Record<string, Service>>;
  readonly networks: Readonly<Record<string, { readonly internal?: boolean } | null>>;
  readonly volumes: Readonly<Record<string, unknown>>;
}

const read = (path: string) => readFileSync(projectFile(path), 'utf8');
const citus: ComposeFile = parse(read('docker-compose.citus.yml'), { merge: true });
const plain: ComposeFile = parse(read('docker-compose.yml'), { merge: true });
const workers = ['worker_1', 'worker_2'];
const added = Object.keys(citus.services).filter((name) => !(name in plain.services));

function service(name: string, file = citus): Service {
  const found = file.services[name];
  if (!found) throw new Error(`there is no service ${name}`);
  return found;
}

test('adds two workers and what makes them known; the coordinator takes the place of PostgreSQL', () => {
  expect(added.sort()).toEqual([...workers, 'nodes'].sort());
  expect(Object.keys(citus.services).sort()).toEqual(
    [...added, 'initializer', 'postgres', 'roles'].sort(),
  );
});

describe.each(added)('%s is contained as those of docker-compose.yml are', (name) => {
  const each = service(name);

  test('is not root, has no capabilities and writes to memory and its own volume only', () => {
    expect(each.user).toBe('postgres');
    expect(each.read_only).toBe(true);
    expect(each.cap_drop).toEqual(['ALL']);
    expect(each.cap_add).toBeUndefined();
    expect(each.security_opt).toEqual(['no-new-privileges:true']);
    expect(each.volumes ?? []).toEqual(
      name === 'nodes' ? [] : [`citus-${name.replace('_', '-')}:/var/lib/postgresql/data`],
    );
  });

  test('is bounded in memory, processes and log', () => {
    expect(each.mem_limit).toMatch(/\d+[mg]\}?$/);
    expect(each.pids_limit).toBeGreaterThan(0);
    expect(Object.keys(each.logging?.options ?? {}).sort()).toEqual(['max-file', 'max-size']);
  });

  test('is reached by coordinator and workers only', () => {
    expect(each.networks).toEqual(['nodes']);
    expect(each.ports).toBeUndefined();
    expect(citus.networks).toEqual({ nodes: { internal: true } });
  });
});

describe('servers', () => {
  test('are of one image, which is built by one service from a pinned one', () => {
    const images = ['postgres', 'roles', ...added].map((name) => service(name).image);
    expect(new Set(images)).toEqual(
      // biome-ignore lint/suspicious/noTemplateCurlyInString: as Compose reads it
      new Set(['${COMPOSE_PROJECT_NAME:-bigbrotr}-citus']),
    );
    const builders = Object.entries(citus.services).filter(([, { build }]) => build);
    expect(builders.map(([name, { build }]) => [name, build?.dockerfile])).toEqual([
      ['postgres', 'dockerfiles/citus.Dockerfile'],
    ]);
    const lines = read('dockerfiles/citus.Dockerfile').split('\n');
    expect(lines.filter((line) => line.startsWith('FROM '))).toEqual([
      expect.stringMatching(/^FROM citusdata\/citus:\d+\.\d+\.\d+$/),
    ]);
    expect(lines.findLast((line) => line.startsWith('USER '))).toBe('USER postgres');
  });

  test.each(['postgres', ...workers])(
    '%s prepares transactions, moves shards and takes the sessions of all',
    (name) => {
      const { command = [] } = service(name);
      const setting = (key: string) =>
        command.find((argument) => argument.startsWith(`-c${key}=`))?.replace(/^[^=]*=/, '');
      expect(setting('shared_preload_libraries')).toBe('citus');
      expect(setting('wal_level')).toBe('logical');
      // PgBouncer has at most 100 sessions, and the one for other hosts 40 (pgbouncer.ini).
      expect(Number(setting('max_connections'))).toBeGreaterThanOrEqual(140);
      expect(setting('max_prepared_transactions')).toBe(setting('max_connections'));
    },
  );

  test.each(workers)('%s is restarted, stopped in order and watched', (name) => {
    const each = service(name);
    expect(each.restart).toBe('unless-stopped');
    expect(each.stop_grace_period).toBe('2m');
    expect(each.healthcheck).toBeDefined();
  });
});

describe('passwords between servers', () => {
  test('are in a file in memory of each server, and of no other service', () => {
    for (const name of ['postgres', ...workers]) {
      const { environment = {}, tmpfs = [] } = service(name);
      expect(environment.PGPASSFILE).toBe('/run/citus/passwords');
      expect(tmpfs.some((mount) => mount.startsWith('/run/citus:'))).toBe(true);
    }
    const entrypoint = read('dockerfiles/citus/citus-entrypoint.sh');
    expect(entrypoint).toContain('umask 077');
  });

  test('none is trusted without one, and none has a value in the file', () => {
    expect(read('docker-compose.citus.yml')).not.toMatch(/trust|HOST_AUTH_METHOD/);
    for (const [name, { environment = {} }] of Object.entries(citus.services))
      for (const [variable, value] of Object.entries(environment))
        if (/PASSWORD|SECRET/.test(variable)) expect(value, `${name} ${variable}`).toBeNull();
  });

  test.each(workers)('%s is told those of PostgreSQL, as the plain server is', (name) => {
    const told = (each: Service) =>
      Object.keys(each.environment ?? {}).filter((variable) => variable !== 'PGPASSFILE');
    expect(told(service(name)).sort()).toEqual(told(service('postgres', plain)).sort());
  });
});

describe('order of start', () => {
  test('the nodes wait for roles and workers, the initializer for the nodes', () => {
    expect(service('nodes').depends_on).toEqual({
      roles: { condition: 'service_completed_successfully' },
      worker_1: { condition: 'service_healthy' },
      worker_2: { condition: 'service_healthy' },
    });
    expect(service('nodes').restart).toBe('no');
    expect(service('nodes').command).toEqual(workers);
    expect(service('initializer').depends_on).toEqual({
      nodes: { condition: 'service_completed_successfully' },
    });
  });

  test('PgBouncer and the services are as in the plain stack: they reach the coordinator', () => {
    expect('pgbouncer' in citus.services).toBe(false);
    expect(service('pgbouncer', plain).depends_on?.roles?.condition).toBe(
      'service_completed_successfully',
    );
    expect(service('postgres').networks).toEqual(['nodes']);
  });
});
