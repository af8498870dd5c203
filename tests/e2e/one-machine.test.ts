import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect } from 'vitest';
import { signedEvents } from '../fixtures/events.ts';
import { summaryOf } from '../postgres/archive.ts';
import { clusterState } from '../postgres/postgres-state.ts';
import { health, healthPort, untilHealth } from '../processes/health-client.ts';
import { Program, processes } from '../processes/programs.ts';
import { projectFile } from '../processes/project.ts';
import { stackTest } from '../processes/stack-test.ts';
import type { ScriptedRelay } from '../relay/scripted-relay.ts';

const NOW = Math.floor(Date.now() / 1000);
const EVENTS = signedEvents(900, { from: NOW - 500_000, to: NOW - 10_000 });
const SERVICES = [
  'monitor',
  'synchronizer',
  'priority-synchronizer',
  'finder',
  'refresher',
] as const;

const test = stackTest
  .extend('threeRelays', ({ startRelay }) => async (): Promise<ScriptedRelay[]> => {
    const shares = [EVENTS.slice(0, 600), EVENTS.slice(300), EVENTS.slice(500, 700)];
    return Promise.all(shares.map((events) => startRelay({ events })));
  })
  .extend(
    'dataDir',
    ({ stack }) =>
      () =>
        join(stack.folder, 'data', 'postgres'),
  )
  .extend(
    'keptKey',
    ({ stack }) =>
      () =>
        readFileSync(join(stack.folder, 'data', 'secret-key'), 'utf8').trim(),
  );

const urls = (relays: readonly ScriptedRelay[]) => relays.map(({ url }) => url);
/** What is left of a start: its group, and the PostgreSQL that carries its number. */
function remains(program: Program): string[] {
  return processes()
    .filter(({ group, command }) => {
      return group === program.pid || command.includes(`bigbrotr.owner=${program.pid}`);
    })
    .map(({ pid, command }) => `${pid} ${command}`);
}

describe('npm start -- --once', () => {
  test('archives three relays, prints how much it archived, and continues there on the next start', async ({
    threeRelays,
    stack,
    dataDir,
    keptKey,
  }) => {
    const relays = await threeRelays();
    await stack.relays(urls(relays), urls(relays).slice(0, 1));
    const first = stack.start('local', ['--once']);
    expect(await first.ended, first.said).toEqual({ code: 0, signal: null });
    expect(summaryOf(first)).toMatchObject({
      relays: 3,
      'relays/openable': 3,
      'relays/readable': 3,
      'relays/writable': 3,
      'relays/not readable': 0,
      visits: 3,
      'visits/complete': 3,
      events: 900,
      'events/new in this round': 900,
      sightings: 1400,
      'sightings/new in this round': 1400,
      quarantined: 0,
      'invalid in this round': 0,
      seconds: expect.any(Number),
    });
    expect(first.said).toContain('Creating a new archive');
    expect(first.err).toEqual([]);
    expect(remains(first)).toEqual([]);
    expect(clusterState(dataDir())).toBe('shut down');
    const key = keptKey();
    expect(key).toMatch(/^[0-9a-f]{64}$/);

    relays[1]?.add(signedEvents(7, { from: NOW - 9000, to: NOW - 8000, seed: 1 }));
    const second = stack.start('local', ['--once']);
    expect(await second.ended, second.said).toEqual({ code: 0, signal: null });
    expect(summaryOf(second)).toMatchObject({
      relays: 3,
      visits: 3,
      events: 907,
      'events/new in this round': 7,
      sightings: 1407,
      'sightings/new in this round': 7,
    });
    expect(second.said).not.toContain('Creating a new archive');
    expect(keptKey()).toBe(key);
    expect(first.said + second.said).not.toContain(key);
    const read = second.log.filter(({ msg }) => msg === 'relay visited').map(({ bytes }) => bytes);
    expect(Math.max(...read.map(Number))).toBeLessThan(100_000); // what is proven is not read again
  });

  test('shows its progress at a terminal', async ({ skip, startRelay, stack, database: _used }) => {
    const { stdout = '' } = spawnSync('script', ['--version'], { encoding: 'utf8' });
    if (!stdout?.includes('util-linux')) {
      skip('there is no script(1) of util-linux here, which makes a terminal');
    }
    const slow = await startRelay({ events: EVENTS.slice(0, 400), quirk: { betweenMs: 8 } });
    const dead = await startRelay({});
    await dead.stop();
    await stack.relays([slow.url, dead.url], [slow.url]);
    const command = `stty cols 120; ${process.execPath} ${projectFile('dist/local.js')} --once`;
    const program = new Program('script', ['-qec', command, '/dev/null'], {
      cwd: stack.folder,
      env: { ...stack.env, TERM: 'xterm' },
    });
    expect(await program.ended, program.said).toEqual({ code: 0, signal: null });
    const shown = program.said;
    expect(shown).toContain('\x1b[2K'); // a line that is drawn again and again
    expect(shown).toMatch(/archive: \d+ events, \d+ relays, \d+ readable/);
    expect(shown).toMatch(/since this start: 0 new events \(0\/s\), 0 relays checked, 0 visited/);
    expect(shown).toMatch(/since this start: \d+ new events \(\d+\/s\), 2 relays checked/);
    expect(shown).toContain(`synchronising ${slow.url.replace('ws://', '')}`);
    expect(shown).toContain('round finished with many failed relays'); // warnings are above the status line
    expect(shown).not.toContain('{"level"');
    expect(summaryOf(program)).toMatchObject({ events: 400, relays: 2, 'relays/not readable': 1 });
  });
});

