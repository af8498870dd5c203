import { expect, test, vi } from 'vitest';
import { startPublishing } from '../../../src/monitor/publish/publishing.ts';
import { OwnNetwork } from '../../../src/network/own-network.ts';
import type { Service } from '../../../src/runtime/service.ts';
import { monitor } from '../../fixtures/configuration.ts';
import { silent } from '../../postgres/bigbrotr.ts';
import { startScriptedRelay } from '../../relay/scripted-relay.ts';

/** A network on which every failure is its own: a relay of the test is on loopback, which no part leads to. */
class Outage extends OwnNetwork {
  readonly sinceMs: (number | undefined)[] = [];

  constructor() {
    super({ wayOut: { parts: new Set(), works: async () => false } });
  }

  override async attribute(_: string, __: string, ___: AbortSignal, sinceMs?: number) {
    this.sinceMs.push(sinceMs);
    return 'network_down' as const;
  }
}

test('our own network is asked about failed connections and missing answers; its return ends the pauses', async () => {
  const mute = await startScriptedRelay({ write: 'silent' });
  const gone = await startScriptedRelay();
  await gone.stop();
  const own = new Outage();
  const outcomes: string[] = [];
  let comeBack = () => {};
  const onReturned = (handler: () => void) => {
    comeBack = handler;
  };
  const service = {
    ...{ log: silent, once: false, network: { own, onReturned }, detail: () => {} },
    metrics: { eventPublished: (outcome: string) => outcomes.push(outcome) },
  } as unknown as Service;
  const config = monitor({
    MONITOR_PUBLISH_RELAYS: `${mute.url},${gone.url}`,
    ALLOW_PRIVATE_RELAYS: 'true',
    MONITOR_REQUEST_TIMEOUT: '1',
  });
  const publishing = await startPublishing(config, service);
  await vi.waitFor(() => expect(outcomes).toEqual(['network_down', 'network_down']), 60_000);
  expect(own.sinceMs.filter((since) => since !== undefined)).toHaveLength(1); // that of the answer
  expect(publishing?.publisher.state).toMatch(/pausing \(network_down\).*pausing \(network_down\)/);
  mute.change({ write: 'accept' });
  comeBack();
  await vi.waitFor(() => expect(outcomes).toContain('accepted'), 10_000);
  await publishing?.publisher.stop();
  await mute.stop();
}, 90_000);
