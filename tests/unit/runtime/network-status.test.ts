import { pino } from 'pino';
import { beforeEach, expect, test, vi } from 'vitest';
import type { NetworkPart } from '../../../src/network/way-out.ts';
import { HeldBack } from '../../../src/runtime/held-back.ts';
import { NetworkStatus } from '../../../src/runtime/network-status.ts';
import { lookUpReachable } from '../../../src/runtime/service-parts.ts';
import { relayUrl } from '../../relay/relays.ts';

type Line = Record<string, unknown>;

let lines: Line[];
let working: Set<NetworkPart>;
let status: NetworkStatus;
const gauges: Record<string, string> = {};
beforeEach(async () => {
  const ownLines: Line[] = []; // a status of an earlier test may still log
  lines = ownLines;
  working = new Set(['dns', 'ipv4', 'ipv6']);
  const parts = new Set(working);
  status = new NetworkStatus(
    { parts, works: async (part) => working.has(part) },
    pino({ level: 'info' }, { write: (line) => void ownLines.push(JSON.parse(line)) }),
    (states) => Object.assign(gauges, states),
  );
  await status.begin();
});

const NAMED = { url: 'wss://relay.example', network: 'clearnet' } as const;
const FOUR = { url: 'ws://192.0.2.1:7777', network: 'clearnet' } as const;
const SIX = { url: 'ws://[2001:db8::1]', network: 'clearnet' } as const;
const ONION = { url: 'ws://relay.onion', network: 'tor' } as const;
const reached = () => [NAMED, FOUR, SIX, ONION].filter((relay) => status.canReach(relay));

test.each([
  [['dns', 'ipv4', 'ipv6'], 'down', 'network is down', [ONION]],
  [['ipv4', 'ipv6'], 'down', 'network is down', [ONION]],
  [['dns'], 'down', 'network is down', [FOUR, SIX, ONION]],
  [['ipv6'], 'degraded', 'network is degraded', [NAMED, FOUR, ONION]],
  [['ipv4'], 'degraded', 'network is degraded', [NAMED, SIX, ONION]],
] as const)(
  'without %s it is %s, in one line of the log, and leaves out what it cannot reach',
  async (cut, state, msg, left) => {
    expect(reached()).toEqual([NAMED, FOUR, SIX, ONION]);
    for (const part of cut) working.delete(part);
    await status.begin();
    await status.begin();
    expect(lines.map((line) => line.msg)).toEqual([msg]);
    expect(status.shown).toMatchObject({ network: state, networkReason: expect.any(String) });
    expect(status.shown.networkParts).toMatchObject(
      Object.fromEntries(cut.map((part) => [part, 'down'])),
    );
    expect(gauges).toMatchObject(Object.fromEntries(cut.map((part) => [part, 'down'])));
    expect(reached()).toEqual(left);
    for (const part of cut) working.add(part);
    await status.begin();
    expect(status.shown).toEqual({
      network: 'up',
      networkParts: { dns: 'up', ipv4: 'up', ipv6: 'up' },
    });
    expect(lines).toHaveLength(2);
    expect(lines[1]).toMatchObject({ msg: 'network is up', seconds: expect.any(Number) });
  },
);

test('tests a part immediately when a thread reports a failure, and keeps it down whatever was seen before', async () => {
  working.clear();
  status.note({ part: 'ipv4', works: false, address: null });
  await new Promise(setImmediate);
  expect(status.canReach(FOUR)).toBe(false);
  status.note({ part: 'ipv4', works: true, address: { host: '192.0.2.1', port: 443 } });
  await new Promise(setImmediate);
  expect(status.canReach(FOUR)).toBe(false);
});

