import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { expect } from 'vitest';
import { signedEvents } from '../fixtures/events.ts';
import { healthPort, untilHealth } from '../processes/health-client.ts';
import type { Program } from '../processes/programs.ts';
import { stackTest } from '../processes/stack-test.ts';
import type { ScriptedRelay } from '../relay/scripted-relay.ts';

const NOW = Math.floor(Date.now() / 1000);

const test = stackTest
  /** Keeps the port that every PostgreSQL of `npm start` wants first: another one could take it while ours is stopped. */
  .extend('placeholder', async ({ startRelay: _ }, { onCleanup }) => {
    const placeholder = createServer().listen(5433, '127.0.0.1');
    await Promise.race([once(placeholder, 'listening'), once(placeholder, 'error')]).catch(
      () => {},
    );
    onCleanup(() => {
      placeholder.close();
    });
    return placeholder;
  })
  /** Ends the main process of PostgreSQL as the system does when memory is short. */
  .extend('killPostgres', ({ stack, placeholder: _taken }) => (): void => {
    const file = join(stack.folder, 'data', 'postgres', 'postmaster.pid');
    process.kill(Number.parseInt(readFileSync(file, 'utf8'), 10), 'SIGKILL');
  });

/** Whether every service has its worker: one that is still starting gives up sooner. */
const allWork = ({ log }: Program) =>
  ['monitor', 'synchronizer', 'priority-synchronizer', 'finder'].every((service) =>
    log.some(
      (line) => line.service === service && line.thread !== undefined && line.level === 'INFO',
    ),
  );

const running = ({ log }: Program) =>
  log.filter(({ msg }) => msg.includes('is running again')).length;

test('npm start restarts a PostgreSQL that dies and the services go on; after too many deaths it exits', async ({
  stack,
  startRelay,
  killPostgres,
}) => {
  const relay = await startRelay({
    events: signedEvents(100, { from: NOW - 50_000, to: NOW - 10_000 }),
  });
  await stack.relays([relay.url], [relay.url]);
  const program = stack.start('local');
  const port = await healthPort(program, 'priority-synchronizer');
  const tellAll = (cause: unknown) => {
    throw new Error(program.said, { cause });
  };
  const eventsIn = ({ counts }: Readonly<Record<string, unknown>>) =>
    (counts as { events?: number }).events ?? 0;
  const archived = (count: number) =>
    untilHealth(port, ({ body }) => eventsIn(body) === count, 60_000).catch(tellAll);
  const dieAndComeBack = async (times: number) => {
    killPostgres();
    await program.until(() => running(program) === times, `PostgreSQL again, ${times}`, 60_000);
  };
  await archived(100);
  await program.until(() => allWork(program), 'the workers of all services', 60_000);
  for (const times of [1, 2]) {
    await dieAndComeBack(times);
    await untilHealth(port, ({ status }) => status === 200, 60_000).catch(tellAll);
  }
  // It is followed by now, or will be visited again: what is new is archived.
  const isFollowed = ({ requests }: ScriptedRelay) =>
    requests.some(({ filters }) => filters[0]?.limit === 0);
  await relay.until(isFollowed, 'a live subscription', 60_000);
  for (const event of signedEvents(1, { from: NOW - 5, to: NOW - 5, seed: 2 }))
    relay.publish(event);
  await archived(101);

  for (const times of [3, 4, 5]) await dieAndComeBack(times);
  killPostgres();
  expect(await program.ended, program.said).toEqual({ code: 1, signal: null });
  expect(program.said).toContain('PostgreSQL ended by itself');
  expect(program.said).toContain('it is not started again');
});
