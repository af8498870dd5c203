/** The API as a process: it waits for its database, answers, and ends in order. */
import { getPriority } from 'node:os';
import { expect } from 'vitest';
import { signedEvents } from '../fixtures/events.ts';
import { batchOf, knownRelay } from '../postgres/bigbrotr.ts';
import { untilHealth } from '../processes/health-client.ts';
import type { Program } from '../processes/programs.ts';
import { stackTest as test } from '../processes/stack-test.ts';

const EVENTS = signedEvents(20, { from: 1000, to: 2000 });

async function portOf(program: Program): Promise<number> {
  const line = await program.logged(({ msg }) => msg === 'the API is served', 'the API');
  return Number(line.port);
}

test('npm run api answers from the archive, and its streams end when it stops', async ({
  stack,
  database,
  bigbrotr,
}) => {
  const relay = await knownRelay(bigbrotr, 'one');
  await bigbrotr.store(batchOf({ relay, filterId: await bigbrotr.filterId({}), events: EVENTS }));
  const program = stack.start('api');
  const port = await portOf(program);
  await untilHealth(port, ({ status }) => status === 200);
  expect(getPriority(program.pid)).toBeGreaterThanOrEqual(5); // archiving has the CPU first
  const base = `http://127.0.0.1:${port}`;
  const data = async (path: string) =>
    ((await (await fetch(`${base}${path}`)).json()) as { data: unknown }).data;
  expect(await data('/v1/events?limit=1000')).toEqual(EVENTS);
  const { rows } = (await data('/v1/status')) as { rows: unknown[] };
  expect(rows).toContainEqual(
    expect.objectContaining({ section: 'archive', name: 'events', value: '20' }),
  );
  expect((await fetch(`${base}/metrics`)).status).toBe(200);
  const page = await (await fetch(`${base}/`)).text();
  const [, script = ''] = /src="([^"]+main\.js)"/.exec(page) ?? [];
  for (const name of ['main.js', 'views/overview.js', 'uplot.js', 'uplot.css', 'style.css'])
    expect((await fetch(base + script.replace('main.js', name))).status, name).toBe(200);
  const stream = await fetch(`${base}/v1/changes?format=sse&cursor=now`);
  expect(stream.status).toBe(200);
  program.signal('SIGTERM');
  expect(await program.ended, program.said).toEqual({ code: 0, signal: null });
  await stream.text().catch(() => {});
  expect(await database.query('select from claims')).toEqual([]);
});

test('answers 503 while its database is unreachable, and normally afterwards', async ({
  stack,
  database: _used,
}) => {
  const { POSTGRES_PORT = '' } = stack.env;
  const away = stack.start('api', [], { POSTGRES_PORT: '1' });
  const answer = await untilHealth(await portOf(away), ({ status }) => status === 503);
  expect(answer.body).toMatchObject({ service: 'api', database: 'down', ready: false });
  const events = await fetch(`http://127.0.0.1:${await portOf(away)}/v1/events`);
  expect(events.status).toBe(503);
  expect(await events.json()).toMatchObject({ type: '/docs#unavailable', status: 503 });
  away.signal('SIGTERM');
  expect(await away.ended, away.said).toEqual({ code: 0, signal: null });
  const there = stack.start('api', [], { POSTGRES_PORT });
  await untilHealth(await portOf(there), ({ status }) => status === 200);
  there.signal('SIGTERM');
  expect(await there.ended, there.said).toEqual({ code: 0, signal: null });
});
