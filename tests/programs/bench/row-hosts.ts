import { setTimeout as sleep } from 'node:timers/promises';
import type { Relay } from '../../../src/database/bigbrotr.ts';
import { NEW_RELAY_POLICY } from '../../../src/network/relay-policy.ts';
import { health, healthPort } from '../../processes/health-client.ts';
import type { Bench } from './bench-run.ts';
import { cpuOf } from './cpu.ts';
import { median, type Result, rounded, side } from './measure.ts';
import { announce, oneWorker, startSynchronizer } from './synchronizers.ts';

const RELAYS = { quick: 40, full: 200, growth: 200 };
/** Time to the answer of a handshake or a REQ, in milliseconds: of a relay that is far away most of a visit is waiting. */
const DELAY_MS = 200;
const SLOTS = 10;
const PROCESSES = [1, 2, 4] as const;
const ONE_PROCESS = [1] as const;
/** At least this many times the visits of one process. */
const GOALS = { 1: 1, 2: 1.9, 4: 3.6 } as const;
/** Most of the CPU of a visit that claiming may take. */
const MAX_SHARE = 0.02;
const FILTER = {};

/**
 * Synchronizers over one archive and relays that are slow and always due: how much more several of them do. A quick bench
 * has fewer relays, and measures the cost of claiming alone.
 */
export async function hostsRows(bench: Bench): Promise<Result[]> {
  const quick = bench.size.mode === 'quick';
  const seconds = quick ? 5 : 20;
  const rounds = quick ? 1 : 3;
  await bench.relays.hold('few', { count: 5, seed: 11, size: 'likes', everySeconds: 3 });
  const urls = Array.from({ length: RELAYS[bench.size.mode] }, () =>
    bench.relays.url('few', DELAY_MS, DELAY_MS),
  );
  await bench.pipeline.clear();
  await announce(bench, urls);
  await letAllBeDue(bench);
  const runs = { 1: [] as Run[], 2: [] as Run[], 4: [] as Run[] };
  for (let round = 0; round < rounds; round += 1)
    for (const processes of quick ? ONE_PROCESS : PROCESSES)
      runs[processes].push(await measure(bench, processes, seconds));
  const cost = await claimCost(bench, urls);
  await bench.relays.drop('few');
  const visitUs = median(runs[1].map(({ cpuUs }) => cpuUs.processes + cpuUs.database));
  return [
    ...(quick ? [] : [rateResult(2, runs[1], runs[2]), rateResult(4, runs[1], runs[4])]),
    {
      row: 'claims',
      what: 'CPU of claiming: claim, three checks of the token and release',
      unit: 'µs a visit',
      reference: side('a visit with nothing to read', [visitUs]),
      ours: side('claiming', [cost]),
      ratio: cost / visitUs,
      goal: `at most ${MAX_SHARE} of a visit`,
      met: cost / visitUs <= MAX_SHARE,
      details: {},
    },
  ];
}

interface Run {
  readonly visitsPerSecond: number;
  readonly twiceAtOnce: number;
  /** CPU a visit, in microseconds. */
  readonly cpuUs: {
    readonly processes: number;
    readonly database: number;
    readonly relays: number;
  };
}

function rateResult(processes: 2 | 4, one: readonly Run[], ours: readonly Run[]): Result {
  const rates = ours.map(({ visitsPerSecond }) => visitsPerSecond);
  const reference = one.map(({ visitsPerSecond }) => visitsPerSecond);
  const ratio = median(rates.map((rate, round) => rate / (reference[round] ?? rate)));
  const twice = [...one, ...ours].reduce((sum, { twiceAtOnce }) => sum + twiceAtOnce, 0);
  return {
    row: 'hosts',
    what: `visits of ${processes} processes, ${SLOTS} slots each, ${RELAYS.full} relays that answer after ${DELAY_MS} ms`,
    unit: 'visits/s',
    reference: side('one process', reference),
    ours: side(`${processes} processes`, rates),
    ratio,
    goal: `${GOALS[processes]} times, no relay visited twice at once`,
    met: ratio >= GOALS[processes] && twice === 0,
    details: {
      'relays visited twice at once': twice,
      ...cpuDetails('one process', one),
      ...cpuDetails(`${processes} processes`, ours),
    },
  };
}

async function measure(bench: Bench, processes: number, seconds: number): Promise<Run> {
  const { relays, server } = bench;
  await bench.pipeline.db.query('truncate claims');
  const programs = Array.from({ length: processes }, () =>
    startSynchronizer(bench, oneWorker(SLOTS)),
  );
  try {
    for (const program of programs) {
      const port = await healthPort(program, 'synchronizer');
      while ((await health(port))?.status !== 200) await sleep(100);
    }
    await allVisited(bench);
    const look = async () => ({
      seen: await relays.seen(),
      processes: programs.reduce((sum, { pid }) => sum + (cpuOf(pid) ?? 0), 0),
      database: cpuOf(server.pid) ?? 0,
      relays: cpuOf(relays.pid) ?? 0,
      at: performance.now(),
    });
    const before = await look();
    await sleep(seconds * 1000);
    const after = await look();
    const visits = after.seen.connections - before.seen.connections;
    const each = (part: 'processes' | 'database' | 'relays') =>
      ((after[part] - before[part]) * 1e6) / visits;
    return {
      visitsPerSecond: visits / ((after.at - before.at) / 1000),
      twiceAtOnce: after.seen.twice,
      cpuUs: { processes: each('processes'), database: each('database'), relays: each('relays') },
    };
  } finally {
    for (const program of programs) program.signal('SIGTERM');
    await Promise.all(programs.map(({ ended }) => ended));
  }
}

