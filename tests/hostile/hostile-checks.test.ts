/**
 * The same relays that do everything wrong, met by the monitor and by the finder as processes: each comes to a reason,
 * on time, and the process stays small, quiet and whole.
 */
import { expect } from 'vitest';
import { RelayNames } from '../../src/finder/relay-names.ts';
import { parseBlocklist } from '../../src/network/blocklist.ts';
import { stackTest } from '../processes/stack-test.ts';
import { watchUsage } from '../processes/usage.ts';
import { GOOD, HOSTILE } from '../relay/hostile-relays.ts';
import { relayAddress } from '../relay/relays.ts';

const NOW = Math.floor(Date.now() / 1000);
/** Words for what was found, none of them a relay's own. */
const REASON = /^[a-z][a-z0-9_]{1,39}$/;

const test = stackTest
  .extend('honest', ({ startRelay }) => startRelay({ events: GOOD }))
  .extend('hostile', async ({ stack: _endsFirst }, { onCleanup }) => {
    const hostile = await Promise.all(
      HOSTILE.map(async ({ name, start }) => ({ name, running: await start() })),
    );
    onCleanup(async () => {
      await Promise.all(hostile.map(({ running }) => running.stop()));
    });
    return hostile;
  })
  .extend('urls', ({ honest, hostile }) =>
    [honest.url, ...hostile.map(({ running }) => running.url)].map((url) => relayAddress(url).url),
  )
  /** Runs a service once over all of them. Expects that it ends well and stays small and quiet. */
  .extend(
    'runQuietly',
    ({ stack, database: _used, hostile, urls }) =>
      async (entrypoint: 'monitor' | 'finder', env: Record<string, string>): Promise<void> => {
        await stack.relays([], []);
        const program = stack.start(entrypoint, ['--once'], env);
        const watched = watchUsage(program);
        expect(await program.ended, program.said).toEqual({ code: 0, signal: null });
        const used = watched.stop();
        expect(program.log.filter(({ level }) => /^(ERROR|FATAL)$/.test(level))).toEqual([]);
        expect(program.log.filter(({ msg }) => msg.includes('died'))).toEqual([]);
        expect(program.out.length + program.err.length).toBeLessThan(2 * urls.length);
        expect(Math.max(...program.out.map((line) => line.length))).toBeLessThan(2000);
        for (const { name, running } of hostile) expect(running.strayed(), name).toBe(0);
        console.log(
          `${entrypoint}: ${urls.length} relays, ${used?.seconds} s of processor, ${used?.megabytes} MB at most, ${program.out.length} lines of log`,
        );
        if (used === null) console.log('skipped: memory is not measured without /proc');
        else expect(used.megabytes).toBeLessThan(400);
      },
  );

test('the monitor stores a snapshot of each hostile relay with its reason', async ({
  database,
  bigbrotr,
  honest,
  hostile,
  urls,
  runQuietly,
}) => {
  await bigbrotr.insertRelays(urls.map(relayAddress));
  await runQuietly('monitor', { MONITOR_REQUESTS_PER_CORE: '100', MONITOR_REQUEST_TIMEOUT: '6' });
  const rows = await database.query<{
    relay_url: string;
    readable: boolean;
    reason: string | null;
  }>('select relay_url, readable, reason from relay_metadata_latest');
  const found = new Map(rows.map((row) => [row.relay_url, row]));
  expect([...found.keys()].sort()).toEqual([...urls].sort());
  for (const { relay_url, readable, reason } of rows) {
    if (!readable) expect(reason, relay_url).toMatch(REASON);
  }
  expect(found.get(relayAddress(honest.url).url)).toMatchObject({ readable: true });
  const told: Record<string, number> = {};
  for (const { name, running } of hostile) {
    expect(running.happened(), name).toBeGreaterThan(0);
    const { readable, reason } = found.get(relayAddress(running.url).url) ?? {};
    const word = readable ? 'readable' : `${reason}`;
    told[word] = (told[word] ?? 0) + 1;
  }
  console.log(`what the monitor found: ${JSON.stringify(told)}`);
});

test('the finder adds hostile relays that answer and postpones the others with their reason', async ({
  database,
  bigbrotr,
  honest,
  urls,
  runQuietly,
}) => {
  const names = new RelayNames({ blocklist: parseBlocklist('', ''), allowPrivate: true });
  for (const url of urls) names.addListed(url, NOW);
  await bigbrotr.finder.record(names.named());
  await database.query('update named_relays set domain = url'); // the budget of one network is not for all
  await runQuietly('finder', { FINDER_REQUESTS_PER_CORE: '100', FINDER_REQUEST_TIMEOUT: '6' });
  const rows = await database.query<{ url: string; answered: boolean; reason: string | null }>(
    'select url, answered_at is not null as answered, reason from named_relays',
  );
  expect(rows.map(({ url }) => url).sort()).toEqual([...urls].sort());
  for (const { url, answered, reason } of rows) {
    if (answered) expect(reason, url).toBeNull();
    else expect(reason, url).toMatch(REASON);
  }
  expect(rows.find(({ url }) => url === relayAddress(honest.url).url)?.answered).toBe(true);
});
