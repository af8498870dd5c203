import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import {
  allVariables,
  commonVariables,
  databaseVariables,
  finderVariables,
  initializerVariables,
  keyVariables,
  monitorVariables,
  prioritySynchronizerVariables,
  relayVariables,
  synchronizerVariables,
  syncVariables,
} from '../../src/config/schema.ts';
import { projectFile } from '../support/project.ts';

// What docs/containers.md promises of docker-compose.yml, held against the file itself.

interface Service {
  readonly image: string;
  readonly build?: { readonly context: string; readonly dockerfile: string };
  readonly user: string;
  readonly restart: string;
  readonly init: boolean;
  readonly read_only: boolean;
  readonly privileged?: boolean;
  readonly network_mode?: string;
  readonly cap_drop: readonly string[];
  readonly cap_add?: readonly string[];
  readonly security_opt: readonly string[];
  readonly logging: { readonly driver: string; readonly options: Record<string, string> };
  readonly networks: readonly string[];
  readonly ports?: readonly string[];
  readonly volumes?: readonly (string | { readonly source: string; readonly read_only: boolean })[];
  readonly environment?: Readonly<Record<string, string | null>>;
  readonly command?: readonly string[];
  readonly mem_limit: string;
  readonly pids_limit: number;
  readonly stop_grace_period?: string;
  readonly healthcheck?: { readonly test: readonly string[]; readonly start_period: string };
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>;
}

interface ComposeFile {
  readonly services: Readonly<Record<string, Service>>;
  readonly networks: Readonly<Record<string, { readonly internal?: boolean } | null>>;
}

interface SecretsFile {
  readonly services: Readonly<
    Record<
      string,
      {
        readonly environment: Readonly<Record<string, string>>;
        readonly secrets: readonly string[];
      }
    >
  >;
  readonly secrets: Readonly<Record<string, { readonly file: string }>>;
}

const read = (path: string) => readFileSync(projectFile(path), 'utf8');
const text = read('docker-compose.yml');
const compose: ComposeFile = parse(text, { merge: true });
const services = Object.entries(compose.services);
const keyServices = ['monitor', 'synchronizer', 'priority-synchronizer'];
const relayServices = [...keyServices, 'finder'];
const nodeServices = ['initializer', ...relayServices];

function service(name: string): Service {
  const found = compose.services[name];
  if (!found) throw new Error(`docker-compose.yml has no service ${name}`);
  return found;
}

/** The services of which something holds. */
const those = (holds: (service: Service) => boolean) =>
  services.filter(([, each]) => holds(each)).map(([name]) => name);

/** The services that are told a variable or can read it from a file. */
const told = (variable: string) =>
  those(({ environment = {} }) => variable in environment || `${variable}_FILE` in environment);

const oneShots = ['roles', 'initializer'];

test('all that the design names runs, and nothing else', () => {
  const names = services.map(([name]) => name);
  expect(names.sort()).toEqual(
    [...nodeServices, 'pgadmin', 'pgbouncer', 'postgres', 'roles', 'torproxy'].sort(),
  );
});

describe.each(services)('%s is contained', (_name, each) => {
  test('is no root and cannot become one', () => {
    expect(each.user).toMatch(/^(postgres|pgbouncer|debian-tor|node|5050:5050)$/);
    expect(each.security_opt).toContain('no-new-privileges:true');
    expect(each.privileged).toBeUndefined();
    expect(each.network_mode).toBeUndefined();
  });

  test('has no capabilities', () => {
    expect(each.cap_drop).toEqual(['ALL']);
    expect(each.cap_add ?? []).toEqual(each === service('pgadmin') ? ['NET_BIND_SERVICE'] : []);
  });

  test('writes to memory and its own volume only', () => {
    expect(each.read_only).toBe(true);
    for (const volume of each.volumes ?? []) {
      if (typeof volume === 'object') expect(volume.read_only, volume.source).toBe(true);
      else expect(volume).toMatch(/:ro$|:\/var\/lib\//);
    }
    expect(JSON.stringify(each)).not.toContain('docker.sock');
  });

  test('is bounded in memory, processes and log', () => {
    expect(each.mem_limit).toMatch(/\d+[mg]\}?$/);
    expect(each.pids_limit).toBeGreaterThan(0);
    expect(each.logging.driver).toBe('json-file');
    expect(Object.keys(each.logging.options).sort()).toEqual(['max-file', 'max-size']);
  });

  test('is started again, or runs once', () => {
    expect(each.init).toBe(true);
    const once = oneShots.includes(_name);
    expect(each.restart).toBe(once ? 'no' : 'unless-stopped');
    expect(each.healthcheck === undefined).toBe(once);
    if (!once) expect(each.stop_grace_period).toMatch(/^\d+[sm]$/);
  });

  test('is reached from this machine alone', () => {
    for (const port of each.ports ?? []) expect(port).toMatch(/^127\.0\.0\.1:/);
  });

  test('comes from an image that is pinned, or built here by one service', () => {
    const builders = services.filter(([, other]) => other.image === each.image && other.build);
    if (builders.length === 0) expect(each.image).toMatch(/^dpage\/pgadmin4:\d+\.\d+$/);
    else expect(each.image).toMatch(/^\$\{COMPOSE_PROJECT_NAME:-bigbrotr\}-[a-z]+$/);
    expect(builders.length).toBeLessThanOrEqual(1);
  });
});

