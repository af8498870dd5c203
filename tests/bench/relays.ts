import { fork } from 'node:child_process';
import { once } from 'node:events';
import type { EventSet } from './event-set.ts';
import type { FromRelays, ToRelays } from './relay-process.ts';

export interface BenchRelays {
  readonly pid: number;
  /** Lets the relays hold a set under a name. */
  hold(name: string, set: EventSet): Promise<void>;
  drop(name: string): Promise<void>;
  /** A relay that holds the set of that name; another each time, as far as the archive can tell. */
  url(set: string, delayMs?: number): string;
  stop(): Promise<void>;
}

/** Starts the process of the relays. */
export async function startRelays(): Promise<BenchRelays> {
  const child = fork(new URL('./relay-process.js', import.meta.url), {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  const [first] = (await once(child, 'message')) as [FromRelays];
  if (first.type !== 'listening') throw new Error('the relays did not say where they listen');
  const tell = async (message: ToRelays) => {
    const answer = once(child, 'message');
    child.send(message);
    await answer;
  };
  let names = 0;
  return {
    pid: child.pid ?? 0,
    hold: (name, set) => tell({ type: 'hold', name, set }),
    drop: (name) => tell({ type: 'drop', name }),
    url: (set, delayMs = 0) => {
      names += 1;
      return `ws://127.0.0.1:${first.port}/${set}/${delayMs}/r${names}`;
    },
    stop: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, 'exit');
      child.send({ type: 'stop' } satisfies ToRelays);
      await ended;
    },
  };
}
