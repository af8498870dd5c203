import { pino } from 'pino';
import { expect, test } from 'vitest';
import { ServiceLife, type ServiceRun } from '../../../src/runtime/service-life.ts';
import { buildHealthApp } from '../../../src/telemetry/health.ts';

const CONFIG = {
  service: 'test',
  logLevel: 'info',
  health: { host: '127.0.0.1', port: 0, portVariable: 'TEST_PORT' },
  shutdownTimeoutMs: 1000,
  warnings: [],
};

/** A service that notes the same error twice, and once more while it closes. */
function failingRun(life: ServiceLife): ServiceRun {
  const note = (relay: string) => life.repeated.note({ relay }, 'visit lost');
  return {
    servedMessage: 'served',
    buildApp: () =>
      buildHealthApp({
        service: 'test',
        status: () => life.status(),
        metrics: () => life.scrape(),
      }),
    run: async () => {
      for (const relay of ['one', 'two']) note(relay);
      life.becomeReady();
      await life.watch(async () => null);
    },
    close: async () => note('three'),
    pool: () => null,
    status: () => ({ tor: 'off', network: 'off', lastRound: null }),
  };
}

test('logs the repeated errors that it has not logged when a service ends', async () => {
  const lines: Record<string, unknown>[] = [];
  const log = pino({ level: 'error' }, { write: (line) => void lines.push(JSON.parse(line)) });
  const life = new ServiceLife(CONFIG, { log }, failingRun);
  await life.start();
  expect(await life.stop('a test')).toBe(0);
  expect(lines.map(({ msg, relay, times }) => [msg, relay, times])).toEqual([
    ['visit lost', 'one', 1],
    ['visit lost', 'three', 2],
  ]);
});