test('logs parts that a thread reports one after the other as one change, with the state of each', async () => {
  working.clear();
  status.note({ part: 'ipv4', works: false, address: null });
  await new Promise(setImmediate);
  expect(lines).toEqual([]); // nothing is claimed of the parts that were not tested
  expect(status.shown.network).toBe('up');
  await vi.waitFor(() => expect(lines).toHaveLength(1), 5000);
  expect(lines[0]).toMatchObject({
    msg: 'network is down',
    reason: expect.stringMatching(/^DNS, IPv4, IPv6 do not work:/),
  });
  working.add('dns').add('ipv4').add('ipv6');
  for (const part of ['ipv4', 'ipv6', 'dns'] as const)
    status.note({ part, works: true, address: null });
  await vi.waitFor(() => expect(lines).toHaveLength(2), 5000);
  expect(lines[1]).toMatchObject({ msg: 'network is up' });
});

test('logs nothing of a failure that is over before the parts were tested together', async () => {
  working.delete('ipv4');
  status.note({ part: 'ipv4', works: false, address: null });
  await new Promise(setImmediate);
  expect(status.canReach(FOUR)).toBe(false);
  working.add('ipv4');
  await new Promise((resolve) => setTimeout(resolve, 1500));
  expect(status.canReach(FOUR)).toBe(true);
  expect(lines).toEqual([]);
});

test('reaches relays of this machine without a network, and holds nothing up where no other relay is due', async () => {
  working.clear();
  await status.begin();
  expect(status.canReach({ url: 'ws://127.0.0.1:7777', network: 'clearnet' })).toBe(true);
  expect(status.shown.waitsForNetwork).toBe(undefined);
  expect(status.canReach(NAMED)).toBe(false);
  status.noteWaiting(12);
  expect(status.shown).toMatchObject({ network: 'down', waitsForNetwork: 12 });
  working.add('dns').add('ipv4').add('ipv6');
  await status.begin();
  expect(status.shown.waitsForNetwork).toBe(undefined);
  status.noteWaiting(12);
  expect(status.shown.waitsForNetwork).toBe(undefined);
});

test('reports when a part works again', async () => {
  let times = 0;
  status.onReturned(() => {
    times += 1;
  });
  working.delete('ipv6');
  await status.begin();
  working.add('ipv6');
  await status.begin();
  expect(times).toBe(1);
});

test('is off where it is not tested', async () => {
  const off = new NetworkStatus(null, pino({ level: 'silent' }));
  await off.begin();
  expect(off.shown).toEqual({ network: 'off' });
  expect(off.canReach(NAMED)).toBe(true);
});

test('relays are held back for a minute, or until the network is back', () => {
  let now = 0;
  const heldBack = new HeldBack(() => now);
  heldBack.add(1);
  now = 59_000;
  heldBack.add(2);
  expect(heldBack.keys()).toEqual([1, 2]);
  now = 60_000;
  expect(heldBack.keys()).toEqual([2]);
  heldBack.clear();
  expect(heldBack.keys()).toEqual([]);
});

test('a relay whose visit began before our network was back, and failed after that, is not held back', () => {
  let now = 0;
  const heldBack = new HeldBack(() => now);
  now = 5000;
  heldBack.clear();
  now = 6000;
  heldBack.add(1, 4000);
  expect(heldBack.keys()).toEqual([]);
  heldBack.add(1, 5500);
  expect(heldBack.keys()).toEqual([1]);
});

test.each([
  ['a due relay cannot be reached', [NAMED], []],
  ['a relay was held back by a failed visit', [], [7]],
] as const)('a look-up that leaves relays out shows that they wait: %s', async (_, due, held) => {
  const heldBack = new HeldBack();
  for (const key of held) heldBack.add(key);
  const options = { blocklistPath: null, heldBack, network: status };
  const relays = due.map((relay) => ({ ...relay, relayId: 1, url: relayUrl(relay.url) }));
  const lookUp = lookUpReachable(options, { log: pino({ level: 'silent' }) }, async () => relays);
  working.clear();
  await status.begin();
  expect(status.shown.waitsForNetwork).toBe(undefined);
  expect((await lookUp(10, [])).due).toEqual([]);
  expect(status.shown.waitsForNetwork).toBe(1);
});
