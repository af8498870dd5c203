import { test } from 'vitest';
import {
  type ScriptedRelay,
  type ScriptedRelayOptions,
  startScriptedRelay,
} from './scripted-relay.ts';

/**
 * Tests with scripted relays: `startRelay` starts one, which is stopped after the test. A file may override
 * `relayDefaults`, the options of its relays.
 */
export const relayTest = test
  .extend('relayDefaults', (): ScriptedRelayOptions => ({}))
  .extend('startRelay', ({ relayDefaults }, { onCleanup }) => {
    const relays: ScriptedRelay[] = [];
    onCleanup(async () => {
      for (const relay of relays) await relay.stop();
    });
    return async (options: ScriptedRelayOptions = {}): Promise<ScriptedRelay> => {
      const relay = await startScriptedRelay({ ...relayDefaults, ...options });
      relays.push(relay);
      return relay;
    };
  });
