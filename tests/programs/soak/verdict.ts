/** What a soak is judged by. Each thing that is not as it should be becomes one sentence. */
import { setTimeout as sleep } from 'node:timers/promises';
import { health } from '../../processes/health-client.ts';
import type { Program } from '../../processes/programs.ts';
import type { Stack } from '../../processes/stack.ts';
import { takenOver } from './claims.ts';
import { compareRelay, inconsistencies } from './compare.ts';
import type { Faults } from './faults.ts';
import type { Holders } from './holders.ts';
import type { ModelledRelay, SoakRelay } from './relays.ts';
import type { Servers } from './servers.ts';
import type { KeptService, UseSample } from './services.ts';
import type { Tally } from './tally.ts';

export interface Totals {
  held: number;
  stored: number;
  named: number;
  lost: number;
}

const NAMED_AT_MOST = 3;

/** Compares every relay with its model. */
export async function judgeArchive(
  servers: Servers,
  relays: readonly ModelledRelay[],
  tally: Tally,
): Promise<Totals> {
  const ask: Servers['query'] = (sql, values) => servers.query(sql, values);
  const totals: Totals = { held: 0, stored: 0, named: 0, lost: 0 };
  for (const relay of relays) {
    const { held, stored, claimed, unnamed, named, invented } = await compareRelay(ask, relay);
    totals.held += held;
    totals.stored += stored;
    totals.named += named.length;
    totals.lost += claimed.length + unnamed.length;
    const where = `the relay that ${relay.name} (${relay.url})`;
    const some = (events: readonly { id: string; created_at: number }[]) =>
      events
        .slice(0, NAMED_AT_MOST)
        .map(({ id, created_at }) => `${id} at ${created_at}`)
        .join(', ');
    if (claimed.length > 0)
      tally.fail(
        `coverage claims ${claimed.length} events of ${where} that are not stored: ${some(claimed)}`,
      );
    if (unnamed.length > 0)
      tally.fail(`${unnamed.length} events of ${where} are lost in no gap: ${some(unnamed)}`);
    if (relay.promise === 'whole' && named.length > 0)
      tally.fail(`${named.length} events of ${where} lie in gaps: ${some(named)}`);
    if (invented.length > 0)
      tally.fail(
        `${invented.length} events are stored of ${where} that it never held: ${JSON.stringify(invented[0])}`,
      );
  }
  for (const [what, count] of Object.entries(await inconsistencies(ask)))
    if (count !== 0) tally.fail(`there are ${count} ${what}`);
  return totals;
}

/** No claim may be taken from a process whose lease is valid, and no two processes may be connected to a relay at once. */
export async function judgeClaims(servers: Servers, holders: Holders, tally: Tally): Promise<void> {
  const { claims, tooEarly, median, longest } = await takenOver(servers);
  if (tooEarly > 0) tally.fail(`${tooEarly} claims were taken over while their lease was valid`);
  for (const { where, ms } of holders.meetings)
    tally.fail(`two services were connected at once for ${ms} ms: ${where}`);
  console.log(
    `  ${claims} claims taken over, half of them within ${median} s and all within ${longest} s of the end of the lease, ${tooEarly} before it`,
  );
  console.log(
    `  ${holders.seen} connections to relays, ${holders.meetings.length} beside that of another holder, ${holders.withStopped} beside that of a process that was stopped`,
  );
}

/** Runs `npm run verify` on the archive. */
export async function judgeSignatures(
  stack: Stack,
  verify: (stack: Stack) => Program,
  tally: Tally,
): Promise<string> {
  const program = verify(stack);
  const { code } = await program.ended;
  if (code !== 0) tally.fail(`npm run verify ended with ${code}: ${program.said.slice(0, 1000)}`);
  return program.out.at(-1) ?? '';
}

/** Whether a fault happens by chance alone: in a minute with few relays a crash point may not be reached. */
export function isByChance(fault: string): boolean {
  return fault.endsWith('at a crash point');
}

/**
 * Every fault and every oddity of a relay that was planned has to be shown to have happened. In a quick run crash points
 * that were not reached are only named: tests/fault/crash-points.test.ts and worker-crash-points.test.ts reach each.
 */