describe('npm start', () => {
  test('serves /health, restarts a service that was killed, refuses a second start, and stores what is in progress on Ctrl-C', async ({
    startRelay,
    stack,
    dataDir,
  }) => {
    const quick = await startRelay({ events: EVENTS.slice(0, 300) });
    const slow = await startRelay({ events: EVENTS, quirk: { betweenMs: 100 } });
    await stack.relays([quick.url], [slow.url]);
    const program = stack.start('local', [], { SYNCHRONIZER_BATCH_SIZE: '50' });

    for (const service of SERVICES) {
      const port = await healthPort(program, service);
      const { body } = await untilHealth(port, ({ status }) => status === 200);
      const { disk: _watched, diskFreeBytes: _free, ...rest } = body;
      expect(rest).toEqual({
        service,
        state: expect.stringMatching(/^(running|waiting)$/),
        ready: true,
        database: 'up',
        storing: 'works',
        tor: 'off',
        network: expect.any(String),
        claims: { holder: expect.stringContaining(':'), held: expect.any(Number), lost: 0 },
        uptimeSeconds: expect.any(Number),
        lastRound: expect.toBeOneOf([null, expect.any(Object)]),
        counts: expect.any(Object),
        details: expect.any(Object),
      });
      // The refresher is not told where the disk is; the others have looked at it soon after they are ready.
      if (service !== 'refresher')
        await untilHealth(port, (answer) => answer.body.disk === 'enough');
      expect(await health(port, '/ready')).toEqual({ status: 200, body: { service, ready: true } });
      const metrics = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
      expect(metrics).toMatch(/^bigbrotr_events_stored_total\{service=".+"\} \d+$/m);
    }
    const api = await program.logged(({ msg }) => msg === 'the API is served', 'the API');
    await untilHealth(Number(api.port), ({ status }) => status === 200);
    const answer = await health(Number(api.port), '/v1/coverage');
    expect(answer).toMatchObject({ status: 200, body: { data: { known: 2 } } });
    const synchronizer = await healthPort(program, 'synchronizer');
    const { body } = await untilHealth(synchronizer, (answer) => answer.body.lastRound !== null);
    expect(body).toMatchObject({
      lastRound: { relays: 1, failed: 0, seconds: expect.any(Number) },
      counts: { relays_visited: 1, relays_complete: 1, sightings: 300 },
    });

    const [monitor] = processes().filter(
      ({ parent, command }) => parent === program.pid && command.includes('/monitor.js'),
    );
    process.kill(monitor?.pid ?? 0, 'SIGKILL');
    await program.logged(({ msg }) => msg === 'a service ended, starting it again', 'the restart');
    await untilHealth(await healthPort(program, 'monitor', 2), ({ status }) => status === 200);

    const second = stack.start('local', ['--once']);
    expect(await second.ended).toEqual({ code: 1, signal: null });
    expect(second.err).toEqual([expect.stringContaining(`Another start (process ${program.pid})`)]);

    await slow.until(({ eventsSent }) => eventsSent > 50, 'a visit under way', 30_000);
    expect(clusterState(dataDir())).toBe('running');
    const before = performance.now();
    program.signalGroup('SIGINT');
    expect(await program.ended, program.said).toEqual({ code: 0, signal: null });
    expect(performance.now() - before).toBeLessThan(20_000);
    expect(program.log).toContainEqual(
      expect.objectContaining({ relay: slow.url, outcome: 'unfinished', detail: 'stopped' }),
    );
    expect(remains(program)).toEqual([]);
    expect(clusterState(dataDir())).toBe('shut down');
    expect(program.log).toContainEqual(
      expect.objectContaining({
        msg: 'stopped: all received events are stored',
        events: expect.any(Number),
        sightings: expect.any(Number),
      }),
    );
    // Output that may go to a file holds no password, and says where it is.
    const password = readFileSync(`${dataDir()}.password`, 'utf8').trim();
    expect(program.said).not.toContain(password);
    expect(program.said).toContain(`PGPASSWORD="$(cat '${dataDir()}.password')" psql "`);
  });

  test('reports every port that is in use before it creates anything', async ({
    stack,
    startRelay,
  }) => {
    const [one, two] = [await startRelay(), await startRelay()].map(({ url }) => new URL(url).port);
    const program = stack.start('local', [], {
      MONITOR_HEALTH_PORT: `${one}`,
      FINDER_HEALTH_PORT: `${two}`,
    });
    expect(await program.ended).toEqual({ code: 1, signal: null });
    for (const [port, name] of [
      [one, 'MONITOR_HEALTH_PORT'],
      [two, 'FINDER_HEALTH_PORT'],
    ])
      expect(program.said).toContain(
        `Port ${port} on 127.0.0.1 is in use by another program: stop it, or set ${name} to a free port.`,
      );
    expect(existsSync(join(stack.folder, 'data'))).toBe(false);
  });

  test('prints its usage with --help', async ({ stack }) => {
    const program = stack.start('local', ['--help']);
    expect(await program.ended).toEqual({ code: 0, signal: null });
    expect(program.said).toMatch(/npm start -- --once {2,}visits every relay/);
    expect(existsSync(join(stack.folder, 'data'))).toBe(false);
  });

  test('leaves nothing running when it is killed, and starts again afterwards', async ({
    startRelay,
    stack,
  }) => {
    // It takes no test event of the monitor, which would come back over the open subscription.
    const one = await startRelay({
      events: EVENTS.slice(0, 600),
      write: { refuse: 'blocked: read only' },
    });
    await stack.relays([one.url], [one.url]);
    const killed = stack.start('local');
    for (const service of SERVICES) await healthPort(killed, service);
    for (const name of ['monitor', 'priority-synchronizer'])
      await killed.logged((line) => line.service === name && /^round/.test(line.msg), 'a round');
    killed.signal('SIGKILL');
    await gone(killed);

    const next = stack.start('local', ['--once']);
    expect(await next.ended, next.said).toEqual({ code: 0, signal: null });
    expect(summaryOf(next)).toMatchObject({ events: 600, 'events/new in this round': 0 });
  });

  test('stops at once on Ctrl-C during its start', async ({ stack }) => {
    await stack.relays(['ws://127.0.0.1:9'], ['ws://127.0.0.1:9']);
    const program = stack.start('local');
    await program.logged(({ msg }) => msg.startsWith('Creating a new archive'), 'the first start');
    program.signalGroup('SIGINT');
    expect(await program.ended, program.said).toEqual({ code: 0, signal: null });
    expect(program.log.filter(({ service }) => service !== 'bigbrotr')).toEqual([]);
    expect(remains(program)).toEqual([]);
  });
});

async function gone(program: Program): Promise<void> {
  for (let tries = 0; remains(program).length > 0; tries++) {
    if (tries > 200) throw new Error(`still running: ${remains(program).join('\n')}`);
    await sleep(100);
  }
}
