import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { deadline } from '../../../src/network/deadline.ts';

const MS = 30;
let near: Socket;
let far: Socket;

beforeEach(async () => {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (typeof address !== 'object' || address === null) throw new Error('no port');
  const accepted = once(server, 'connection');
  near = connect(address.port, '127.0.0.1');
  [far] = await accepted;
  server.close();
});
afterEach(() => {
  near.destroy();
  far.destroy();
});

/** As a busy machine or a long collection of garbage does. */
function holdUpThread(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

test('does not expire when the answer arrived in time, though the thread was blocked until after the deadline', async () => {
  const happened: string[] = [];
  const over = new Promise<void>((done) => {
    const cancel = deadline(MS, () => {
      happened.push('expired');
      done();
    });
    near.once('data', () => {
      happened.push('answer');
      cancel();
      done();
    });
  });
  far.write('an answer');
  holdUpThread(3 * MS);
  await over;
  await sleep(2 * MS);
  expect(happened).toEqual(['answer']);
});

test('expires when nothing arrives, and not when it was cancelled', async () => {
  const passed: string[] = [];
  deadline(MS, () => passed.push('kept'));
  deadline(MS, () => passed.push('cancelled'))();
  await sleep(4 * MS);
  expect(passed).toEqual(['kept']);
});
