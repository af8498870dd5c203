/**
 * Relays that do everything wrong that we know of: one by one against the code of a visit, then all at once beside
 * honest ones in a real process. Each must come to a reason and a counter, on time; none may cost another anything.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { testDatabase } from '../support/database.ts';
import { signedEvents } from '../support/events.ts';
import { healthPort } from '../support/health-client.ts';
import { startHonestRelays } from '../support/honest-relays.ts';
import { GOOD, HOSTILE, type Hostile, type RunningHostile } from '../support/hostile-relays.ts';
import { endPrograms, type LogLine, type Program } from '../support/programs.ts';
import { Stack } from '../support/stack.ts';
import { watchUsage } from '../support/usage.ts';
import { type TestArchive, testArchive } from '../support/visit-context.ts';

/** The machine may be busy: what is not about time must not fail for want of it. */
const CONNECT_MS = 10_000;
const TIMEOUT_MS = 5000;
const VISIT_MS = 60_000;
const idsOf = (events: readonly { id: string }[]) => events.map(({ id }) => id).sort();
const GOOD_IDS = idsOf(GOOD);

describe.concurrent('a relay that', () => {
  let archive: TestArchive;
  beforeAll(async () => {
    archive = await testArchive();
  });
  afterAll(async () => {
    expect(await archive.allIds()).toEqual(GOOD_IDS);
    await archive.close();
  });

  /** Good events whose second the archive claims to have covered. */
  async function claimed(url: string): Promise<string[]> {
    const stretches = [...(await archive.covered(url)).matchAll(/\[(\d+),(\d+)\)/g)];
    const isIn = (second: number) =>
      stretches.some(([, since, until]) => second >= Number(since) && second < Number(until));
    return idsOf(GOOD.filter(({ created_at }) => isIn(created_at)));
  }

  test.for(HOSTILE)('$name', async ({ expected, filter = {}, start }, { expect }) => {
    const { visitMs = VISIT_MS } = expected;
    const relay = await start();
    try {
      const report = await archive.visit(relay.url, {
        connect: { timeoutMs: CONNECT_MS, allowPrivate: true, torProxy: null },
        requestTimeoutMs: TIMEOUT_MS,
        visitMs,
        secretKey: Buffer.alloc(32, 3),
        filter,
      });
      expect(relay.happened()).toBeGreaterThan(0);
      expect(relay.strayed()).toBe(0);
      const { outcome, detail = null, invalid = [], stored = 'all' } = expected;
      expect(report.outcome, JSON.stringify(report)).toBe(outcome);
      if (detail === null) expect(report.detail).toBeNull();
      else expect(report.detail).toMatch(detail);
      expect(Object.keys(report.invalid)).toEqual(invalid);
      const [row] = await archive.db.query(
        'select outcome, detail, ended_at is not null as ended from visits join relays using (relay_id) where url = $1',
        [relay.url],
      );
      expect(row).toEqual({ outcome, detail: report.detail, ended: true });

      const ids = await archive.ids(relay.url);
      expect(GOOD_IDS).toEqual(expect.arrayContaining(ids));
      if (stored === 'all') expect(ids).toEqual(GOOD_IDS);
      else if (stored === 'none') expect(ids).toEqual([]);
      else expect(ids.length).toBeGreaterThan(0);
      if (Object.keys(filter).length === 0)
        expect(ids).toEqual(expect.arrayContaining(await claimed(relay.url)));
    } finally {
      await relay.stop();
    }
  });
});

