/**
 * `npm run test:soak`: relays of every kind on this machine, the real services, and faults at random for some
 * minutes; then peace until all is caught up, and the comparison with what the relays hold and their events name.
 * `-- 15` takes 15 minutes, `--seed 123` draws the same relays and faults once more, `--quick` takes twelve relays
 * and a minute in all, `--hosts` plays several hosts: three synchronizers, two monitors, two finders, each with a wire of
 * its own to the database. Exits 0 only when nothing was lost, nothing claimed in vain, no relay held twice, every relay
 * found and nobody else connected to, and every fault that was planned has happened.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { seededRandom } from '../../fixtures/random.ts';
import { endPrograms } from '../../processes/programs.ts';
import { Stack } from '../../processes/stack.ts';
import { parseSoakArguments, type SoakOptions, UsageError } from './arguments.ts';
import { Arrivals } from './arrivals.ts';
import { catchUp } from './catch-up.ts';
import { watchClaims } from './claims.ts';
import { liesNow } from './compare.ts';
import { Faults } from './faults.ts';
import { Holders } from './holders.ts';
import { judgeNames, namesRead } from './judge-names.ts';
import { Servers } from './servers.ts';
import type { KeptService } from './services.ts';
import { configure, initialize, keptServices, useServerItself, verify } from './setup.ts';
import { type SoakRelays, startRelays } from './start-relays.ts';
import { Tally } from './tally.ts';
import { letDaysPass, letHoursPassForNames, letMinutesPass, letMonthsPass } from './time.ts';
import {
  isByChance,
  judgeArchive,
  judgeClaims,
  judgeFaults,
  judgeLog,
  judgePeace,
  judgeSignatures,
  judgeUse,
} from './verdict.ts';

/** Faults begin once this number of sightings is stored, so that there is work to disturb, or after this time. */
const WARM_SIGHTINGS = 500;
const WARM_UP_MS = 60_000;
const LOOK_EVERY_MS = 2000;
const TELL_EVERY_MS = 10_000;
/** Faults that have not happened in time are tried for so much longer. */
const EXTRA_MS = 180_000;
/** After everything is archived the finder may take so long for the last names: it looks again after a minute. */
const NAMES_MS = 120_000;
const SETTLE_MS = { usual: 300_000, quick: 240_000 };

/** What is to be undone at the end, the latest first. */
const undo: (() => Promise<unknown>)[] = [];
const stopping = new AbortController();
process.once('SIGINT', () => stopping.abort(130));
process.once('SIGTERM', () => stopping.abort(143));

// What nobody caught must not leave servers and services behind either.
process.once('uncaughtException', (error) => {
  process.stderr.write(`${error.stack}\n`);
  void cleanUp().finally(() => process.exit(1));
});

process.exit(await main());

async function main(): Promise<number> {
  try {
    return await soak(parseSoakArguments(process.argv.slice(2)));
  } catch (error) {
    if (stopping.signal.aborted) {
      say('Stopped before its end.');
      return stopping.signal.reason;
    }
    const said = error instanceof UsageError ? error.message : (error as Error).stack;
    process.stderr.write(`${said}\n`);
    return error instanceof UsageError ? 2 : 1;
  } finally {
    await cleanUp();
  }
}

async function cleanUp(): Promise<void> {
  for (const step of undo.splice(0).reverse()) await step().catch(() => {});
  await endPrograms();
}

