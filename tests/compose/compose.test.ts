import { randomBytes } from 'node:crypto';
import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { generateSecretKey, getPublicKey } from 'nostr-tools/pure';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { SCHEMA_VERSION } from '../../src/bigbrotr/version.ts';
import { writeGeoipFile } from '../support/geoip-file.ts';
import { projectFile } from '../support/project.ts';
import { FOUND_RELAY_URL, PRIORITY_RELAY_URL, RELAY_URL, relayEvents } from './relay-events.ts';
import { ComposeStack, canHave, eventually, missingEngine, type PortName } from './stack.ts';

// The containers, really run: needs a Docker engine with Compose v2, and builds the images.

const PGADMIN_IMAGE = 'dpage/pgadmin4:9.17';
const PERMISSION_DENIED = '42501';
const DROP = 'DROP DATABASE bigbrotr WITH (FORCE)';
/** All the addresses of the relay, whatever network Docker gives it. */
const SWISS = { country: { iso_code: 'CH' } };
const services = ['monitor', 'synchronizer', 'priority-synchronizer', 'finder'] as const;
const healthPorts = [
  'MONITOR_HEALTH_PORT',
  'SYNCHRONIZER_HEALTH_PORT',
  'PRIORITY_SYNCHRONIZER_HEALTH_PORT',
  'FINDER_HEALTH_PORT',
] as const satisfies readonly PortName[];

const missing = await missingEngine();
if (missing !== null)
  console.warn(`Skipped, all of it: no Docker engine with Compose v2 (${missing}).`);

const newPassword = () => randomBytes(18).toString('hex');
const secretKey = generateSecretKey();
const publicKey = getPublicKey(secretKey);
const refused = async (answer: Promise<unknown>) => {
  const error = await answer.then(
    () => null,
    (reason: Error & { code?: string }) => reason,
  );
  return error?.code ?? error?.message;
};

const secrets = {
  // Signs that a shell, an .ini file or SQL might take for their own.
  POSTGRES_PASSWORD: `${newPassword()}"$x \\ #;`,
  POSTGRES_ADMIN_PASSWORD: `${newPassword()}"$(id)`,
  POSTGRES_OWNER_PASSWORD: `${newPassword()}"$y`,
  POSTGRES_READER_PASSWORD: newPassword(),
  PGBOUNCER_ADMIN_PASSWORD: `${newPassword()}" ;`,
  PGADMIN_DEFAULT_PASSWORD: newPassword(),
  SECRET_KEY: Buffer.from(secretKey).toString('hex'),
};
const { POSTGRES_PASSWORD: writerPassword, POSTGRES_READER_PASSWORD: readerPassword } = secrets;