export function judgeFaults(
  faults: Faults,
  relays: readonly ModelledRelay[],
  tally: Tally,
  quick: boolean,
): void {
  for (const name of faults.missing) {
    if (quick && isByChance(name)) console.log(`not reached in a quick run: ${name}`);
    else tally.fail(`the fault "${name}" never happened`);
  }
  for (const relay of relays) {
    const missing = relay.missingQuirks();
    if (missing.length > 0)
      tally.fail(`the relay that ${relay.name} has not shown: ${missing.join(', ')}`);
  }
}

/** Allowed growth from the first third to the last: a factor, and an amount on top. */
const GROWTH_FACTOR = 1.3;
const SLACK = { megabytes: 40, descriptors: 40 };
/** A process is still filling its heap before that, in milliseconds. */
const WARM_MS = 30_000;
const FEW_SAMPLES = 5;

/** Says how memory and open sockets went, and fails where they grew. */
export function judgeUse({ name, samples }: KeptService, tally: Tally): string {
  const warm = samples.filter(({ upMs }) => upMs > WARM_MS);
  const [first, last] = [warm.at(0)?.at ?? 0, warm.at(-1)?.at ?? 0];
  const third = (last - first) / 3;
  const early = warm.filter(({ at }) => at <= first + third);
  const late = warm.filter(({ at }) => at >= last - third);
  const most = Math.max(0, ...samples.map(({ megabytes }) => megabytes));
  if (early.length < FEW_SAMPLES || late.length < FEW_SAMPLES)
    return `${name}: ${most} MB at most; it lived too short to tell whether it grows`;
  const grown = (what: 'megabytes' | 'descriptors') => {
    const [before, after] = [median(early, what), median(late, what)];
    const said = `${before} ${what} in the first third, ${after} in the last`;
    if (after > before * GROWTH_FACTOR + SLACK[what])
      tally.fail(
        `${name} grows by more than ${GROWTH_FACTOR} times and ${SLACK[what]} ${what}: ${said}`,
      );
    return said;
  };
  return `${name}: ${grown('megabytes')}, ${most} at most; ${grown('descriptors')}`;
}

function median(samples: readonly UseSample[], what: 'megabytes' | 'descriptors'): number {
  const sorted = samples.map((sample) => sample[what]).sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}

/** A relay that is followed has one connection, a check another, and one may be about to close. */
const CONNECTIONS = 3;
const CALM_TRIES = 10;

/** In peace every service is well by its own word, and nobody holds connections that nothing uses. */
export async function judgePeace(
  services: readonly KeptService[],
  relays: readonly SoakRelay[],
  tally: Tally,
): Promise<void> {
  const crowded = () => relays.filter(({ connections }) => connections > CONNECTIONS);
  for (let tries = 0; tries < CALM_TRIES && crowded().length > 0; tries += 1) await sleep(1000);
  for (const { name, connections } of crowded())
    tally.fail(`the relay that ${name} has ${connections} connections open in peace`);
  for (const { name, healthPort } of services) {
    const answer = await health(healthPort);
    if (answer?.status !== 200)
      tally.fail(`${name} is not well in peace: /health gives ${JSON.stringify(answer)}`);
  }
}

/** Lines that are said beside one for each visit: for each start, and for each minute of trouble. */
const LINES_A_START = 40;
const LINES_A_MINUTE = 120;
const LONGEST_LINE = 16_000;

/** Says how much was logged, and fails where strangers or faults could fill a disk with it. */
export function judgeLog(service: KeptService, minutes: number, tally: Tally): string {
  const { name, lines, visits, bytes, starts, longestLine } = service;
  const others = lines - visits;
  const most = Math.round(LINES_A_START * starts + LINES_A_MINUTE * minutes);
  if (others > most)
    tally.fail(`${name} logged ${others} lines beside its visits, where ${most} are bounds enough`);
  if (longestLine > LONGEST_LINE)
    tally.fail(`${name} logged a line of ${longestLine} characters, more than ${LONGEST_LINE}`);
  return `${name}: ${lines} lines, ${visits} of them visits, ${(bytes / 1e6).toFixed(1)} MB, ${starts} starts`;
}
