import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import {
  askingServices,
  compose,
  isOn,
  keyServices,
  monitoringServices,
  nodeServices,
  questionServices,
  read,
  readers,
  relayServices,
  type SecretsFile,
  service,
  services,
  those,
  told,
  toolServices,
  worker,
} from '../../fixtures/compose-file.ts';

const PINNED =
  /^(dpage\/pgadmin4:\d+\.\d+|prom\/(prometheus|alertmanager):v\d+\.\d+\.\d+|grafana\/grafana:\d+\.\d+\.\d+)$/;
const oneShots = ['roles', 'initializer', ...toolServices];

test('the documented services run, and nothing else', () => {
  const names = services.map(([name]) => name);
  expect(names.sort()).toEqual(
    [
      ...[...nodeServices, ...toolServices],
      ...['api', 'relay', 'pgadmin', 'pgbouncer', 'postgres', 'roles', 'torproxy'],
      ...monitoringServices,
    ].sort(),
  );
  expect(those(({ profiles }) => profiles !== undefined).sort()).toEqual(
    ['check_ports', 'keygen', 'relay', worker, ...questionServices, ...monitoringServices].sort(),
  );
  expect(service('relay').profiles).toEqual(['relay']);
  expect(service(worker).profiles).toEqual(['workers']);
  for (const name of monitoringServices) expect(service(name).profiles).toEqual(['monitoring']);
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
    expect(each.user).toMatch(/^(postgres|pgbouncer|debian-tor|node|5050:5050|nobody|472)$/);
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
      else
        expect(volume).toMatch(
          /:ro$|:\/(var\/lib|datasets)(\/|$)|^(prometheus|alertmanager)-data:/,
        );
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
    if (builders.length === 0) expect(each.image).toMatch(PINNED);
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
      [
        ...nodeServices,
        ...tools,
        ...readers,
        'pgbouncer',
        'postgres',
        'prometheus',
        'roles',
      ].sort(),
    );
  });

  test('only what looks for ports in use is on that of the host, and it is told nothing but ports', () => {
    expect(those(({ networks }) => networks === undefined)).toEqual(['check_ports']);
    const { environment = {} } = service('check_ports');
    const published = services.flatMap(([name, { ports = [] }]) =>
      monitoringServices.includes(name)
        ? []
        : ports.map((port) => /\$\{(\w+)/.exec(port)?.[1] as string),
    );
    const tls = ['PGBOUNCER_TLS_PATH', 'PGBOUNCER_TLS_PORT'];
    expect(Object.keys(environment).sort()).toEqual([...published, ...tls].sort());
  });

  test('only the services that connect to relays, Tor and what sends alerts have one', () => {
    expect(those(isOn('egress')).sort()).toEqual(
      [...relayServices, 'torproxy', 'alertmanager'].sort(),
    );
    expect(service('torproxy').networks).toEqual(['egress']);
    expect(service('torproxy').ports).toBeUndefined();
  });

  test('the one for published ports does not masquerade', () => {
    expect(compose.networks.operators).toEqual({
      driver_opts: { 'com.docker.network.bridge.enable_ip_masquerade': 'false' },
    });
    expect(those(isOn('operators')).sort()).toEqual(
      [...readers, 'pgadmin', 'pgbouncer', 'postgres', 'refresher', ...monitoringServices].sort(),
    );
  });

  test('what watches has one of its own, and only Prometheus reaches the services', () => {
    expect(compose.networks.watch).toEqual({ internal: true });
    expect(those(isOn('watch')).sort()).toEqual([...monitoringServices].sort());
    for (const name of ['alertmanager', 'grafana'])
      expect(service(name).networks).not.toContain('database');
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
      prometheus: '9090',
      alertmanager: '9093',
      grafana: '3000',
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