describe('all of them at once, beside five honest relays', () => {
  const now = Math.floor(Date.now() / 1000);
  // Ten seconds of work: as long as most of the hostile ones are at theirs.
  const events = signedEvents(13_000, { from: now - 500_000, to: now - 10_000, seed: 9 });
  const shares = [0, 1, 2, 3, 4].map((index) => events.slice(index * 250, index * 250 + 12_000));
  let stack: Stack;
  let honestUrls: readonly string[] = [];
  let hostile: { is: Hostile; running: RunningHostile }[] = [];
  const stops: (() => Promise<unknown>)[] = [];

  beforeAll(async () => {
    stack = await Stack.create();
    Object.assign(stack.env, {
      SYNCHRONIZER_REQUESTS_PER_CORE: '100',
      SYNCHRONIZER_REQUEST_TIMEOUT: '8',
      PRIORITY_SYNCHRONIZER_LIVE: 'false',
    });
    const honest = await startHonestRelays(stack, shares, 300);
    honestUrls = honest.urls;
    // Those that take the service's own filter, and do not take up all the time of a visit.
    const unfiltered = HOSTILE.filter(
      ({ filter, expected }) =>
        Object.keys(filter ?? {}).length === 0 && expected.visitMs === undefined,
    );
    hostile = await Promise.all(unfiltered.map(async (is) => ({ is, running: await is.start() })));
    stops.push(...hostile.map((relay) => () => relay.running.stop()));
  });
  afterAll(async () => {
    await endPrograms();
    await Promise.all(stops.map((stop) => stop()));
    await stack.remove();
  });

  /** One round of the process over these relays, on a database of its own. */
  async function round(urls: readonly string[]) {
    const database = await testDatabase();
    stops.push(() => database.drop());
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
  }

  test('the honest ones are archived whole, and the process stays small and quiet', async () => {
    const alone = await round(honestUrls);
    const together = await round([...hostile.map(({ running }) => running.url), ...honestUrls]);
    const { database, program, metrics, used } = together;

    for (const { is, running } of hostile) {
      expect(running.happened(), is.name).toBeGreaterThan(0);
      expect(running.strayed(), is.name).toBe(0);
    }
    for (const [index, url] of honestUrls.entries()) {
      const rows = await database.query<{ id: string }>(
        `select encode(event_id, 'hex') as id from events_relays where relay_url = $1 order by 1`,
        [url],
      );
      expect(rows.map(({ id }) => id)).toEqual(idsOf(shares[index] ?? []));
    }
    const archived = await database.query<{ id: string }>('select id from events_hex order by 1');
    expect(archived.map(({ id }) => id)).toEqual(idsOf([...events, ...GOOD]));

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

    const counted = (name: string) => [
      ...metrics.matchAll(
        new RegExp(`^bigbrotr_${name}_total\\{(?:\\w+="(\\w+)",)?.*\\} (\\d+)$`, 'gm'),
      ),
    ];
    const stopped = new Map(
      counted('visits_stopped').map(([, word, times]) => [word, Number(times)]),
    );
    const details = [...visits.values()].flatMap(({ detail }) => detail ?? []);
    expect(stopped.has('other')).toBe(false);
    expect([...stopped.values()].reduce((sum, times) => sum + times, 0)).toBe(details.length);
    const refused = new Set(counted('events_invalid').map(([, word]) => word));
    expect([...refused]).toEqual(
      expect.arrayContaining(hostile.flatMap(({ is }) => is.expected.invalid ?? [])),
    );
    console.log(`why visits stopped: ${JSON.stringify(Object.fromEntries(stopped))}`);

    const relays = hostile.length + honestUrls.length;
    expect(program.out.length + program.err.length).toBeLessThan(2 * relays);
    expect(Math.max(...program.out.map((line) => line.length))).toBeLessThan(2000);
    expect(program.log.filter(({ level }) => level === 'error' || level === 'fatal')).toEqual([]);
    const took = [alone, together].map((of) => secondsFor(honestUrls, of.program));
    const [undisturbed = 0, disturbed = 0] = took;
    console.log(
      [
        `honest relays: ${undisturbed.toFixed(1)} s alone, ${disturbed.toFixed(1)} s beside ${hostile.length} hostile ones`,
        `(${((100 * undisturbed) / disturbed).toFixed(0)} %, and less where other programs are busy)`,
        `the process: ${alone.used?.seconds} and ${used?.seconds} s of processor,`,
        `${alone.used?.megabytes} and ${used?.megabytes} MB at most, ${program.out.length} lines of log`,
      ].join('\n'),
    );
    if (used === null) console.log('skipped: memory is not measured without /proc');
    else expect(used.megabytes).toBeLessThan(400);
  }, 300_000);
});

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
