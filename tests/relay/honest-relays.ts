import { join } from 'node:path';
import type { NostrEvent } from '../../src/nostr/event.ts';
import { Program } from '../processes/programs.ts';
import { projectFile } from '../processes/project.ts';
import type { Stack } from '../processes/stack.ts';

/** Relays that behave, in a process of their own; `endPrograms` ends it too. */
export interface HonestRelays {
  readonly urls: readonly string[];
  stop(): Promise<void>;
}

/** Starts a relay for each of these sets of events, newest first. @param delayMs of each answer, as over a network */
export async function startHonestRelays(
  stack: Stack,
  sets: readonly (readonly NostrEvent[])[],
  delayMs: number,
): Promise<HonestRelays> {
  const file = await stack.write('honest-relays.json', JSON.stringify(sets));
  const script = projectFile(join('tests', 'relay', 'honest-relays.mjs'));
  const program = new Program(process.execPath, [script, file, String(delayMs)], {
    ...{ cwd: stack.folder, env: {} },
  });
  await program.until(() => program.out.length > 0, 'the ports of honest relays');
  const ports = JSON.parse(program.out[0] ?? '[]') as number[];
  return {
    urls: ports.map((port) => `ws://127.0.0.1:${port}`),
    stop: async () => {
      program.signalGroup('SIGKILL');
      await program.ended;
    },
  };
}
