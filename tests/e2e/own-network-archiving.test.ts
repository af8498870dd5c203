/**
 * Outages of our own network, in namespaces: archiving pauses without a failure of a relay, and goes on within seconds of
 * its return.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, vi } from 'vitest';
import { signedEvents } from '../fixtures/events.ts';
import { outageObstacle, RELAY_PORT } from '../network/outage-namespace.ts';
import {
  ALIVE,
  LITERALS,
  LIVING,
  leftWithout,
  NOW,
  outageTest,
  portOf,
  SIX,
  said,
  untilWords,
} from '../network/outage-test.ts';

const obstacle = outageObstacle();
if (obstacle !== null) console.log(`skipped: outages of our own network, ${obstacle}`);

const COMPLETE = `select r.url from visits v join relays r using (relay_id) where v.outcome = 'complete'`;

const test = outageTest
  .extend(
    'allArchived',
    ({ until }) =>
      (what: string) =>
        until(COMPLETE, (rows) => rows.length === LIVING.length, what),
  )
  .extend('expectNobodyBlamed', ({ database }) => async () => {
    expect(await database.query('select from visits where failures > 0')).toEqual([]);
    expect(await database.query('select from relay_manners where not_before > 0')).toEqual([]);
  });

// Each test has a world and an archive of its own, and mostly waits.
describe.skipIf(obstacle !== null).concurrent('archiving', () => {
  test('stops for an outage without a failure of a relay, and goes on within seconds of its end', async ({
    database,
    world,
    startWith,
    until,
    allArchived,
    expectNobodyBlamed,
  }) => {
    const synchronizer = await startWith('priority-synchronizer', LIVING);
    await allArchived('all relays archived');
    await world.cut('cable');
    await database.query('update visits set started_at = 0'); // all are due
    await untilWords(synchronizer, ['network is down']);
    await until<{ stop_reason: string }>(
      'select stop_reason from visits',
      (rows) => rows.some(({ stop_reason }) => stop_reason === 'network_down'),
      'visits that the outage stopped',
    );
    const port = await portOf(synchronizer);
    await vi.waitFor(async () => {
      const { body } = await world.health(port);
      expect(body).toMatchObject({ network: 'down', waitsForNetwork: LIVING.length });
      expect(body.counts).not.toHaveProperty('relays_failed');
    }, 30_000);
    await sleep(3000);
    const [late] = signedEvents(1, { from: NOW - 10, to: NOW - 5, seed: 9 });
    if (!late) throw new Error('no event');
    await world.publish(late);
    await world.cut('nothing');
    const back = await said(synchronizer, 'network is up');
    expect(back.seconds).toBeGreaterThanOrEqual(0);
    await until<{ relays: number }>(
      `select count(*)::int as relays from sightings s join events e using (event_key)
       where e.id = decode('${late.id}', 'hex')`,
      ([row]) => row?.relays === LIVING.length,
      'the event of the outage from every relay',
    );
    await expectNobodyBlamed();
    await untilWords(synchronizer, ['network is down', 'network is up']);
    const rounds = synchronizer.log.filter(({ msg }) => msg.startsWith('round finished'));
    expect(rounds.filter(({ failed }) => failed !== 0)).toEqual([]);
  });

  test.for([
    ['dns', [...ALIVE, ...SIX], ['network is down']],
    ['ipv6', SIX, []], // it may be a machine without IPv6, which is no fault
    ['ipv4', [...ALIVE, ...LITERALS], ['network is degraded']],
  ] as const)(
    'starts without %s with the relays that can be reached, and reads the others when it is back',
    async ([cut, lost, words], {
      stack,
      database,
      world,
      startWith,
      until,
      allArchived,
      expectNobodyBlamed,
    }) => {
      // One of the two name servers may be silent: a name then takes 2.5 seconds.
      stack.env.SYNCHRONIZER_REQUEST_TIMEOUT = '10';
      await world.cut(cut);
      const synchronizer = await startWith('priority-synchronizer', LIVING);
      await untilWords(synchronizer, words);
      const left = leftWithout(lost);
      await until(COMPLETE, (rows) => rows.length >= left.length, 'the others archived');
      const archived = await database.query<{ url: string }>(COMPLETE);
      expect(archived.map(({ url }) => url).sort()).toEqual(left);
      await world.cut('nothing');
      await allArchived('all relays archived');
      await untilWords(synchronizer, words.length > 0 ? [...words, 'network is up'] : []);
      await expectNobodyBlamed();
    },
  );

  test('records no failure of a relay during an outage that comes and goes every few seconds, in the middle of visits', async ({
    database,
    world,
    startWith,
    allArchived,
    expectNobodyBlamed,
  }) => {
    await startWith('priority-synchronizer', LIVING);
    await allArchived('all relays archived');
    for (const cut of ['cable', 'dns', 'address', 'cable', 'ipv6'] as const) {
      await database.query('update visits set started_at = 0');
      await sleep(500);
      await world.cut(cut);
      await sleep(4000);
      await world.cut('nothing');
      await sleep(2000);
    }
    await database.query('update visits set started_at = 0');
    await allArchived('all relays archived at last');
    await expectNobodyBlamed();
  });

  test('by the finder: an outage postpones no candidate', async ({
    stack,
    database,
    world,
    start,
    until,
  }) => {
    await database.query(
      `insert into named_relays (url, network, host, domain, times, first_named_at, first_source, last_named_at, authors, next_try_at)
       select 'ws://' || host || ':${RELAY_PORT}', 'clearnet', host, host, 1, 0, 'list', 0, array[''::bytea], 0
       from unnest($1::text[]) host`,
      [[...ALIVE, ...SIX]],
    );
    await stack.relays([], []);
    await world.cut('cable');
    const finder = start('finder');
    await said(finder, 'network is down');
    await sleep(3000);
    const tried =
      'select url, tries, reason, answered_at is not null as answered from named_relays';
    expect(await database.query(`${tried} where tries > 0`)).toEqual([]);
    await world.cut('nothing');
    await until<{ answered: boolean }>(
      tried,
      (rows) => rows.every(({ answered }) => answered),
      'all candidates to answer',
    );
  });
});
