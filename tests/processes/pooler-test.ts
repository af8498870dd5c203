import { expect } from 'vitest';
import { signedEvents } from '../fixtures/events.ts';
import { type ServerError, startFakePooler } from '../postgres/fake-pooler.ts';
import type { LogLine, Program } from './programs.ts';
import { stackTest } from './stack-test.ts';

const NOW = Math.floor(Date.now() / 1000);

/** Events of the relay that the services archive. */
export const EVENTS = signedEvents(20, { from: NOW - 100_000, to: NOW - 1000 });
/** What a pooler answers when its pool is full. */
export const FULL: ServerError = {
  code: 'XX000',
  message: 'no session is free: the pool is full',
};

/** Tests of services that reach their database through a `pooler`, which can refuse them; one `relay` is on both lists. */
export const poolerTest = stackTest
  .extend('pooler', async ({ stack, database }, { onCleanup }) => {
    const pooler = await startFakePooler(database.config);
    onCleanup(() => pooler.close());
    stack.useDatabase({ ...database.config, host: pooler.host, port: pooler.port });
    return pooler;
  })
  .extend('relay', async ({ stack, startRelay }) => {
    const relay = await startRelay({ events: EVENTS });
    await stack.relays([relay.url], [relay.url]);
    return relay;
  });

export const said = (msg: string) => (line: LogLine) => line.msg === msg;

/** Sends SIGTERM to a service, which must exit with 0. */
export async function expectOrderlyEnd(program: Program): Promise<void> {
  program.signal('SIGTERM');
  expect(await program.ended, program.said).toEqual({ code: 0, signal: null });
}
