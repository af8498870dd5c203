import { describe, expect, test } from 'vitest';
import { parseStatusArguments } from '../../../src/local/archive-status.ts';
import { parseExplainArguments } from '../../../src/local/explain-relay.ts';
import { type Asked, doingOf, problemsOf } from '../../../src/runtime/archive-status.ts';
import type { HealthStatus } from '../../../src/telemetry/health.ts';
import { RUNNING } from '../../fixtures/health-status.ts';

describe('parseExplainArguments', () => {
  test.each([
    [['wss://relay.example.com'], 'wss://relay.example.com', false],
    [['--json', 'Relay.Example.com/'], 'wss://relay.example.com', true],
    [['ws://127.0.0.1:7777', '--json'], 'ws://127.0.0.1:7777', true],
  ])('reads %j', (args, url, json) => {
    expect(parseExplainArguments(args)).toEqual({ url, json });
  });

  test.each([
    [
      [],
      /^Name one relay: npm run explain -- wss:\/\/relay\.example\.com \(--json: for programs\)\.$/,
    ],
    [['a.example', 'b.example'], /^Name one relay: /],
    [['--all'], /^Name one relay: /],
    [['https://x.example'], /^"https:\/\/x\.example" names no relay \(.+\): npm run explain/],
    [[''], /^"" names no relay \(it is empty\)/],
  ])('refuses %j with one sentence', (args, expected) => {
    expect(() => parseExplainArguments(args)).toThrow(expected);
  });
});

describe('parseStatusArguments', () => {
  test('reads --json and addresses of services', () => {
    expect(parseStatusArguments([])).toEqual({ json: false, services: [] });
    expect(parseStatusArguments(['monitor:8081', '--json', '[::1]:9'])).toEqual({
      ...{ json: true, services: ['monitor:8081', '[::1]:9'] },
    });
  });

  test.each(['--all', 'monitor', 'http://monitor:8081', 'monitor:8081/health', 'a b:1'])(
    'refuses %s with one sentence',
    (argument) => {
      expect(() => parseStatusArguments([argument])).toThrow(/ is not understood: npm run status/);
    },
  );
});

const idle: HealthStatus = { ...RUNNING, details: { checking: '' } };

describe('doingOf', () => {
  test('names the state alone where nothing else is to be said', () => {
    expect(doingOf(idle)).toBe('running');
  });

  test('names what is done, and how the last round ended', () => {
    const lastRound = {
      ...{ startedAt: '2026-11-30T10:00:00Z', finishedAt: '2026-11-30T10:01:00Z', seconds: 60 },
      ...{ relays: 261, failed: 3, reasons: { timeout: 2, dns: 1 } },
    };
    expect(doingOf({ ...idle, lastRound, details: { synchronising: 'wss://one.example' } })).toBe(
      'running; synchronising wss://one.example; last round: 261 relays, 3 failed (2 timeout, 1 dns), until 2026-11-30T10:01:00Z',
    );
  });

  test('names everything that is down, with its reason', () => {
    const down: HealthStatus = {
      ...{ ...idle, database: 'down', databaseReason: 'no route', storing: 'fails' },
      ...{ storingReason: 'disk full', tor: 'no_circuit', network: 'down' },
    };
    expect(doingOf(down)).toBe(
      'running; the database is down: no route; storing fails: disk full; our network is down; Tor is no_circuit',
    );
  });
});

describe('problemsOf', () => {
  const asked = (service: string, health: Partial<HealthStatus>, isWell = false): Asked => ({
    ...{ address: `127.0.0.1:${service.length}`, isWell },
    health: { ...idle, service, ...health },
  });
  const cut = { network: 'down', networkReason: 'DNS does not work' } as const;

  test('names once what several services lack', () => {
    expect(
      problemsOf([
        asked('monitor', { ...cut, waitsForNetwork: 246 }),
        asked('synchronizer', cut),
        asked('finder', { ...cut, waitsForNetwork: 3 }),
        asked('refresher', {}, true),
      ]),
    ).toEqual(['our network is down, 246 relays wait for it (DNS does not work)']);
    const down = { database: 'down', databaseReason: 'no route' } as const;
    expect(problemsOf([asked('monitor', down), asked('finder', down)])).toEqual([
      'the database is down: no route',
    ]);
  });

  test('names the service where it is alone, and the address of one that does not answer', () => {
    const fails = { storing: 'fails', storingReason: 'wss://one.example: disk full' } as const;
    expect(
      problemsOf([
        asked('monitor', fails),
        { address: '127.0.0.1:9', health: null, isWell: false },
        asked('finder', {}, true),
      ]),
    ).toEqual([
      'monitor: running; storing fails: wss://one.example: disk full',
      '127.0.0.1:9 does not answer',
    ]);
  });
});
