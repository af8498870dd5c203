import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { namespaceObstacle } from '../../network/guard-namespace.ts';
import { forwardDatabase } from '../../network/unix-forward.ts';
import { Program } from '../../processes/programs.ts';
import { projectFile } from '../../processes/project.ts';
import type { Bench } from './bench-run.ts';
import { cpuOf } from './cpu.ts';
import type { Result } from './measure.ts';
import { side } from './measure.ts';
import { ALIVE, KINDS } from './monitor-kinds.ts';
import type { MonitorNetwork } from './monitor-network.ts';
import type { BenchDatabase } from './server.ts';

/** Relays of each kind in a thousand: mostly dead, as the relays of a list of all that were ever named are. */
const SHARES: Readonly<Record<keyof typeof KINDS, number>> = {
  alive: 80,
  slow: 20,
  mute: 50,
  refusing: 200,
  blackhole: 300,
  nowhere: 250,
  nameless: 100,
};
const GOAL_SECONDS = 900;
const GOAL_MB = 300;

/** One round of the real monitor over relays that were never checked, in a network of its own. */
export async function monitorRow(bench: Bench): Promise<Result[]> {
  const obstacle = namespaceObstacle();
  if (obstacle) {
    process.stdout.write(
      `monitor: left out, this machine gives no network namespace (${obstacle})\n`,
    );
    return [];
  }
  const thousands = bench.size.mode === 'quick' ? 0.2 : 10;
  const db = await bench.server.create('monitor', readFileSync(projectFile('init.sql'), 'utf8'));
  const folder = mkdtempSync(join(tmpdir(), 'bb-monitor-'));
  const forwarder = await forwardDatabase(folder, db.config);
  try {
    await seed(db, thousands);
    const round = await measureRound(db, folder);
    return [await resultOf(db, thousands * 1000, round)];
  } finally {
    forwarder.close();
    rmSync(folder, { recursive: true, force: true });
    await db.drop();
  }
}

/** In random order, as they come, so that no kind has the slots to itself. */
async function seed(db: BenchDatabase, thousands: number): Promise<void> {
  const names = Object.keys(SHARES) as (keyof typeof KINDS)[];
  await db.query(
    `insert into relays (url, network)
     select 'wss://r' || n || '.' || suffix, 'clearnet'
     from unnest($1::text[], $2::integer[]) as kind (suffix, relays)
     cross join lateral generate_series(1, relays) n
     order by md5(n || suffix)`,
    [names.map((name) => KINDS[name]), names.map((name) => SHARES[name] * thousands)],
  );
}

interface Round {
  readonly seconds: number;
  readonly peakMb: number;
  readonly cpuSeconds: number;
}

async function measureRound(db: BenchDatabase, folder: string): Promise<Round> {
  const network: MonitorNetwork = {
    folder,
    file: fileURLToPath(new URL('../../../src/monitor.js', import.meta.url)),
    args: ['--once'],
    env: environment(db, folder),
  };
  const inside = fileURLToPath(new URL('./monitor-network.js', import.meta.url));
  const program = new Program(
    'unshare',
    ['--net', '--mount', process.execPath, inside, JSON.stringify(network)],
    { cwd: folder, env: {} },
  );
  try {
    const isPid = (line: string) => line.startsWith('pid ');
    await program.until(() => program.out.some(isPid), 'the pid of the monitor');
    const pid = Number(program.out.find(isPid)?.slice(4));
    let peakMb = 0;
    let cpuSeconds = 0;
    while (program.isRunning) {
      peakMb = Math.max(peakMb, peakOf(pid));
      cpuSeconds = Math.max(cpuSeconds, cpuOf(pid) ?? 0);
      await sleep(200);
    }
    const finished = program.log.find(({ msg }) => msg.startsWith('round finished'));
    const { code } = await program.ended;
    if (!finished || code !== 0)
      throw new Error(`the monitor finished no round:\n${program.said.slice(-5000)}`);
    const lost = program.log.find(({ msg }) => msg === 'check lost');
    if (lost) process.stdout.write(`monitor: a check was lost: ${JSON.stringify(lost)}\n`);
    return { seconds: Number(finished.seconds), peakMb, cpuSeconds };
  } finally {
    program.signalGroup('SIGKILL');
    await program.ended;
  }
}

/** Two worker threads, and else the defaults; a MONITOR_ variable of the shell goes before. */
function environment(db: BenchDatabase, folder: string): Record<string, string> {
  const { user, password, database } = db.config;
  const given = Object.entries(process.env).filter(([name]) => /^MONITOR_|^UV_/.test(name));
  return {
    PATH: process.env.PATH ?? '',
    POSTGRES_HOST: folder,
    POSTGRES_PORT: '5432',
    POSTGRES_USER: user,
    POSTGRES_PASSWORD: password,
    POSTGRES_DB: database,
    SECRET_KEY: '0000000000000000000000000000000000000000000000000000000000000003',
    PUBLIC_KEY: 'f9308a019258c31049344f85f89d5229b531c845836f99b08601f113bce036f9',
    MONITOR_NUM_CORES: '2',
    MONITOR_HEALTH_PORT: '0',
    NETWORK_TEST_HOSTS: `test.${KINDS.alive} ${ALIVE}:443`, // what answers in this network
    ...(Object.fromEntries(given) as Record<string, string>),
  };
}

/** The most resident memory that a process ever had, in megabytes (proc(5), VmHWM). */
function peakOf(pid: number): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) / 1024;
  } catch {
    return 0; // it has ended in the meantime
  }
}

async function resultOf(db: BenchDatabase, relays: number, round: Round): Promise<Result> {
  const { seconds, peakMb, cpuSeconds } = round;
  const found = await db.query<{ result: string; relays: number }>(
    `select coalesce(substring(relay_url from '\\.([a-z]+)\\.net$'), '') || ' ' || coalesce(reason, 'readable') as result,
            count(*)::integer as relays
     from relay_metadata_latest group by 1 order by 1`,
  );
  const settings = Object.entries(environment(db, ''))
    .filter(([name]) => /^MONITOR_|^UV_/.test(name) && name !== 'MONITOR_HEALTH_PORT')
    .map(([name, value]) => `${name}=${value}`)
    .join(' ');
  const lost = relays - found.reduce((sum, each) => sum + each.relays, 0);
  const goal = (GOAL_SECONDS * relays) / 10_000;
  return {
    row: 'monitor',
    what: `one round of the monitor over ${relays.toLocaleString('en')} relays, nine tenths of them dead`,
    unit: 's',
    reference: null,
    ours: side('the monitor as it is run', [seconds]),
    ratio: null,
    goal: `below ${goal} s and ${GOAL_MB} MB`,
    met: seconds < goal && peakMb < GOAL_MB && lost === 0,
    details: {
      settings: `${settings}, else the defaults`,
      'relays a second': Math.round((relays / seconds) * 10) / 10,
      'peak RSS, MB': Math.round(peakMb),
      'CPU of the monitor, s': Math.round(cpuSeconds),
      'checks lost': lost,
      found: found.map(({ result, relays: count }) => `${result} ${count}`).join(', '),
    },
  };
}
