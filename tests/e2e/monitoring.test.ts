/** A real Prometheus (Debian package) scrapes the services, with the alerts and the queries of the dashboards. */
import { rename, symlink } from 'node:fs/promises';
import { connect, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { expect, vi } from 'vitest';
import { forgedEvents, makeKeys, signedEvent, signedEvents } from '../fixtures/events.ts';
import { alertRules, dashboards, metricsOf } from '../fixtures/monitoring.ts';
import { startSocksProxy } from '../network/socks-proxy.ts';
import { startTcpProxy } from '../network/tcp-proxy.ts';
import { healthPort, untilHealth } from '../processes/health-client.ts';
import type { Program } from '../processes/programs.ts';
import { hasPrometheus, Prometheus } from '../processes/prometheus.ts';
import type { Entrypoint } from '../processes/stack.ts';
import { stackTest as test } from '../processes/stack-test.ts';

if (!hasPrometheus)
  console.warn('Prometheus is not installed (apt-get install prometheus): it scrapes nothing');

const SERVICES = [
  ...['monitor', 'synchronizer', 'priority-synchronizer', 'finder', 'api', 'refresher'],
] as Entrypoint[];
/** What has no series in this test, and why. */
const WITHOUT_SERIES: Readonly<Record<string, string>> = {
  bigbrotr_network_up: 'nothing outside of loopback is reached',
  bigbrotr_own_network_up: 'nothing outside of loopback is reached',
  bigbrotr_certificate_expiry_timestamp_seconds: 'the API has no certificate',
  bigbrotr_events_published_total: 'nothing is published',
  bigbrotr_replication_lag_bytes: 'the archive has no standby',
  bigbrotr_replication_slot_active: 'the archive has no standby',
};
const NOW = Math.floor(Date.now() / 1000);
const [AUTHOR] = makeKeys(1, 5);

/** A port that leads to a SOCKS proxy with circuits, and can be closed and opened again. */
async function startTorPort(target: number) {
  let server: Server | null = null;
  const open = (port: number) =>
    new Promise<number>((resolve) => {
      const listening = createServer((client) => {
        const wire = connect(target, '127.0.0.1');
        client.on('error', () => wire.destroy());
        wire.on('error', () => client.destroy());
        client.pipe(wire).pipe(client);
      }).listen(port, '127.0.0.1', () => {
        server = listening;
        resolve((listening.address() as { port: number }).port);
      });
    });
  const port = await open(0);
  const close = async () => {
    server?.close();
    server = null;
  };
  return { port, close, reopen: () => open(port) };
}

const monitoredTest = test
  .extend('wire', async ({ database }, { onCleanup }) => {
    const wire = await startTcpProxy(database.config);
    onCleanup(() => wire.close());
    return wire;
  })
  .extend('tor', async ({ stack: _endedBefore }, { onCleanup }) => {
    const proxy = await startSocksProxy();
    const tor = await startTorPort(proxy.port);
    onCleanup(async () => {
      await tor.close();
      await proxy.close();
    });
    return tor;
  })
  .extend('relays', async ({ startRelay }) => {
    const events = signedEvents(200, { from: NOW - 90_000, to: NOW - 4000 });
    const honest = await startRelay({ events });
    const forging = await startRelay({ events: events.slice(0, 50) });
    return { honest, forging };
  })
  .extend('running', async ({ stack, wire, tor, relays: { honest, forging }, runOnce }) => {
    const dead = 'ws://127.0.0.1:9';
    await stack.relays([honest.url, forging.url], [honest.url, forging.url, dead]);
    await symlink(stack.folder, join(stack.folder, 'disk'));
    Object.assign(stack.env, {
      ...{ POSTGRES_HOST: wire.host, POSTGRES_PORT: `${wire.port}` },
      ...{ TORPROXY_HOST: '127.0.0.1', TORPROXY_PORT: `${tor.port}` },
      ...{ REFRESHER_METRICS_SECONDS: '1', DATABASE_DISK_PATH: join(stack.folder, 'disk') },
    });
    await runOnce('initializer');
    const programs = new Map<Entrypoint, Program>(
      SERVICES.map((service) => [service, stack.start(service)]),
    );
    const ports = new Map<Entrypoint, number>();
    for (const [service, program] of programs) {
      const isApi = service === 'api';
      const served = isApi
        ? await program.logged(({ msg }) => msg === 'the API is served', 'the API')
        : null;
      ports.set(service, served ? Number(served.port) : await healthPort(program, service));
    }
    return { programs, ports };
  })
  .extend('prometheus', async ({ running: { ports }, stack }) =>
    Prometheus.start([...ports.values()], stack.folder),
  );

monitoredTest.skipIf(!hasPrometheus)(
  'sees every metric and panel, and each alert come and go with its fault',
  async ({ running: { programs, ports }, prometheus, stack, wire, tor, relays, database }) => {
    const text = async () => {
      const pages = [...ports.values()].map(async (port) =>
        (await fetch(`http://127.0.0.1:${port}/metrics`)).text(),
      );
      return (await Promise.all(pages)).join('\n');
    };
    // Everything that has to happen once for each metric to have a series.
    await database.query(
      `insert into runs (command, started_at, succeeded, detail)
       values ('backup', unix_now() - 9, true, 'x'), ('verify', unix_now() - 9, true, 'x')`,
    );
    const api = `http://127.0.0.1:${ports.get('api')}`;
    for (const path of ['/v1/relays', '/v1/events?kinds=x']) await fetch(api + path);
    // Live events, until both relays are followed: an increase is seen only where there was a value before.
    const { honest, forging } = relays;
    const forged = forgedEvents(500, { from: NOW - 80_000, to: NOW - 5000, seed: 9 });
    const secretKey = AUTHOR?.secretKey as Uint8Array;
    let sent = 0;
    await vi.waitFor(
      async () => {
        const content = `live ${sent}`;
        honest.publish(signedEvent({ created_at: NOW, kind: 1, tags: [], content, secretKey }));
        forging.publish(forged[sent] as (typeof forged)[0]);
        sent += 1;
        for (const query of [
          'bigbrotr_events_invalid_total{reason="bad_signature"} > 0',
          'sum(bigbrotr_live_lag_seconds_count) > 0',
        ])
          expect(await prometheus.query(query), query).toHaveLength(1);
      },
      { timeout: 90_000, interval: 500 },
    );
    for (const event of forged.slice(sent)) forging.publish(event);
    await prometheus.until(['OffencesGrowFast'], true);

    const named = new Set([
      ...alertRules().flatMap(({ expr }) => metricsOf(expr)),
      ...dashboards().flatMap(({ panels }) =>
        panels.flatMap(({ targets }) => targets.flatMap(({ expr }) => metricsOf(expr))),
      ),
    ]);
    for (const name of ['up', 'ALERTS']) named.delete(name); // made by Prometheus
    expect(named.size).toBeGreaterThan(50);
    await vi.waitFor(
      async () => {
        const scraped = new Set(
          [...(await text()).matchAll(/^(\w+)(?:\{.*\})? \S+$/gm)].map(([, name = '']) => name),
        );
        const missing = [...named].filter((name) => !scraped.has(name));
        expect(missing.sort()).toEqual(
          [...missing].filter((name) => name in WITHOUT_SERIES).sort(),
        );
      },
      { timeout: 60_000, interval: 1000 },
    );
    await vi.waitFor(
      async () => {
        const empty: string[] = [];
        for (const { title, panels } of dashboards())
          for (const { title: panel, targets } of panels)
            for (const { expr } of targets) {
              const isEmpty = (await prometheus.query(expr)).length === 0;
              const isKnown = metricsOf(expr).some((name) => name in WITHOUT_SERIES);
              if (isEmpty && !isKnown) empty.push(`${title}, ${panel}: ${expr}`);
            }
        expect(empty).toEqual([]);
      },
      { timeout: 60_000, interval: 1000 },
    );

    const faults = ['ServiceDown', 'DatabaseDown', 'TorWithoutCircuit', 'DiskLow', 'BackupFailed'];
    await prometheus.until([...faults, 'OffencesGrowFast', 'VerifyFoundDifference'], false);
    await database.query(
      "insert into runs (command, started_at, succeeded, detail) values ('backup', unix_now(), false, 'x')",
    );
    await prometheus.until(['BackupFailed'], true);
    programs.get('finder')?.signal('SIGKILL');
    await tor.close();
    await symlink('/proc', join(stack.folder, 'full')); // it has no free bytes
    await rename(join(stack.folder, 'full'), join(stack.folder, 'disk'));
    wire.stall();
    await prometheus.until(faults, true);

    wire.recover();
    wire.cut(); // else a statement of the refresher on a dead connection is waited for up to REFRESHER_DB_COMMAND_TIMEOUT
    await tor.reopen();
    await symlink(stack.folder, join(stack.folder, 'large'));
    await rename(join(stack.folder, 'large'), join(stack.folder, 'disk'));
    stack.start('finder', [], { FINDER_HEALTH_PORT: `${ports.get('finder')}` });
    await untilHealth(ports.get('finder') ?? 0, ({ status }) => status === 200);
    await database.query(
      "insert into runs (command, started_at, succeeded, detail) values ('backup', unix_now(), true, 'x')",
    );
    await prometheus.until(faults, false);
  },
);
