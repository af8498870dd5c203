import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import {
  allVariables,
  apiVariables,
  commonVariables,
  databaseVariables,
  finderVariables,
  initializerVariables,
  keyVariables,
  monitorVariables,
  prioritySynchronizerVariables,
  readerLoginVariables,
  refresherVariables,
  relayServerVariables,
  relayVariables,
  synchronizerVariables,
  syncVariables,
} from '../../../src/config/schema.ts';
import { projectFile } from '../../processes/project.ts';

// What docs/containers.md promises of docker-compose.yml, held against the file itself.

interface Service {
  readonly image: string;
  readonly container_name: string;
  readonly profiles?: readonly string[];
  readonly env_file?: readonly { readonly path: string; readonly required: boolean }[];
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
  readonly networks?: readonly string[];
  readonly ports?: readonly string[];
  readonly volumes?: readonly (string | { readonly source: string; readonly read_only: boolean })[];
  readonly environment?: Readonly<Record<string, string | null>>;
  readonly command?: readonly string[];
  readonly entrypoint?: readonly string[];
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
const worker = 'synchronizer-worker';
const keyServices = ['monitor', 'synchronizer', worker, 'priority_synchronizer'];
const relayServices = [...keyServices, 'finder'];
const nodeServices = ['initializer', ...relayServices, 'refresher'];
/** Those that serve the archive, with a login that only reads. */
const readers = ['api', 'relay'];
const askingServices = ['explain', 'status', 'export', 'import'];
const questionServices = [...askingServices, 'inspect'];
const toolServices = ['check_env', 'check_ports', 'keygen', ...questionServices];

function service(name: string): Service {
  const found = compose.services[name];
  if (!found) throw new Error(`docker-compose.yml has no service ${name}`);
  return found;
}

/** The services of which something holds. */
const those = (holds: (service: Service) => boolean) =>
  services.filter(([, each]) => holds(each)).map(([name]) => name);

const isOn =
  (network: string) =>
  ({ networks = [] }: Service) =>
    networks.includes(network);

/** The services that are told a variable or can read it from a file. */
const told = (variable: string) =>
  those(({ environment = {} }) => variable in environment || `${variable}_FILE` in environment);

const oneShots = ['roles', 'initializer', ...toolServices];

test('the documented services run, and nothing else', () => {
  const names = services.map(([name]) => name);
  expect(names.sort()).toEqual(
    [
      ...[...nodeServices, ...toolServices],
      ...['api', 'relay', 'pgadmin', 'pgbouncer', 'postgres', 'roles', 'torproxy'],
    ].sort(),
  );
  expect(those(({ profiles }) => profiles !== undefined).sort()).toEqual(
    ['check_ports', 'keygen', 'relay', worker, ...questionServices].sort(),
  );
  expect(service('relay').profiles).toEqual(['relay']);
  expect(service(worker).profiles).toEqual(['workers']);
});

test('containers are named after the project and the service, PostgreSQL’s is the database', () => {
  expect(service(worker).container_name).toBeUndefined(); // there may be several
  expect(service(worker).ports).toBeUndefined();
  for (const [name, { container_name }] of services.filter(([name]) => name !== worker))
    expect(container_name).toBe(
      `\${COMPOSE_PROJECT_NAME:-bigbrotr}_${name === 'postgres' ? 'database' : name}`,
    );
});

describe.each(services)('%s is contained', (_name, each) => {
  test('is not root and cannot become root', () => {
    expect(each.user).toMatch(/^(postgres|pgbouncer|debian-tor|node|5050:5050)$/);
    expect(each.security_opt).toContain('no-new-privileges:true');
    expect(each.privileged).toBeUndefined();
    expect(each.network_mode).toBe(each === service('check_ports') ? 'host' : undefined);
  });

  test('has no capabilities', () => {
    expect(each.cap_drop).toEqual(['ALL']);
    expect(each.cap_add ?? []).toEqual(each === service('pgadmin') ? ['NET_BIND_SERVICE'] : []);
  });

  test('writes to memory and its own volume only', () => {
    expect(each.read_only).toBe(true);
    for (const volume of each.volumes ?? []) {
      if (typeof volume === 'object') expect(volume.read_only, volume.source).toBe(true);
      else expect(volume).toMatch(/:ro$|:\/(var\/lib|datasets)(\/|$)/);
    }
    expect(JSON.stringify(each)).not.toContain('docker.sock');
  });

  test('is bounded in memory, processes and log', () => {
    expect(each.mem_limit).toMatch(/\d+[mg]\}?$/);
    expect(each.pids_limit).toBeGreaterThan(0);
    expect(each.logging.driver).toBe('json-file');
    expect(Object.keys(each.logging.options).sort()).toEqual(['max-file', 'max-size']);
  });

  test('is restarted, or runs once', () => {
    expect(each.init).toBe(true);
    const once = oneShots.includes(_name);
    expect(each.restart).toBe(once ? 'no' : 'unless-stopped');
    expect(each.healthcheck === undefined).toBe(once);
    if (!once) expect(each.stop_grace_period).toMatch(/^\d+[sm]$/);
  });

  test('is reachable from this machine only', () => {
    for (const port of each.ports ?? []) expect(port).toMatch(/^127\.0\.0\.1:/);
  });

  test('comes from an image that is pinned, or built here by one service', () => {
    const builders = services.filter(([, other]) => other.image === each.image && other.build);
    if (builders.length === 0) expect(each.image).toMatch(/^dpage\/pgadmin4:\d+\.\d+$/);
    else expect(each.image).toMatch(/^\$\{COMPOSE_PROJECT_NAME:-bigbrotr\}-[a-z]+$/);
    // A tool is built where it is the first thing that is run; `up` does not build it.
    expect(builders.filter(([, { profiles }]) => !profiles).length).toBeLessThanOrEqual(1);
  });
});

