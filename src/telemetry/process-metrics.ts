import { Gauge, type Registry } from 'prom-client';
import type { HealthStatus } from './health.ts';

/** What runs. */
export interface Build {
  readonly version: string;
  /** The newest migration that it knows. */
  readonly schema: string;
}

/** The connections of a pool. */
export interface PoolUse {
  readonly max: number;
  readonly open: number;
  readonly idle: number;
  /** Statements that wait for a free connection. */
  readonly waiting: number;
}

const TOR_STATES = ['up', 'down', 'no_circuit'] as const;

/**
 * What is told of the process at each scrape: its build, what `/health` says, its clock and its connections. What `/health`
 * calls `off` has no series.
 */
export function processGauges(registry: Registry) {
  const gauge = (name: string, help: string, ...labelNames: string[]) =>
    new Gauge({ name: `bigbrotr_${name}`, help, labelNames, registers: [registry] });
  const unset = (name: string, help: string) => {
    const made = gauge(name, help);
    made.remove(); // without labels it would be 0 until it is set
    return made;
  };
  const info = gauge('build_info', '1, with the version and its schema.', 'version', 'schema');
  const ready = gauge('ready', 'Whether the service has started and can do its work: 1 or 0.');
  const database = gauge('database_up', 'Whether the database answers this service: 1 or 0.');
  const storing = gauge(
    'storing_up',
    'Whether the database stores what this service gives it: 1 or 0.',
  );
  const tor = gauge(
    'tor_state',
    '1 for the state of Tor (up, down, no_circuit), 0 for the others.',
    'state',
  );
  const network = unset(
    'own_network_up',
    'Whether any relay can be reached by our own network: 1 or 0.',
  );
  const clock = gauge(
    'clock_timestamp_seconds',
    'The clock of this process at the scrape, Unix seconds.',
  );
  const connections = gauge(
    'database_connections',
    'Connections of the main thread to the database, by state (busy, idle).',
    'state',
  );
  const most = unset(
    'database_connections_max',
    'Connections of the main thread to the database, at most.',
  );
  const waiting = unset(
    'database_connection_waits',
    'Statements of the main thread that wait for a connection.',
  );
  return (build: Build, status: HealthStatus, pool: PoolUse | null): void => {
    info.set({ ...build }, 1);
    ready.set(Number(status.ready));
    database.set(Number(status.database === 'up'));
    storing.set(Number(status.storing === 'works'));
    if (status.tor !== 'off')
      for (const state of TOR_STATES) tor.set({ state }, Number(status.tor === state));
    if (status.network === 'off') network.remove();
    else network.set(Number(status.network !== 'down'));
    clock.set(Date.now() / 1000);
    if (pool === null) return;
    connections.set({ state: 'busy' }, pool.open - pool.idle);
    connections.set({ state: 'idle' }, pool.idle);
    most.set(pool.max);
    waiting.set(pool.waiting);
  };
}