describe('networks', () => {
  test('the one of the database has no way out', () => {
    expect(compose.networks.database).toEqual({ internal: true });
    expect(those(({ networks }) => networks.includes('database')).sort()).toEqual(
      [...nodeServices, 'pgbouncer', 'postgres', 'roles'].sort(),
    );
  });

  test('only the services that visit relays, and Tor, have one', () => {
    expect(those(({ networks }) => networks.includes('egress')).sort()).toEqual(
      [...relayServices, 'torproxy'].sort(),
    );
    expect(service('torproxy').networks).toEqual(['egress']);
    expect(service('torproxy').ports).toBeUndefined();
  });

  test('the one for published ports does not masquerade', () => {
    expect(compose.networks.operators).toEqual({
      driver_opts: { 'com.docker.network.bridge.enable_ip_masquerade': 'false' },
    });
    expect(those(({ networks }) => networks.includes('operators')).sort()).toEqual([
      'pgadmin',
      'pgbouncer',
      'postgres',
    ]);
  });

  test('the ports are the ones that the README names', () => {
    const ports = services.flatMap(([name, each]) =>
      (each.ports ?? []).map((port) => [
        name,
        port.replace(/^127\.0\.0\.1:\$\{\w+:-(\d+)\}.*/, '$1'),
      ]),
    );
    expect(Object.fromEntries(ports)).toEqual({
      postgres: '5432',
      pgbouncer: '6432',
      pgadmin: '8080',
      monitor: '8081',
      synchronizer: '8082',
      'priority-synchronizer': '8083',
      finder: '8084',
    });
  });
});

describe('order of start', () => {
  test('the initializer waits for PgBouncer, PgBouncer for the roles, the roles for PostgreSQL', () => {
    expect(service('initializer').depends_on?.pgbouncer?.condition).toBe('service_healthy');
    expect(service('pgbouncer').depends_on?.roles?.condition).toBe(
      'service_completed_successfully',
    );
    expect(service('roles').depends_on?.postgres?.condition).toBe('service_healthy');
  });

  test.each(relayServices)('%s waits for the initializer and for all it asks', (name) => {
    expect(service(name).depends_on).toEqual({
      initializer: { condition: 'service_completed_successfully' },
      pgbouncer: { condition: 'service_healthy' },
      torproxy: { condition: 'service_healthy' },
    });
  });

  test.each(nodeServices)('%s is run by node itself, so that SIGTERM arrives', (name) => {
    expect(service(name).command).toEqual(['node', `dist/${name}.js`]);
  });
});

describe('secrets', () => {
  test.each([
    ['POSTGRES_ADMIN_PASSWORD', ['postgres', 'roles']],
    ['POSTGRES_OWNER_PASSWORD', ['initializer', 'postgres', 'roles']],
    ['POSTGRES_READER_PASSWORD', ['postgres', 'roles']],
    ['POSTGRES_PASSWORD', [...nodeServices, 'postgres', 'roles']],
    ['PGBOUNCER_ADMIN_PASSWORD', ['pgbouncer', 'postgres', 'roles']],
    ['PGADMIN_DEFAULT_PASSWORD', ['pgadmin']],
    ['SECRET_KEY', keyServices],
  ])('%s is told to those who need it', (variable, names) => {
    expect(told(variable).sort()).toEqual([...names].sort());
  });

  test('compose.secrets.yml gives each of them from a file, to the same services and to no other', () => {
    const overlay: SecretsFile = parse(read('dockerfiles/compose.secrets.yml'), { merge: true });
    const given = Object.keys(overlay.secrets);
    for (const [name, { environment = {} }] of services) {
      const { environment: files = {}, secrets = [] } = overlay.services[name] ?? {};
      const wanted = Object.keys(environment).filter((variable) =>
        /(PASSWORD|SECRET_KEY)_FILE$/.test(variable),
      );
      const optional = (variable: string) => variable.startsWith('POSTGRES_READER_');
      const missing = wanted.filter((variable) => !(variable in files) && !optional(variable));
      expect(missing, name).toEqual([]);
      // What is not a variable of the service would be read by nobody.
      expect(Object.keys(files).filter((variable) => !wanted.includes(variable))).toEqual([]);
      const paths = secrets.map((secret) => `/run/secrets/${secret}`);
      expect(Object.values(files).sort(), name).toEqual(paths.sort());
      expect(given).toEqual(expect.arrayContaining([...secrets]));
    }
  });

  test('none has a value in the file', () => {
    for (const [name, { environment = {} }] of services) {
      for (const [variable, value] of Object.entries(environment)) {
        if (/PASSWORD|SECRET/.test(variable)) expect(value, `${name} ${variable}`).toBeNull();
      }
    }
  });
});