describe.skipIf(missing !== null)('docker compose up', () => {
  let stack: ComposeStack;
  let withPgAdmin = false;
  const asWriter = (sql: string) => stack.query('bigbrotr', writerPassword, sql);
  const asReader = (sql: string) => stack.query('bigbrotr_reader', readerPassword, sql);
  const wanted = relayEvents()
    .map(({ id }) => id)
    .sort();
  /** The ids in the archive, without the events that the monitor signs to see who lets it write. */
  const archived = async (where = 'true') => {
    const sql = `SELECT encode(id, 'hex') AS id FROM events
      WHERE encode(pubkey, 'hex') <> '${publicKey}' AND ${where} ORDER BY 1`;
    return (await asReader(sql)).map(({ id }) => id);
  };
  /** Who may do what with each relation. */
  const rights = () =>
    asReader(`SELECT relname, grantee::regrole::text, privilege_type FROM pg_class, aclexplode(relacl)
      WHERE relnamespace = 'public'::regnamespace ORDER BY 1, 2, 3`);
  const health = () => Promise.all(healthPorts.map((port) => stack.health(port)));
  const all = (status: number) => (answers: readonly (number | null)[]) =>
    answers.every((answer) => answer === status);

  beforeAll(async () => {
    stack = await ComposeStack.create(
      ['docker-compose.yml', 'tests/compose/docker-compose.test.yml'],
      (directory) => {
        writeFileSync(join(directory, 'seeds.txt'), `${RELAY_URL}\n${PRIORITY_RELAY_URL}\n`);
        writeFileSync(join(directory, 'priority.txt'), `${PRIORITY_RELAY_URL}\n`);
        writeGeoipFile(join(directory, 'city.mmdb'), 'GeoLite2-City', {
          ...{ '0.0.0.0/1': SWISS, '128.0.0.0/1': SWISS },
        });
        return {
          ...secrets,
          PUBLIC_KEY: publicKey,
          ALLOW_PRIVATE_RELAYS: 'true',
          SEED_RELAYS_PATH: join(directory, 'seeds.txt'),
          SYNCHRONIZER_PRIORITY_RELAYS_PATH: join(directory, 'priority.txt'),
          MONITOR_CHECKS: 'open,read,write,nip11,geo',
          GEOIP_CITY_PATH: join(directory, 'city.mmdb'),
          MONITOR_PUBLISH_RELAYS: RELAY_URL,
          MONITOR_LOOP_INTERVAL_MINUTES: '1',
          SYNCHRONIZER_LOOP_INTERVAL_MINUTES: '1',
        };
      },
    );
    withPgAdmin = await canHave(PGADMIN_IMAGE);
    if (!withPgAdmin) console.warn(`Left out: pgadmin, since ${PGADMIN_IMAGE} cannot be had here.`);
    await stack.up(['--build', ...services, 'relay', ...(withPgAdmin ? ['pgadmin'] : [])]);
  }, 20 * 60_000);

  afterAll(async () => {
    await stack?.down();
  }, 180_000);

  test('comes up healthy, and the health ports answer 200', async () => {
    expect(await health()).toEqual([200, 200, 200, 200]);
    const answers = await Promise.all(
      healthPorts.map((port) => fetch(`http://127.0.0.1:${stack.ports[port]}/health`)),
    );
    const bodies = await Promise.all(answers.map((answer) => answer.json()));
    expect(bodies).toMatchObject(services.map((service) => ({ service, database: 'up' })));
    for (const service of ['postgres', 'pgbouncer', 'torproxy', ...services]) {
      expect((await stack.inspect(service)).State.Health?.Status, service).toBe('healthy');
    }
    for (const service of ['roles', 'initializer']) {
      expect((await stack.inspect(service)).State, service).toMatchObject({
        Status: 'exited',
        ExitCode: 0,
      });
    }
    if (withPgAdmin) {
      const answer = await fetch(`http://127.0.0.1:${stack.ports.PGADMIN_PORT}/misc/ping`);
      expect(answer.status).toBe(200);
    }
  });

  test('publishes its ports on 127.0.0.1 alone, and none of Tor', async () => {
    for (const service of ['postgres', 'pgbouncer', 'torproxy', ...services]) {
      const bindings = Object.values((await stack.inspect(service)).NetworkSettings.Ports).flat();
      const addresses = bindings.flatMap((binding) => (binding ? [binding.HostIp] : []));
      expect(addresses, service).toEqual(service === 'torproxy' ? [] : ['127.0.0.1']);
    }
  });

  test.each(['postgres', 'pgbouncer', 'torproxy', ...services])(
    '%s runs without root, capabilities and a writable file system',
    async (service) => {
      const script =
        'id -u; grep -E "^(CapBnd|NoNewPrivs)" /proc/1/status; touch /probe 2>&1 || true';
      const [uid, bounding, noNew, touched] = (await stack.exec(service, 'sh', '-c', script)).split(
        '\n',
      );
      expect(Number(uid)).toBeGreaterThan(0);
      expect(bounding).toMatch(/^CapBnd:\s+0+$/);
      expect(noNew).toMatch(/1$/);
      expect(touched).toMatch(/Read-only file system/);
    },
  );

  test('a worker’s heap is bounded by the memory of its container', async () => {
    const script =
      'import("/app/dist/scheduler/worker-heap.js").then((s) => console.log(s.workerHeapMb(1, 100)))';
    expect(Number(await stack.exec('monitor', 'node', '-e', script))).toBe(614);
    expect(Number(await stack.exec('synchronizer', 'node', '-e', script))).toBe(1228);
  });

  test('reaches who it must reach, and nobody else', async () => {
    const reaches = async (from: string, host: string, port: number) => {
      const script = `timeout 3 bash -c 'exec 3<>/dev/tcp/${host}/${port}' 2>/dev/null && echo yes || echo no`;
      return (await stack.exec(from, 'bash', '-c', script)).trim();
    };
    for (const service of ['synchronizer', 'finder']) {
      expect(await reaches(service, 'pgbouncer', 6432)).toBe('yes');
      expect(await reaches(service, 'torproxy', 9050)).toBe('yes');
      expect(await reaches(service, 'relay.test', 7777)).toBe('yes');
    }
    expect(await reaches('pgbouncer', 'torproxy', 9050)).toBe('no');
    expect(await reaches('pgbouncer', 'relay.test', 7777)).toBe('no');
    expect(await reaches('torproxy', 'pgbouncer', 6432)).toBe('no');
    expect(await reaches('torproxy', 'postgres', 5432)).toBe('no');
  });

  describe('roles', () => {
    test('the writer reads and writes through PgBouncer', async () => {
      expect(await asWriter('SELECT current_user::text AS name')).toEqual([{ name: 'bigbrotr' }]);
      await asWriter("SELECT insert_relay('wss://nobody.example', 'clearnet')");
    });

    test.each([
      'CREATE TABLE intruder ()',
      'CREATE TEMPORARY TABLE intruder ()',
      'ALTER TABLE events ADD intruder integer',
      'DROP TABLE events',
      'TRUNCATE events',
      'DELETE FROM events',
      'DELETE FROM relays',
      'SET ROLE bigbrotr_owner',
      "SELECT * FROM pgbouncer.secret_of('bigbrotr')",
      'SELECT rolpassword FROM pg_authid',
    ])('the writer may not %s', async (sql) => {
      expect(await refused(asWriter(sql))).toBe(PERMISSION_DENIED);
    });

    test('the writer may delete from the tables of work under way, and from no other', async () => {
      const deletable = (await rights()).filter(
        ({ grantee, privilege_type }) =>
          grantee !== 'bigbrotr_owner' &&
          !/^(SELECT|INSERT|UPDATE|USAGE)$/.test(`${privilege_type}`),
      );
      expect(deletable).toEqual(
        ['coverage', 'finder_queue', 'holes', 'named_relays', 'relay_states'].map((relname) => ({
          ...{ relname, grantee: 'bigbrotr_writers', privilege_type: 'DELETE' },
        })),
      );
      for (const { relname } of deletable) await asWriter(`DELETE FROM ${relname} WHERE false`);
    });

    test('the reader reads, and nothing else', async () => {
      expect(await asReader('SELECT count(*) FROM relay_metadata_latest')).toHaveLength(1);
      const insert =
        "INSERT INTO relays (url, network) VALUES ('wss://intruder.example', 'clearnet')";
      expect(await refused(asReader(insert))).toBe('25006');
      expect(await refused(asReader(`BEGIN READ WRITE; ${insert}`))).toBe(PERMISSION_DENIED);
      expect(await asReader('SHOW statement_timeout')).toEqual([{ statement_timeout: '5min' }]);
    });

    test('the superuser logs in directly, and never through PgBouncer', async () => {
      const asSuperuser = (port: PortName) =>
        stack.query('postgres', secrets.POSTGRES_ADMIN_PASSWORD, 'SELECT 1 AS one', { port });
      expect(await asSuperuser('DB_PORT')).toEqual([{ one: 1 }]);
      expect(await refused(asSuperuser('PGBOUNCER_PORT'))).toBe('08P01');
    });

    test('a writer who could become a superuser is not let in either', async () => {
      const login = (sql: string) => stack.exec('postgres', 'psql', '-qU', 'postgres', '-c', sql);
      await login("CREATE ROLE eve LOGIN PASSWORD 'eve' IN ROLE bigbrotr_writers, postgres");
      await login("CREATE ROLE ann LOGIN PASSWORD 'ann' IN ROLE bigbrotr_readers");
      expect(await stack.query('ann', 'ann', 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
      expect(await refused(stack.query('eve', 'eve', 'SELECT 1'))).toBe('08P01');
    });

    test('a wrong password, another database and the pooler’s own roles are refused', async () => {
      const { PGBOUNCER_ADMIN_PASSWORD: admin } = secrets;
      expect(await refused(stack.query('bigbrotr', 'wrong', 'SELECT 1'))).toBe('08P01');
      const elsewhere = stack.query('bigbrotr', writerPassword, 'SELECT 1', {
        database: 'postgres',
      });
      expect(await refused(elsewhere)).toBe('08P01');
      expect(await refused(stack.query('pgbouncer', admin, 'SELECT 1'))).toBe('08P01');
      const console_ = stack.query('bigbrotr', writerPassword, 'SHOW POOLS', {
        database: 'pgbouncer',
      });
      expect(await refused(console_)).toBe('08P01');
    });

    test('the administrator sees the pools', async () => {
      const pools = await stack.query('admin', secrets.PGBOUNCER_ADMIN_PASSWORD, 'SHOW POOLS', {
        database: 'pgbouncer',
      });
      expect(pools).toContainEqual(
        expect.objectContaining({
          database: 'bigbrotr',
          user: 'bigbrotr',
          pool_mode: 'transaction',
        }),
      );
    });
  });

  test('the finder adds the relay that an event names, and reads its queue to the end', async () => {
    const provenance = `SELECT state, first_source FROM relay_provenance WHERE relay_url = '${FOUND_RELAY_URL}'`;
    const state = await eventually(
      'the relay that is named',
      async () => (await asReader(provenance))[0],
      (row) => row?.state === 'relay',
      4,
    );
    expect(state).toEqual({ state: 'relay', first_source: 'relay_list' });
    const queue = 'SELECT count(*)::int AS n FROM finder_queue';
    await eventually(
      'queue of the finder',
      async () => (await asReader(queue))[0]?.n,
      (count) => count === 0,
    );
  }, 600_000);

  test('both synchronizers archive the events of the relay, not one more or less', async () => {
    for (const url of [RELAY_URL, PRIORITY_RELAY_URL, FOUND_RELAY_URL]) {
      const sightings = `SELECT count(*)::int AS n FROM events_relays WHERE relay_url = '${url}'`;
      await eventually(
        `sightings on ${url}`,
        async () => (await asReader(sightings))[0]?.n,
        (count) => Number(count) >= wanted.length,
        4,
      );
      const seen = `IN (SELECT event_id FROM events_relays WHERE relay_url = '${url}')`;
      expect(await archived(`id ${seen}`)).toEqual(wanted);
    }
    expect(await archived()).toEqual(wanted);
  }, 600_000);

  test('the monitor knows where relays are, and publishes what it found', async () => {
    const urls = [RELAY_URL, PRIORITY_RELAY_URL, FOUND_RELAY_URL];
    for (const url of urls) {
      const facts = `SELECT country, readable, writable FROM relay_facts WHERE relay_url = '${url}'`;
      expect(await asReader(facts)).toEqual([{ country: 'CH', readable: true, writable: true }]);
    }
    const reports = `SELECT DISTINCT tags -> 0 ->> 1 AS d FROM events
      WHERE kind = 30166 AND encode(pubkey, 'hex') = '${publicKey}' ORDER BY 1`;
    await eventually(
      'reports of the monitor, archived',
      async () => (await asReader(reports)).map(({ d }) => d),
      (reported) => urls.every((url) => reported.includes(new URL(url).href)), // as NIP-66 writes it
      4,
    );
  }, 600_000);

  test('PostgreSQL away: 503; back: 200', async () => {
    await stack.compose(['stop', 'postgres']);
    await eventually('health without PostgreSQL', health, all(503));
    await stack.compose(['start', 'postgres']);
    await eventually('health with PostgreSQL again', health, all(200));
    expect(await archived()).toEqual(wanted);
  }, 300_000);

  test.each(['pgbouncer', 'postgres', 'torproxy', 'monitor', 'finder'])(
    '%s killed: it is started again, and all is well',
    async (service) => {
      const before = (await stack.inspect(service)).RestartCount;
      // All but init, by a signal that nobody can refuse.
      await stack.exec(service, 'sh', '-c', 'kill -9 -1').catch(() => null);
      await eventually(
        `${service} started again`,
        async () => (await stack.inspect(service)).RestartCount,
        (count) => count > before,
      );
      await eventually(
        `${service} healthy again`,
        async () => (await stack.inspect(service)).State.Health?.Status,
        (status) => status === 'healthy',
      );
      await eventually('health', health, all(200));
    },
    300_000,
  );

  test('a second `up` changes nothing', async () => {
    const ids = () => stack.compose(['ps', '-q', 'postgres', 'pgbouncer', 'torproxy', ...services]);
    const before = await ids();
    await stack.up([...services, 'relay']);
    expect(await ids()).toBe(before);
    expect(await health()).toEqual([200, 200, 200, 200]);
    expect(await archived()).toEqual(wanted);
  }, 300_000);

  test('backup and restore, as docs/containers.md has them', async () => {
    const counts =
      'SELECT (SELECT count(*) FROM events)::int AS events, (SELECT count(*) FROM sightings)::int AS sightings, (SELECT count(*) FROM coverage)::int AS coverage';
    await stack.compose(['stop', ...services]);
    const before = await asReader(counts);
    const script = (name: string) => ['exec', '-T', 'postgres', `/opt/bigbrotr/${name}`];
    await stack.redirect(script('backup.sh'), { output: 'bigbrotr.dump' });
    await stack.exec('postgres', 'psql', '-qU', 'postgres', '-c', DROP);
    await stack.redirect(script('restore.sh'), { input: 'bigbrotr.dump' });
    expect(await asReader(counts)).toEqual(before);
    await stack.up([...services, 'relay']);
    const verify = ['node', 'dist/verify-archive.js'];
    const read = await stack.compose(['run', '--rm', '--no-deps', 'initializer', ...verify]);
    expect(read).toMatch(/^[1-9]\d* events read back, 0 different/);
    expect(await archived()).toEqual(wanted);
    expect(await health()).toEqual([200, 200, 200, 200]);
  }, 300_000);

  test('an archive of the first version is migrated by `up`, and nothing else is asked for', async () => {
    const rightsOfANewOne = await rights();
    await stack.compose(['stop', ...services]);
    const first = projectFile('tests/support/init-first.sql');
    copyFileSync(first, join(stack.directory, 'init-first.sql'));
    const psql = ['exec', '-T', 'postgres', 'psql', '-qU', 'postgres', '-v', 'ON_ERROR_STOP=1'];
    const create = 'CREATE DATABASE bigbrotr OWNER bigbrotr_owner';
    for (const sql of [DROP, create]) await stack.compose([...psql, '-c', sql]);
    const asOwner = ['-d', 'bigbrotr', '-c', 'SET ROLE bigbrotr_owner', '-f', '-'];
    await stack.redirect([...psql, ...asOwner], { input: 'init-first.sql' });
    await stack.up([...services, 'relay']);
    const migrated = await asReader('SELECT name FROM schema_migrations ORDER BY id DESC LIMIT 1');
    expect(migrated).toEqual([{ name: SCHEMA_VERSION }]);
    expect(await health()).toEqual([200, 200, 200, 200]);
    expect(await rights()).toEqual(rightsOfANewOne);
    await asWriter('SELECT rebuild_relay_states(relay_id, 60) FROM relays');
    const record = "INSERT INTO schema_migrations (name) VALUES ('9999_mine')";
    expect(await refused(asWriter(record))).toBe(PERMISSION_DENIED);
  }, 300_000);

  test('no log holds a secret', async () => {
    const logs = await stack.compose(['logs', '--no-color']);
    expect(logs.length).toBeGreaterThan(1_000);
    for (const [name, value] of Object.entries(secrets))
      expect(logs.includes(value), name).toBe(false);
  });

  test('the services drain and exit 0 when they are stopped', async () => {
    await stack.compose(['stop', ...services]);
    for (const service of services) {
      expect((await stack.inspect(service)).State, service).toMatchObject({
        Status: 'exited',
        ExitCode: 0,
      });
    }
  });
});

describe.skipIf(missing !== null)('with secrets from files', () => {
  let stack: ComposeStack;

  beforeAll(async () => {
    stack = await ComposeStack.create(
      ['docker-compose.yml', 'dockerfiles/compose.secrets.yml'],
      (directory) => {
        const files: Record<string, string> = {
          postgres_password: secrets.POSTGRES_PASSWORD,
          postgres_admin_password: secrets.POSTGRES_ADMIN_PASSWORD,
          postgres_owner_password: secrets.POSTGRES_OWNER_PASSWORD,
          pgbouncer_admin_password: secrets.PGBOUNCER_ADMIN_PASSWORD,
          pgadmin_password: secrets.PGADMIN_DEFAULT_PASSWORD,
          secret_key: secrets.SECRET_KEY,
        };
        for (const [name, value] of Object.entries(files))
          writeFileSync(join(directory, name), `${value}\n`);
        writeFileSync(join(directory, 'seeds.txt'), `${RELAY_URL}\n`);
        return {
          SECRETS_PATH: directory,
          SEED_RELAYS_PATH: join(directory, 'seeds.txt'),
          ALLOW_PRIVATE_RELAYS: 'true',
        };
      },
    );
    await stack.up(['--build', 'pgbouncer']);
    await stack.compose(['run', '--rm', 'initializer']);
  }, 20 * 60_000);

  afterAll(async () => {
    await stack?.down();
  }, 180_000);

  test('the database is made and the initializer has written to it', async () => {
    const sql = 'SELECT url FROM relays';
    expect(await stack.query('bigbrotr', writerPassword, sql)).toEqual([{ url: RELAY_URL }]);
  });

  test('the environment of no container holds them', async () => {
    const environment = await stack.exec('postgres', 'sh', '-c', 'tr "\\0" "\\n" </proc/1/environ');
    expect(environment).toContain('POSTGRES_PASSWORD_FILE');
    for (const [name, value] of Object.entries(secrets)) {
      expect(environment.includes(value), name).toBe(false);
    }
  });
});
