import { afterAll, afterEach } from 'vitest';
import {
  type ScriptedRelay,
  type ScriptedRelayOptions,
  startScriptedRelay,
} from './scripted-relay.ts';
import { type TestArchive, testArchive } from './visit-context.ts';

export interface VisitBench {
  readonly archive: TestArchive;
  /** Starts a relay, which is stopped after the test. */
  start(options?: ScriptedRelayOptions): Promise<ScriptedRelay>;
}

/** For the top of a test file: an archive that is emptied after each test, and relays to visit from it. */
export async function visitBench(defaults: ScriptedRelayOptions = {}): Promise<VisitBench> {
  const archive = await testArchive();
  const relays: ScriptedRelay[] = [];
  afterEach(async () => {
    for (const relay of relays.splice(0)) await relay.stop();
    await archive.clear();
  });
  afterAll(() => archive.close());
  return {
    archive,
    start: async (options = {}) => {
      const relay = await startScriptedRelay({ ...defaults, ...options });
      relays.push(relay);
      return relay;
    },
  };
}
