import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  type Archive,
  createArchive,
  healthPorts,
  missing,
  publicKey,
  secrets,
  services,
  wanted,
} from './archive.ts';
import { FOUND_RELAY_URL, PRIORITY_RELAY_URL, RELAY_URL } from './relay-events.ts';
import { type ComposeStack, eventually } from './stack.ts';

// The containers, really run: needs a Docker engine with Compose v2, and builds the images.

describe.skipIf(missing !== null)('docker compose up', () => {
  let archive: Archive;
  let stack: ComposeStack;
  let withPgAdmin = false;
  const asReader = (sql: string) => archive.asReader(sql);
  const archived = (where?: string) => archive.archived(where);
  const health = () => archive.health();
  const all = (status: number) => (answers: readonly (number | null)[]) =>
    answers.every((answer) => answer === status);

  beforeAll(async () => {
    archive = await createArchive();
    stack = archive.stack;
    withPgAdmin = (await archive.up()).withPgAdmin;
  }, 20 * 60_000);

  afterAll(async () => {
    await stack?.down();
  }, 180_000);

  test('starts healthy, and the health ports answer 200', async () => {
    expect(await health()).toEqual(healthPorts.map(() => 200));
    const answers = await Promise.all(
      healthPorts.map((port) => fetch(`http://127.0.0.1:${stack.ports[port]}/health`)),
    );
    const bodies = await Promise.all(answers.map((answer) => answer.json()));
    expect(bodies).toMatchObject(
      services.map((name) => ({ service: name.replace('_', '-'), database: 'up' })),
    );
    for (const service of ['postgres', 'pgbouncer', 'torproxy', ...services]) {
      expect((await stack.inspect(service)).State.Health?.Status, service).toBe('healthy');
    }
    for (const service of ['check_env', 'roles', 'initializer']) {
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

  test('publishes its ports on 127.0.0.1 only, and none of Tor', async () => {
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
      'import("/app/dist/runtime/worker-heap.js").then((s) => console.log(s.workerHeapMb(1, 100)))';
    expect(Number(await stack.exec('monitor', 'node', '-e', script))).toBe(614);
    expect(Number(await stack.exec('synchronizer', 'node', '-e', script))).toBe(1228);
  });

  test('each container reaches the containers that it needs, and no other', async () => {
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

  test('the finder adds the relay that an event names, and reads the journal to its end', async () => {
    const provenance = `SELECT state, first_source FROM relay_provenance WHERE relay_url = '${FOUND_RELAY_URL}'`;
    const state = await eventually(
      'the relay that is named',
      async () => (await asReader(provenance))[0],
      (row) => row?.state === 'relay',
      4,
    );
    expect(state).toEqual({ state: 'relay', first_source: 'relay_list' });
    const queue = `SELECT count(*)::int AS n FROM journal j, journal_readers r
      WHERE r.name = 'finder' AND (j.xid, j.batch_id) > (r.xid, r.batch_id) AND j.event_keys <> '{}'`;
    await eventually(
      'rows that the finder has not read',
      async () => (await asReader(queue))[0]?.n,
      (count) => count === 0,
    );
  }, 600_000);

  test('both synchronizers archive exactly the events of the relay', async () => {
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

  test('the monitor locates relays (GeoIP), and publishes its results', async () => {
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

  test('health is 503 while PostgreSQL is stopped, and 200 afterwards', async () => {
    await stack.compose(['stop', 'postgres']);
    await eventually('health without PostgreSQL', health, all(503));
    await stack.compose(['start', 'postgres']);
    await eventually('health with PostgreSQL again', health, all(200));
    expect(await archived()).toEqual(wanted);
  }, 300_000);

  test.each(['pgbouncer', 'postgres', 'torproxy', 'monitor', 'finder'])(
    '%s is restarted after it was killed, and all services are healthy again',
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
    await stack.up([...services, 'test_relay']);
    expect(await ids()).toBe(before);
    expect(await health()).toEqual(healthPorts.map(() => 200));
    expect(await archived()).toEqual(wanted);
  }, 300_000);

  test('no log holds a secret', async () => {
    const logs = await stack.compose(['logs', '--no-color']);
    expect(logs.length).toBeGreaterThan(1_000);
    for (const [name, value] of Object.entries(secrets))
      expect(logs.includes(value), name).toBe(false);
  });

  test('the services store what is in progress and exit with 0 when they are stopped', async () => {
    await stack.compose(['stop', ...services]);
    for (const service of services) {
      expect((await stack.inspect(service)).State, service).toMatchObject({
        Status: 'exited',
        ExitCode: 0,
      });
    }
  });
});
