/** The relay as a process: it answers clients, sends what is stored within a second, and ends in order. */
import { expect } from 'vitest';
import { signedEvents } from '../fixtures/events.ts';
import { batchOf, knownRelay } from '../postgres/bigbrotr.ts';
import { untilHealth } from '../processes/health-client.ts';
import { stackTest as test } from '../processes/stack-test.ts';
import { RelayClient } from '../relay/bare-client.ts';

const EVENTS = signedEvents(20, { from: 1000, to: 2000 });

test('npm run relay answers from the archive and ends when it is told to', async ({
  stack,
  database,
  bigbrotr,
}) => {
  const relay = await knownRelay(bigbrotr, 'one');
  const filterId = await bigbrotr.filterId({});
  await bigbrotr.store(batchOf({ relay, filterId, events: EVENTS.slice(5) }));
  const program = stack.start('relay');
  const portOf = async (msg: string) =>
    Number((await program.logged((line) => line.msg === msg, msg)).port);
  const port = await portOf('the relay is served');
  const healthPort = await portOf('health is served');
  await untilHealth(healthPort, ({ status }) => status === 200);
  const client = await RelayClient.connect(`ws://127.0.0.1:${port}/`);
  const { events, end } = await client.request({}, { id: 'all', silenceMs: 10_000 });
  expect(events).toEqual(EVENTS.slice(5));
  expect(end).toEqual(['EOSE', 'all', ['finish']]);
  client.messages.length = 0;
  await bigbrotr.store(batchOf({ relay, filterId, events: EVENTS.slice(0, 5) }));
  expect(await client.until(() => client.messages.length === 5, 10_000)).toBe(true);
  const metrics = await (await fetch(`http://127.0.0.1:${healthPort}/metrics`)).text();
  expect(metrics).toMatch(/bigbrotr_relay_clients\{service="relay"\} 1/);
  expect(metrics).toMatch(/bigbrotr_relay_events_sent_total\{service="relay"\} 20/);
  program.signal('SIGTERM');
  expect(await program.ended, program.said).toEqual({ code: 0, signal: null });
  expect(await client.until(() => client.isClosed)).toBe(true);
  expect(await database.query('select from claims')).toEqual([]);
});