/** CPU a visit, by where it is used. */
function cpuDetails(who: string, runs: readonly Run[]): Record<string, number> {
  const part = (name: keyof Run['cpuUs']) => rounded(median(runs.map(({ cpuUs }) => cpuUs[name])));
  return {
    [`CPU a visit of ${who}, µs`]: part('processes'),
    [`CPU a visit of the database, µs, ${who}`]: part('database'),
    [`CPU a visit of the relays, µs, ${who}`]: part('relays'),
  };
}

/** Waits until every relay is caught up, and has been visited once from now on. */
async function allVisited({ pipeline: { db } }: Bench): Promise<void> {
  const since = await db.number('select unix_now()');
  const left = () =>
    db.number(
      `select count(*) from relays r where not exists (
           select from visits v where v.relay_id = r.relay_id and v.caught_up and v.started_at > $1
       )`,
      [since],
    );
  while ((await left()) > 0) await sleep(200);
}

/** Makes a relay due again as soon as its visit has ended. */
async function letAllBeDue({ pipeline: { db } }: Bench): Promise<void> {
  await db.query(
    `create or replace function due_at_once() returns trigger language plpgsql as $$ begin
       new.outcome := 'unfinished';
       return new;
     end $$`,
  );
  await db.query(
    `create or replace trigger due_at_once before update on visits
     for each row when (new.ended_at is not null) execute function due_at_once()`,
  );
}

/** CPU of what claims add to a visit, in microseconds: processes and database. */
async function claimCost(bench: Bench, urls: readonly string[]): Promise<number> {
  const { bigbrotr, db } = bench.pipeline;
  await bench.pipeline.clear();
  await db.query('truncate claims');
  const relays = await announce(bench, urls);
  const filterId = await bigbrotr.filterId(FILTER);
  const wanted = { filterId, since: 0, until: 100 };
  const ages = { overlapSeconds: 0, reproveSeconds: 86_400 };
  const visit = async (relay: Relay) => {
    await bigbrotr.beginVisit(relay, wanted, ages);
    await bigbrotr.setRelayPolicy(relay, NEW_RELAY_POLICY);
    const end = { outcome: 'complete', reason: null, detail: null, pages: 0 } as const;
    await bigbrotr.endVisit(relay, filterId, end);
  };
  const cpuOfRounds = async (rounds: number, work: () => Promise<void>) => {
    const before = bench.cpu();
    for (let round = 0; round < rounds; round += 1) await work();
    const after = bench.cpu();
    return after.pipeline + after.database - before.pipeline - before.database;
  };
  const plain = async () => {
    for (const relay of relays) await visit(relay);
  };
  /** As a look-up claims them while relays are always due: as many as slots have become free meanwhile. */
  const together = 5;
  const claimed = async () => {
    for (let from = 0; from < relays.length; from += together) {
      const some = relays.slice(from, from + together);
      const keys = new Map(some.map((relay) => [relay.relayId, relay]));
      const rows = await db.query<{ relay_id: number; started_at: number | null }>(
        'select relay_id, started_at from visits where relay_id = any ($1)',
        [[...keys.keys()]],
      );
      const seen = new Map(rows.map(({ relay_id, started_at }) => [relay_id, started_at]));
      const claimables = some.map(({ relayId }) => {
        const seenAt = seen.get(relayId);
        return {
          key: relayId,
          seenAt: seenAt === undefined || seenAt === null ? null : Number(seenAt),
        };
      });
      const claims = await bigbrotr.claims.take('visit', filterId, claimables, 'bench', 60);
      for (const { key, token } of claims) {
        const relay = keys.get(key);
        if (relay) await visit({ ...relay, token });
      }
      await bigbrotr.claims.release({ ended: claims, interrupted: [] });
    }
  };
  const lookedUp = async () => {
    for (let from = 0; from < relays.length; from += together)
      await db.query('select relay_id, started_at from visits where relay_id = any ($1)', [
        relays.slice(from, from + together).map(({ relayId }) => relayId),
      ]);
  };
  await plain();
  const rounds = bench.size.mode === 'quick' ? 3 : 10;
  const differences: number[] = [];
  for (let round = 0; round < 3; round += 1) {
    const without = (await cpuOfRounds(rounds, plain)) + (await cpuOfRounds(rounds, lookedUp));
    differences.push((await cpuOfRounds(rounds, claimed)) - without);
  }
  return (median(differences) * 1e6) / (rounds * relays.length);
}
