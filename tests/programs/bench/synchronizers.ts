/** What the rows of several processes share. */
import { fileURLToPath } from 'node:url';
import type { Relay } from '../../../src/database/bigbrotr.ts';
import { Program } from '../../processes/programs.ts';
import { databaseVariables } from '../../processes/stack.ts';
import { relayAddress } from '../../relay/relays.ts';
import type { Bench } from './bench-run.ts';

/** Adds relays that a check has found readable. */
export async function announce({ pipeline }: Bench, urls: readonly string[]): Promise<Relay[]> {
  const addresses = urls.map((url) => relayAddress(url));
  await pipeline.bigbrotr.insertSnapshots(
    addresses.map((relay) => ({
      relay,
      generatedAt: Math.floor(Date.now() / 1000),
      nip11: null,
      nip66: { openable: true, readable: true, writable: false },
    })),
  );
  return pipeline.bigbrotr.relaysOf(addresses);
}

/** Starts a synchronizer on the archive of the bench, with default settings but for these. */
export function startSynchronizer(
  { pipeline }: Bench,
  env: Readonly<Record<string, string>> = {},
): Program {
  const file = fileURLToPath(new URL('../../../src/synchronizer.js', import.meta.url));
  return new Program(process.execPath, [file], {
    cwd: process.cwd(),
    env: {
      ...databaseVariables(pipeline.db.config),
      ALLOW_PRIVATE_RELAYS: 'true',
      SYNCHRONIZER_HEALTH_PORT: '0',
      SYNCHRONIZER_PRIORITY_RELAYS_PATH: '/dev/null',
      ...env,
    },
  });
}

/** The settings of a synchronizer of one worker with this number of slots. */
export const oneWorker = (slots: number) => ({
  SYNCHRONIZER_NUM_CORES: '1',
  SYNCHRONIZER_REQUESTS_PER_CORE: String(slots),
});
