/** Hostile relays beside honest ones, archived by one process: none of them costs another anything. */
import { expect } from 'vitest';
import { idsOf, signedEvents } from '../fixtures/events.ts';
import { type TestDatabase, testDatabase } from '../postgres/database.ts';
import { healthPort } from '../processes/health-client.ts';
import type { LogLine, Program } from '../processes/programs.ts';
import { stackTest } from '../processes/stack-test.ts';
import { type Usage, watchUsage } from '../processes/usage.ts';
import { startHonestRelays } from '../relay/honest-relays.ts';
import { GOOD, HOSTILE, type Hostile, type RunningHostile } from '../relay/hostile-relays.ts';

const NOW = Math.floor(Date.now() / 1000);
// Ten seconds of work: as long as most of the hostile ones are at theirs.
const EVENTS = signedEvents(13_000, { from: NOW - 500_000, to: NOW - 10_000, seed: 9 });
const SHARES = [0, 1, 2, 3, 4].map((index) => EVENTS.slice(index * 250, index * 250 + 12_000));
/** Those that take the service's own filter, and do not take up all the time of a visit. */
const UNFILTERED = HOSTILE.filter(
  ({ filter, expected }) =>
    Object.keys(filter ?? {}).length === 0 && expected.visitMs === undefined,
);

/** What one round of the service has come to. */
interface Round {
  readonly database: TestDatabase;
  readonly program: Program;
  /** The text of /metrics. */
  readonly metrics: string;
  readonly used: Usage | null;
}

const test = stackTest
  .extend('honestUrls', async ({ stack }) => (await startHonestRelays(stack, SHARES, 300)).urls)
  .extend('hostile', async ({ stack: _endsFirst }, { onCleanup }) => {
    const hostile = await Promise.all(
      UNFILTERED.map(async (is) => ({ is, running: await is.start() })),
    );
    onCleanup(async () => {
      await Promise.all(hostile.map(({ running }) => running.stop()));
    });
    return hostile;
  })
  /** Runs the priority synchronizer for one round over these relays, on a database of its own. */
  .extend('round', ({ stack }, { onCleanup }) => {
    const databases: TestDatabase[] = [];
    onCleanup(async () => {
      for (const database of databases) await database.drop();
    });
    Object.assign(stack.env, {
      SYNCHRONIZER_REQUESTS_PER_CORE: '100',
      SYNCHRONIZER_REQUEST_TIMEOUT: '8',
      PRIORITY_SYNCHRONIZER_LIVE: 'false',
    });
    return async (urls: readonly string[]): Promise<Round> => {
      const database = await testDatabase();
      databases.push(database);
      stack.useDatabase(database.config);
      await stack.relays([], urls);
      // Not with --once, so that its counters can be asked for when the round is over.
      const program = stack.start('priority-synchronizer', []);
      const watched = watchUsage(program);
      await program.logged(({ msg }) => msg.startsWith('round finished'), 'the round', 110_000);
      const port = await healthPort(program, 'priority-synchronizer');
      const metrics = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
      program.signal('SIGTERM');
      expect(await program.ended, program.said).toEqual({ code: 0, signal: null });
      return { database, program, metrics, used: watched.stop() };
    };
  });

interface RunningRelay {
  readonly is: Hostile;
  readonly running: RunningHostile;
}

test('five honest relays are archived whole beside hostile ones, and the process stays small and quiet', async ({
  honestUrls,
  hostile,
  round,
}) => {
  const alone = await round(honestUrls);
  const together = await round([...hostile.map(({ running }) => running.url), ...honestUrls]);
  for (const { is, running } of hostile) {
    expect(running.happened(), is.name).toBeGreaterThan(0);
    expect(running.strayed(), is.name).toBe(0);
  }
  await expectArchived(together, honestUrls);
  expectVisits(together, honestUrls, hostile);
  expectCounted(together, hostile);
  expectQuiet(together, hostile.length + honestUrls.length);
  tellTimes(alone, together, honestUrls, hostile.length);
}, 300_000);

