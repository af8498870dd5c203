import { once } from 'node:events';
import { createServer } from 'node:net';

/** Below where Linux takes the ports of outgoing connections (32768): no other program gets it while its server is stopped. */
const FIRST = 20_000;
const COUNT = 12_000;

const given = new Set<number>();

/** A port of 127.0.0.1 that is free, and that stays its server's over restarts. */
export async function lastingPort(): Promise<number> {
  for (let tries = 0; tries < 1000; tries += 1) {
    const port = FIRST + Math.floor(Math.random() * COUNT);
    if (given.has(port) || !(await isFree(port))) continue;
    given.add(port);
    return port;
  }
  throw new Error(`no port from ${FIRST} to ${FIRST + COUNT} of 127.0.0.1 is free`);
}

async function isFree(port: number): Promise<boolean> {
  const probe = createServer();
  probe.listen(port, '127.0.0.1');
  try {
    await once(probe, 'listening');
  } catch {
    return false;
  }
  probe.close();
  await once(probe, 'close');
  return true;
}
