import { fork } from 'node:child_process';
import { once } from 'node:events';
import type { EventSet } from './event-set.ts';
import type { FromRelays, ToRelays } from './relay-process.ts';

export interface BenchRelays {
  readonly pid: number;
  /** Lets the relays hold a set under a name. */
  hold(name: string, set: EventSet): Promise<void>;
  drop(name: string): Promise<void>;
  /** Connections so far, and how often a relay had two at once. */
  seen(): Promise<{ readonly connections: number; readonly twice: number }>;
  /** A relay that holds the set of that name; another each time, as far as the archive can tell. */
  url(set: string, delayMs?: number, handshakeMs?: number): string;
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
    const [told] = (await answer) as [FromRelays];
    return told;
  };
  let names = 0;
  return {
    pid: child.pid ?? 0,
    hold: async (name, set) => void (await tell({ type: 'hold', name, set })),
    drop: async (name) => void (await tell({ type: 'drop', name })),
    seen: async () => {
      const told = await tell({ type: 'count' });
      if (told.type !== 'seen') throw new Error('the relays did not say what they saw');
      return told;
    },
    url: (set, delayMs = 0, handshakeMs = 0) => {
      names += 1;
      return `ws://127.0.0.1:${first.port}/${set}/${delayMs}/${handshakeMs}/r${names}`;
    },
    stop: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, 'exit');
      child.send({ type: 'stop' } satisfies ToRelays);
      await ended;
    },
  };
}
