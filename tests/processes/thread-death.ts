import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Stack } from './stack.ts';

/** The exit code of a thread that died as it was told. */
export const THREAD_DEATH_CODE = 87;

/** Lets worker threads of a program die, one at a time, as of too little memory: whatever they are doing. */
export interface ThreadDeath {
  /** For the program whose threads are to die. */
  readonly env: Readonly<Record<string, string>>;
  /** One of them dies within moments, or the next one where there is none now. */
  come(): void;
}

/** For one program that is started from a stack, as often as that is. */
export async function threadDeath(stack: Stack): Promise<ThreadDeath> {
  const sign = join(stack.folder, 'thread.dies');
  const preload = await stack.write(
    'thread-death.cjs',
    `const { isMainThread } = require('node:worker_threads');
    const { unlinkSync } = require('node:fs');
    const watch = () => {
      try {
        unlinkSync(${JSON.stringify(sign)}); // one thread alone can do that
      } catch {
        return;
      }
      process.exit(${THREAD_DEATH_CODE});
    };
    if (!isMainThread) setInterval(watch, 50).unref();`,
  );
  const before = stack.env.NODE_OPTIONS ?? '';
  return {
    env: { NODE_OPTIONS: `${before} --require ${JSON.stringify(preload)}`.trim() },
    come: () => writeFileSync(sign, ''),
  };
}
