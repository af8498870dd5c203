import { type ForeignRelay, type ForeignRelayOptions, startForeignRelay } from './foreign-relay.ts';
import { relayTest } from './relay-test.ts';

/**
 * Tests with relays of another implementation: `startForeign` starts one, which is stopped after the test. Their file has
 * `beforeAll(ensureForeignRelay, FOREIGN_RELAY_INSTALL_TIMEOUT_MS)`.
 */
export const foreignTest = relayTest.extend('startForeign', ({ task: _task }, { onCleanup }) => {
  const relays: ForeignRelay[] = [];
  onCleanup(async () => {
    await Promise.all(relays.map((relay) => relay.stop()));
  });
  return async (options: ForeignRelayOptions = {}): Promise<ForeignRelay> => {
    const relay = await startForeignRelay(options);
    relays.push(relay);
    return relay;
  };
});