describe('variables', () => {
  const visitor = { ...commonVariables, ...databaseVariables, ...relayVariables, ...keyVariables };
  const sync = { ...visitor, ...syncVariables };
  const wanted: Record<string, object> = {
    initializer: { ...commonVariables, ...databaseVariables, ...initializerVariables },
    monitor: { ...visitor, ...monitorVariables },
    synchronizer: { ...sync, ...synchronizerVariables },
    'priority-synchronizer': { ...sync, ...prioritySynchronizerVariables },
    finder: { ...commonVariables, ...databaseVariables, ...relayVariables, ...finderVariables },
  };

  test.each(nodeServices)(
    '%s is told all that src/config.ts asks for, and nothing else',
    (name) => {
      const given = Object.keys(service(name).environment ?? {}).filter(
        (variable) => !variable.endsWith('_FILE'),
      );
      expect(given.sort()).toEqual(Object.keys(wanted[name] ?? {}).sort());
    },
  );

  test('every variable that the file asks of .env is known and explained in env.example', () => {
    const asked = new Set([...text.matchAll(/\$\{(\w+)/g)].map(([, name]) => name as string));
    asked.delete('COMPOSE_PROJECT_NAME');
    const example = read('env.example');
    expect([...asked].filter((name) => !(name in allVariables))).toEqual([]);
    expect([...asked].filter((name) => !new RegExp(`^${name}=`, 'm').test(example))).toEqual([]);
  });
});

describe('Dockerfiles', () => {
  const dockerfiles = readdirSync(projectFile('dockerfiles'))
    .filter((name) => name.endsWith('.Dockerfile'))
    .map((name) => `dockerfiles/${name}`);

  test('all of them are used', () => {
    const used = services.flatMap(([, each]) => (each.build ? [each.build.dockerfile] : []));
    expect([...new Set(used)].sort()).toEqual(dockerfiles.sort());
  });

  test.each(dockerfiles)('%s has a known base and ends as no root', (path) => {
    const lines = read(path).split('\n');
    const bases = lines
      .filter((line) => line.startsWith('FROM '))
      .map((line) => line.split(' ')[1]);
    for (const base of bases) {
      expect(['node:24-trixie-slim', 'debian:trixie-slim', 'postgres:17']).toContain(base);
    }
    expect(lines.findLast((line) => line.startsWith('USER '))).toMatch(
      /^USER (node|pgbouncer|debian-tor|postgres)$/,
    );
    expect(lines.join('\n')).not.toMatch(/#\s*syntax=/);
  });
});

describe('pgbouncer.ini', () => {
  const settings = Object.fromEntries(
    [...read('pgbouncer.ini').matchAll(/^(\w+) =[^\S\n]*(.*)$/gm)].map(([, name, value]) => [
      name,
      value,
    ]),
  );

  test('pools transactions of 1,000 clients over at most 100 connections', () => {
    expect(settings).toMatchObject({
      pool_mode: 'transaction',
      max_client_conn: '1000',
      max_db_connections: '100',
    });
    const wanted = service('postgres').command?.join(' ') ?? '';
    expect(Number(/max_connections=(\d+)/.exec(wanted)?.[1])).toBeGreaterThan(100 + 20);
  });

  test('goes on quickly when PostgreSQL is back', () => {
    expect(settings).toMatchObject({ server_login_retry: '1', dns_nxdomain_ttl: '1' });
  });

  test('keeps no list of passwords and asks through the function alone', () => {
    expect(settings.auth_query).toMatch(
      /^SELECT username, secret FROM pgbouncer\.secret_of\(\$1\)$/,
    );
    expect(read('dockerfiles/pgbouncer/hba.conf')).not.toMatch(/\b(trust|any|md5|plain)\s*$/m);
    expect(settings.ignore_startup_parameters).toBe('extra_float_digits');
  });
});