async function expectArchived({ database }: Round, honestUrls: readonly string[]): Promise<void> {
  for (const [index, url] of honestUrls.entries()) {
    const rows = await database.query<{ id: string }>(
      `select encode(event_id, 'hex') as id from events_relays where relay_url = $1 order by 1`,
      [url],
    );
    expect(rows.map(({ id }) => id)).toEqual(idsOf(SHARES[index] ?? []));
  }
  const archived = await database.query<{ id: string }>('select id from events_hex order by 1');
  expect(archived.map(({ id }) => id)).toEqual(idsOf([...EVENTS, ...GOOD]));
}

function expectVisits(
  { program }: Round,
  honestUrls: readonly string[],
  hostile: readonly RunningRelay[],
): void {
  const visits = visitsIn(program);
  const complete = { outcome: 'complete', detail: null, invalid: {} };
  for (const url of honestUrls) expect(visits.get(url)).toMatchObject(complete);
  for (const { is, running } of hostile) {
    const visit = visits.get(running.url);
    const { outcome, detail = null, invalid = [] } = is.expected;
    expect(visit, is.name).toBeDefined();
    expect({ name: is.name, outcome: visit?.outcome }).toEqual({ name: is.name, outcome });
    if (detail !== null) expect(visit?.detail, is.name).toMatch(detail);
    expect(Object.keys(visit?.invalid ?? {}), is.name).toEqual(invalid);
  }
}

/** Each visit that stopped is counted under its reason, and each refused event under its own. */
function expectCounted({ program, metrics }: Round, hostile: readonly RunningRelay[]): void {
  const counted = (name: string) => [
    ...metrics.matchAll(
      new RegExp(`^bigbrotr_${name}_total\\{(?:\\w+="(\\w+)",)?.*\\} (\\d+)$`, 'gm'),
    ),
  ];
  const stopped = new Map(
    counted('visits_stopped').map(([, word, times]) => [word, Number(times)]),
  );
  const details = [...visitsIn(program).values()].flatMap(({ detail }) => detail ?? []);
  expect(stopped.has('other')).toBe(false);
  expect([...stopped.values()].reduce((sum, times) => sum + times, 0)).toBe(details.length);
  const refused = new Set(counted('events_invalid').map(([, word]) => word));
  expect([...refused]).toEqual(
    expect.arrayContaining(hostile.flatMap(({ is }) => is.expected.invalid ?? [])),
  );
  console.log(`why visits stopped: ${JSON.stringify(Object.fromEntries(stopped))}`);
}

function expectQuiet({ program, used }: Round, relays: number): void {
  expect(program.out.length + program.err.length).toBeLessThan(2 * relays);
  expect(Math.max(...program.out.map((line) => line.length))).toBeLessThan(2000);
  expect(program.log.filter(({ level }) => level === 'ERROR' || level === 'FATAL')).toEqual([]);
  if (used === null) console.log('skipped: memory is not measured without /proc');
  else expect(used.megabytes).toBeLessThan(400);
}

function tellTimes(
  alone: Round,
  together: Round,
  honestUrls: readonly string[],
  hostile: number,
): void {
  const took = [alone, together].map((of) => secondsFor(honestUrls, of.program));
  const [undisturbed = 0, disturbed = 0] = took;
  console.log(
    [
      `honest relays: ${undisturbed.toFixed(1)} s alone, ${disturbed.toFixed(1)} s beside ${hostile} hostile ones`,
      `(${((100 * undisturbed) / disturbed).toFixed(0)} %, and less where other programs are busy)`,
      `the process: ${alone.used?.seconds} and ${together.used?.seconds} s of processor,`,
      `${alone.used?.megabytes} and ${together.used?.megabytes} MB at most, ${together.program.out.length} lines of log`,
    ].join('\n'),
  );
}

function visitsIn(program: Program): Map<unknown, LogLine & { invalid?: object; detail?: string }> {
  const lines = program.log.filter(({ msg }) => msg === 'relay visited');
  return new Map(lines.map((line) => [line.relay, line]));
}

/** From the moment the workers stood ready until the last of these relays was visited. */
function secondsFor(urls: readonly string[], program: Program): number {
  const visits = visitsIn(program);
  const at = (line: LogLine | undefined) => Date.parse(String(line?.time));
  const ready = program.log.find(({ thread }) => thread !== undefined);
  return (Math.max(...urls.map((url) => at(visits.get(url)))) - at(ready)) / 1000;
}
