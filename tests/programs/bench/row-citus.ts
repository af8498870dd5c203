import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { Bigbrotr } from '../../../src/database/bigbrotr.ts';
import { projectFile } from '../../processes/project.ts';
import type { Bench } from './bench-run.ts';
import { cpuOf } from './cpu.ts';
import { median, type Result, rounded, side } from './measure.ts';
import { silent } from './pipeline.ts';
import { compare, open, type Round, type Version } from './row-layout.ts';

const DATABASE = 'bigbrotr_bench';
const LOGIN = { host: '127.0.0.1', user: 'postgres', password: 'not-asked-for' };
const GOALS = { events: 0.65, sightings: 0.6, workerCpu: 0.6 };
/** A batch of 500 events is spread over 1.6 days, a round over a month: all workers have days of it. */
const EVERY_SECONDS = 276;

/**
 * The same batches stored on one server and on the coordinator and workers of Citus that BENCH_CITUS_PORTS names, by turns.
 * BENCH_POSTGRES_BIN makes the one server the same PostgreSQL.
 */
export async function citusRows(bench: Bench): Promise<Result[]> {
  const ports = (process.env.BENCH_CITUS_PORTS ?? '').split(',').map(Number);
  if (ports.length < 2) {
    process.stdout.write('citus: BENCH_CITUS_PORTS names no coordinator and workers\n');
    return [];
  }
  const versions = [
    await open(bench, 'plain', projectFile('init.sql'), Bigbrotr),
    await openCitus(ports),
  ] as const;
  try {
    const nodes = [bench.server.pid, ...(await Promise.all(ports.map(postmasterOf)))];
    const before = nodes.map((pid) => cpuOf(pid) ?? 0);
    const { news, known } = await compare(bench, versions, EVERY_SECONDS);
    const [plain = 0, ...shares] = nodes.map((pid, at) => (cpuOf(pid) ?? 0) - (before[at] ?? 0));
    const cpu = shares.map((seconds) => seconds / plain);
    const details = {
      'CPU of the coordinator and of each worker, of that of the one server': cpu
        .map(rounded)
        .join(' '),
      'each worker at most': GOALS.workerCpu,
    };
    const workersMet = Math.max(...cpu.slice(1)) <= GOALS.workerCpu;
    return [
      row('citus-events', 'new events on Citus', news, GOALS.events, workersMet, details),
      row(
        'citus-sightings',
        'sightings of known events on Citus',
        known,
        GOALS.sightings,
        workersMet,
        details,
      ),
    ];
  } finally {
    for (const version of versions) await version.drop();
  }
}

async function openCitus(ports: readonly number[]): Promise<Version> {
  const [coordinator = 0, ...workers] = ports;
  await onEach(ports, 'postgres', `drop database if exists ${DATABASE} with (force)`);
  await onEach(ports, 'postgres', `create database ${DATABASE}`);
  await onEach(ports, DATABASE, 'create extension citus');
  const nodes = [
    `select citus_set_coordinator_host('127.0.0.1', ${coordinator})`,
    ...workers.map((port) => `select citus_add_node('127.0.0.1', ${port})`),
  ];
  await onEach([coordinator], DATABASE, nodes.join(';'));
  await onEach([coordinator], DATABASE, readFileSync(projectFile('init.sql'), 'utf8'));
  const config = {
    ...{ ...LOGIN, port: coordinator, database: DATABASE },
    ...{ minPool: 1, maxPool: 1, commandTimeoutMs: 600_000 },
  };
  const bigbrotr = await Bigbrotr.connect(config, silent);
  const filterId = await bigbrotr.filterId({});
  const drop = async () => {
    await bigbrotr.close();
    await onEach(ports, 'postgres', `drop database ${DATABASE} with (force)`);
  };
  return { bigbrotr, filterId, cpu: () => 0, drop };
}

async function onEach(ports: readonly number[], database: string, sql: string): Promise<void> {
  for (const port of ports) await ask(port, database, sql);
}

async function ask(port: number, database: string, sql: string) {
  const client = new pg.Client({ ...LOGIN, port, database });
  await client.connect();
  try {
    return await client.query(sql);
  } finally {
    await client.end();
  }
}

/** The process of a server on this machine. */
async function postmasterOf(port: number): Promise<number> {
  const { rows } = await ask(port, 'postgres', 'show data_directory');
  const file = join(rows[0].data_directory, 'postmaster.pid');
  return Number(readFileSync(file, 'utf8').split('\n')[0]);
}

function row(
  name: string,
  what: string,
  rounds: readonly Round[],
  goal: number,
  workersMet: boolean,
  details: Result['details'],
): Result {
  const rates = (at: 0 | 1) => rounds.map(({ rows: count, wall }) => count / wall[at]);
  const ratio = median(rounds.map(({ wall: [plain, citus] }) => plain / citus));
  return {
    ...{ row: name, what, unit: 'rows/s' },
    reference: side('one server', rates(0)),
    ours: side('a coordinator and workers', rates(1)),
    ratio,
    goal: `at least ${goal} of one server, workers at most ${GOALS.workerCpu} of its CPU`,
    met: ratio >= goal && workersMet,
    details,
  };
}