describe('networks', () => {
  test('that of the database has no route outside', () => {
    expect(compose.networks.database).toEqual({ internal: true });
    const tools = toolServices.filter((name) => name !== 'check_ports');
    expect(those(isOn('database')).sort()).toEqual(
      [...nodeServices, ...tools, ...readers, 'pgbouncer', 'postgres', 'roles'].sort(),
    );
  });

  test('only what looks for ports in use is on that of the host, and it is told nothing but ports', () => {
    expect(those(({ networks }) => networks === undefined)).toEqual(['check_ports']);
    const { environment = {} } = service('check_ports');
    const published = services.flatMap(([, { ports = [] }]) =>
      ports.map((port) => /\$\{(\w+)/.exec(port)?.[1] as string),
    );
    const tls = ['PGBOUNCER_TLS_PATH', 'PGBOUNCER_TLS_PORT'];
    expect(Object.keys(environment).sort()).toEqual([...published, ...tls].sort());
  });

  test('only the services that connect to relays, and Tor, have one', () => {
    expect(those(isOn('egress')).sort()).toEqual([...relayServices, 'torproxy'].sort());
    expect(service('torproxy').networks).toEqual(['egress']);
    expect(service('torproxy').ports).toBeUndefined();
  });

  test('the one for published ports does not masquerade', () => {
    expect(compose.networks.operators).toEqual({
      driver_opts: { 'com.docker.network.bridge.enable_ip_masquerade': 'false' },
    });
    expect(those(isOn('operators')).sort()).toEqual(
      [...readers, 'pgadmin', 'pgbouncer', 'postgres', 'refresher'].sort(),
    );
  });

  test('the ports are the ones that the README names', () => {
    const ports = services.flatMap(([name, each]) =>
      (each.ports ?? []).map((port, place) => [
        place === 0 ? name : `health of ${name}`,
        port.replace(/^127\.0\.0\.1:\$\{\w+:-(\d+)\}.*/, '$1'),
      ]),
    );
    expect(Object.fromEntries(ports)).toEqual({
      postgres: '5432',
      pgbouncer: '6432',
      pgadmin: '8080',
      monitor: '8081',
      synchronizer: '8082',
      priority_synchronizer: '8083',
      finder: '8084',
      api: '8085',
      relay: '7777',
      'health of relay': '8087',
      refresher: '8086',
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
    for (const first of ['postgres', 'torproxy'])
      expect(service(first).depends_on?.check_env?.condition).toBe(
        'service_completed_successfully',
      );
    expect(service('check_env').depends_on).toBeUndefined();
  });

  test.each(relayServices)(
    '%s waits for the initializer and for everything it connects to',
    (name) => {
      expect(service(name).depends_on).toEqual({
        initializer: { condition: 'service_completed_successfully' },
        pgbouncer: { condition: 'service_healthy' },
        torproxy: { condition: 'service_healthy' },
      });
    },
  );

  test.each(readers)(
    '%s waits for the initializer and for PgBouncer, and reaches no relay',
    (name) => {
      expect(service(name).depends_on).toEqual({
        initializer: { condition: 'service_completed_successfully' },
        pgbouncer: { condition: 'service_healthy' },
      });
      expect(service(name).networks).not.toContain('egress');
    },
  );

  test.each([...nodeServices, ...readers, ...toolServices])(
    '%s is run by node itself, so that SIGTERM arrives',
    (name) => {
      // What is written after the name of a service takes the place of its command, not of its entrypoint.
      const { command, entrypoint } = service(name);
      const isQuestion = questionServices.includes(name);
      const file = name === worker ? 'synchronizer' : name.replace('_', '-');
      expect((isQuestion ? entrypoint : command)?.slice(0, 2)).toEqual(['node', `dist/${file}.js`]);
    },
  );
});

describe('secrets', () => {
  test.each([
    ['POSTGRES_ADMIN_PASSWORD', ['postgres', 'roles']],
    ['POSTGRES_OWNER_PASSWORD', ['initializer', 'postgres', 'roles']],
    ['POSTGRES_READER_PASSWORD', ['postgres', 'roles']],
    ['POSTGRES_PASSWORD', [...nodeServices, ...askingServices, 'postgres', 'roles']],
    ['API_DB_PASSWORD', [...readers, 'postgres', 'roles']],
    ['PGBOUNCER_ADMIN_PASSWORD', ['pgbouncer', 'postgres', 'roles']],
    ['PGADMIN_DEFAULT_PASSWORD', ['pgadmin']],
    ['SECRET_KEY', keyServices],
  ])('%s is given to the services that need it, and to no other', (variable, names) => {
    expect(told(variable).sort()).toEqual(['check_env', ...names].sort());
  });

  test('compose.secrets.yml sets each of them from a file, for the same services and no other', () => {
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
  const { HEALTH_HOST } = relayVariables;
  const visitor = { ...commonVariables, ...databaseVariables, ...relayVariables, ...keyVariables };
  const sync = { ...visitor, ...syncVariables };
  const { LOG_LEVEL, SHUTDOWN_TIMEOUT_SECONDS } = commonVariables;
  // Its login is API_DB_USER, so that it is not told that of the services.
  const {
    POSTGRES_USER: _user,
    POSTGRES_PASSWORD: _password,
    ...databaseOfApi
  } = databaseVariables;
  const ofReader = { LOG_LEVEL, SHUTDOWN_TIMEOUT_SECONDS, ...databaseOfApi };
  const wanted: Record<string, object> = {
    initializer: { ...commonVariables, ...databaseVariables, ...initializerVariables },
    monitor: { ...visitor, ...monitorVariables },
    synchronizer: { ...sync, ...synchronizerVariables },
    [worker]: { ...sync, ...synchronizerVariables },
    priority_synchronizer: { ...sync, ...prioritySynchronizerVariables },
    finder: { ...commonVariables, ...databaseVariables, ...relayVariables, ...finderVariables },
    api: { ...ofReader, ...apiVariables },
    relay: { ...ofReader, HEALTH_HOST, ...readerLoginVariables, ...relayServerVariables },
    refresher: { ...commonVariables, ...databaseVariables, HEALTH_HOST, ...refresherVariables },
  };

  test.each([...nodeServices, ...readers])(
    '%s is told all that src/config/load.ts asks for, and nothing else',
    (name) => {
      const given = Object.keys(service(name).environment ?? {}).filter(
        (variable) => !variable.endsWith('_FILE'),
      );
      expect(given.sort()).toEqual(Object.keys(wanted[name] ?? {}).sort());
    },
  );

  test('check_env receives every variable, and all of .env to find names that are no variable', () => {
    const { environment = {}, env_file } = service('check_env');
    const outside = ['LOCAL_DATA_PATH', 'POSTGRES_DB_INIT_PATH']; // npm start's, and a file that Docker looks for
    expect(Object.keys(environment)).toEqual(
      expect.arrayContaining(Object.keys(allVariables).filter((name) => !outside.includes(name))),
    );
    expect(env_file).toEqual([{ path: '.env', required: false }]);
    const published = services.flatMap(([, { ports = [] }]) =>
      ports.map((port) => /\$\{(\w+)/.exec(port)?.[1] as string),
    );
    expect(published).toHaveLength(11);
    // The port on this machine, not the fixed one inside the container.
    for (const name of published) expect(environment[name], name).toBeNull();
  });

  test('every variable that the file takes from .env is explained in env.example', () => {
    const asked = new Set([...text.matchAll(/\$\{(\w+)/g)].map(([, name]) => name as string));
    asked.delete('COMPOSE_PROJECT_NAME');
    const example = read('env.example');
    expect([...asked].filter((name) => !(name in allVariables))).toEqual([]);
    expect([...asked].filter((name) => !new RegExp(`^${name}=`, 'm').test(example))).toEqual([]);
  });
});