async function soak(options: SoakOptions): Promise<number> {
  const { minutes, seed, quick, hosts } = options;
  const began = performance.now();
  say(`A soak of ${minutes} min with seed ${seed}: npm run test:soak -- ${again(options)}`);
  const tally = new Tally((sentence) => say(`WRONG: ${sentence}`));
  const relays = await startRelays({ seed, quick, now: Math.floor(Date.now() / 1000) });
  undo.push(() => Promise.all([...relays.all, relays.model.places].map((one) => one.stop())));
  const servers = await Servers.start(minutes);
  undo.push(() => servers.stop());
  say(
    `${relays.all.length} relays, ${relays.hidden.length} of them to be found; PostgreSQL, ${servers.poolerVersion ?? 'no PgBouncer, since it is not installed here'}`,
  );
  if (typeof servers.disk === 'string') say(`the disk is not filled: ${servers.disk}`);
  const stack = await Stack.create();
  undo.push(() => stack.remove());
  await configure(stack, servers, relays);
  await initialize(stack);
  await watchClaims(servers);
  const random = seededRandom(seed + 1);
  const services = await keptServices(stack, servers, tally, hosts);
  undo.push(() => Promise.all(services.map((service) => service.abandon())));
  const holders = new Holders(services);
  holders.watch(relays.honest);
  for (const service of services) service.start();
  // One is never killed, so that its memory is seen over the whole time.
  const spared = random.pick(services.filter(({ name }) => name.endsWith('synchronizer')));
  say(`${spared.name} is spared from being killed\n`);
  const mortal = services.filter((service) => service !== spared);
  const arrivals = new Arrivals(seededRandom(seed + 2), relays, tally, seed);
  const faults = new Faults({ random, servers, relays: relays.honest, arrivals, mortal, tally });
  const watch = watchOver({ services, servers, relays, tally, began });

  await disturb(minutes, quick, { faults, arrivals, servers, relays, tally });
  say('\nNo more faults: what is behind catches up.');
  for (const service of mortal) await service.restart(null);
  const timeoutMs = quick ? SETTLE_MS.quick : SETTLE_MS.usual;
  await catchUp(servers, relays.honest, tally, timeoutMs, (awaited) => {
    watch.awaited = awaited;
    stopping.signal.throwIfAborted();
  });
  await namesRead(servers, relays.model, NAMES_MS);
  await judgePeace(services, relays.honest, tally);
  for (const service of services) await service.stop();
  await watch.end();
  stopping.signal.throwIfAborted();

  await judge({ stack, servers, relays, services, tally, faults, holders }, quick);
  const total = (performance.now() - began) / 60_000;
  say('\nMemory, sockets and log:');
  for (const service of services) say(`  ${judgeUse(service, tally)}`);
  for (const service of services) say(`  ${judgeLog(service, total, tally)}`);
  return tell(tally, services, options, total);
}

interface Judged {
  readonly stack: Stack;
  readonly servers: Servers;
  readonly relays: SoakRelays;
  readonly services: readonly KeptService[];
  readonly tally: Tally;
  readonly faults: Faults;
  readonly holders: Holders;
}

/** Compares the archive with what the relays hold and their events name, and looks whether all that was planned happened. */
async function judge(
  { stack, servers, relays, services, tally, faults, holders }: Judged,
  quick: boolean,
): Promise<void> {
  say('\nThe archive against the relays:');
  const { held, stored, named, lost } = await judgeArchive(servers, relays.all, tally);
  say(`  ${held} sightings are held, ${stored} archived, ${named} in named gaps, ${lost} lost`);
  await judgeClaims(servers, holders, tally);
  const finders = services.filter(({ name }) => name === 'finder');
  const foundBy = new Map<string, number>();
  for (const { found } of finders)
    for (const [url, times] of found) foundBy.set(url, (foundBy.get(url) ?? 0) + times);
  const found = await judgeNames(
    (sql, values) => servers.query(sql, values),
    relays.model,
    foundBy,
    tally,
  );
  say(
    `  ${found.events} events name something: ${found.names} names in ${found.namings} places, ${found.found} of ${found.hidden} relays found, ${found.inVain} names asked in vain`,
  );
  useServerItself(stack, servers);
  say(`  ${await judgeSignatures(stack, verify, tally)}`);
  judgeFaults(faults, relays.all, tally, quick);
}

function again({ minutes, seed, quick, hosts }: SoakOptions): string {
  return `${quick ? '--quick' : minutes} --seed ${seed}${hosts ? ' --hosts' : ''}`;
}

interface Stage {
  readonly faults: Faults;
  readonly arrivals: Arrivals;
  readonly servers: Servers;
  readonly relays: SoakRelays;
  readonly tally: Tally;
}

/** Faults, arrivals, and time that passes; coverage is looked at in between. Resolves when all is mended. */
async function disturb(minutes: number, quick: boolean, stage: Stage): Promise<void> {
  const { faults, arrivals, servers, relays, tally } = stage;
  await warmUp(servers);
  const end = performance.now() + minutes * 60_000;
  const until = async (everyMs: number, work: (turn: number) => Promise<void> | void) => {
    for (let turn = 1; performance.now() < end && !stopping.signal.aborted; turn += 1) {
      await work(turn);
      await pause(Math.min(everyMs, Math.max(0, end - performance.now())));
    }
  };
  await Promise.all([
    until(quick ? 1500 : 3000, () => faults.strikeOne()),
    until(250, () => arrivals.arrive()),
    until(10_000, async (turn) => {
      const lucky = turn % 6 === 0 ? relays.all : relays.honest;
      await letMinutesPass(
        servers,
        lucky.map(({ url }) => url),
      );
      await letHoursPassForNames(servers);
      if (turn % 5 === 0) await letDaysPass(servers);
      if (turn % 9 === 0) await letMonthsPass(servers);
    }),
    until(20_000, () => lookForLies(servers, relays, tally)),
  ]);
  const last = performance.now() + EXTRA_MS;
  const urls = relays.honest.map(({ url }) => url);
  const awaited = () => faults.missing.filter((name) => !(quick && isByChance(name)));
  for (; awaited().length > 0 && performance.now() < last; await pause(2000)) {
    faults.strikeMissing();
    arrivals.arrive();
    await letMinutesPass(servers, urls);
    await letHoursPassForNames(servers);
  }
  await faults.end();
  stopping.signal.throwIfAborted();
}

async function warmUp(servers: Servers): Promise<void> {
  const started = performance.now();
  const isWarm = async () => {
    const [row] = await servers.query<{ n: number }>('select count(*)::int as n from sightings');
    return (row?.n ?? 0) >= WARM_SIGHTINGS || performance.now() - started > WARM_UP_MS;
  };
  while (!stopping.signal.aborted && !(await isWarm())) await pause(500);
}

async function lookForLies(servers: Servers, { all }: SoakRelays, tally: Tally): Promise<void> {
  for (const relay of all) {
    const lies = await liesNow((sql, values) => servers.query(sql, values), relay);
    if (lies.length > 0)
      tally.fail(
        `in between, coverage claimed ${lies.length} events of the relay that ${relay.name} that were not stored: ${lies[0]?.id} at ${lies[0]?.created_at}`,
      );
  }
  tally.count('looks at the coverage of all relays in between');
}

interface Watched {
  readonly services: readonly KeptService[];
  readonly servers: Servers;
  readonly relays: SoakRelays;
  readonly tally: Tally;
  readonly began: number;
}

/** Looks at the services, and tells every ten seconds how it stands. */
function watchOver({ services, servers, relays, tally, began }: Watched) {
  const watch = { awaited: -1, end: async () => {} };
  let ended = false;
  const running = (async () => {
    for (let told = began; !ended; ) {
      for (const service of services) service.look();
      if (performance.now() - told >= TELL_EVERY_MS) {
        told = performance.now();
        for (const relay of relays.all) relay.forget();
        say(await progressLine({ services, servers, relays, tally, began }, watch.awaited));
      }
      await sleep(LOOK_EVERY_MS);
    }
    for (const service of services) service.look();
  })();
  running.catch((error) => tally.fail(`the soak could not watch: ${error.stack}`));
  watch.end = () => {
    ended = true;
    return running;
  };
  return watch;
}

async function progressLine(
  { services, servers, tally, began }: Watched,
  awaited: number,
): Promise<string> {
  const [row] = await servers.query<{ events: number; sightings: number }>(
    'select (select count(*)::int from events) as events, (select count(*)::int from sightings) as sightings',
  );
  const faults = [...tally.counts]
    .filter(([name]) => name.startsWith('fault: '))
    .map(([name, count]) => `${name.slice(7)} ${count}`);
  const memory = services.map(({ name, megabytes }) => `${name} ${megabytes} MB`);
  const seconds = Math.round((performance.now() - began) / 1000);
  const behind = awaited < 0 ? '' : `, ${awaited} relays behind`;
  return `${seconds} s: ${row?.events} events, ${row?.sightings} sightings${behind}; ${memory.join(', ')}; ${faults.join(', ')}`;
}

function tell(
  tally: Tally,
  services: readonly KeptService[],
  options: SoakOptions,
  minutes: number,
): number {
  say('\nWhat happened:');
  for (const [name, count] of [...tally.counts].sort()) say(`  ${name}: ${count}`);
  say('\nWhat the services said:');
  for (const { name, messages } of services)
    for (const [message, count] of [...messages].sort()) say(`  ${name} ${message}: ${count}`);
  const { failures } = tally;
  if (failures.size === 0) {
    say(`\nNothing lost, nothing twice, nothing claimed in vain, in ${minutes.toFixed(1)} min.`);
    return 0;
  }
  say(`\nWRONG, with npm run test:soak -- ${again(options)}:`);
  for (const [sentence, times] of failures)
    say(`- ${sentence}${times > 1 ? ` (${times} times)` : ''}`);
  return 1;
}

async function pause(ms: number): Promise<void> {
  await sleep(ms, undefined, { signal: stopping.signal }).catch(() => {});
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}
