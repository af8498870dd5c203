import { setTimeout as sleep } from 'node:timers/promises';
import type { EventTemplate } from 'nostr-tools/pure';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { Publisher, type PublisherOptions } from '../../../src/monitor/publish/publisher.ts';
import type { NostrEvent } from '../../../src/nostr/event.ts';
import { monitorEvents } from '../../../src/nostr/nip66-events.ts';
import { connectRelay } from '../../../src/relay-client/connection.ts';
import { signedEvent } from '../../fixtures/events.ts';
import { silent } from '../../postgres/bigbrotr.ts';
import { unanswered } from '../../relay/quirks.ts';
import { local, relayUrl } from '../../relay/relays.ts';
import {
  closed,
  type ScriptedRelay,
  type ScriptedRelayOptions,
  startScriptedRelay,
} from '../../relay/scripted-relay.ts';
import { makeKeys } from '../../relay/signer.ts';

vi.setConfig({ testTimeout: 20_000 });

const [KEYS] = makeKeys(1);
const SECRET_KEY = KEYS?.secretKey as Uint8Array;
const PUBLIC_KEY = KEYS?.publicKey as string;
const T = Math.floor(Date.now() / 1000);
const SELF = {
  name: 'a monitor',
  frequencySeconds: 3600,
  timeoutMs: 1000,
  checks: ['open', 'read'],
  geohash: null,
  relays: ['wss://relay.example.com'],
} as const;

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function start(options: ScriptedRelayOptions = {}): Promise<ScriptedRelay> {
  const relay = await startScriptedRelay(options);
  closing.push(() => relay.stop());
  return relay;
}

/** A publisher with short pauses that says nothing of itself, and how its attempts ended, relay by relay. */
function publisher(urls: readonly string[], changes: Partial<PublisherOptions> = {}) {
  const outcomes: Record<string, string[]> = Object.fromEntries(urls.map((url) => [url, []]));
  const made = new Publisher({
    relays: urls.map(relayUrl),
    secretKey: SECRET_KEY,
    publicKey: PUBLIC_KEY,
    self: () => [],
    connect: (url, signal) => connectRelay(url, local({ timeoutMs: 1000, signal })),
    timeoutMs: 1000,
    onOutcome: (url, outcome) => outcomes[url]?.push(outcome),
    log: silent,
    pauses: {
      rate_limited: { first: 100, longest: 1000 },
      refused: { first: 60_000, longest: 60_000 },
      failed: { first: 50, longest: 500 },
    },
    ...changes,
  });
  closing.push(() => made.stop());
  return { publisher: made, outcomes };
}

/** What is published of the `n`-th relay, at the second of its check. */
function discovery(n: number, at = T): NostrEvent {
  const tags = [['d', `wss://relay${n}.example.com/`]];
  return signedEvent({ kind: 30_166, created_at: at, tags, secretKey: SECRET_KEY });
}

const ids = (events: readonly NostrEvent[]) => events.map(({ id }) => id);
const held = (relay: ScriptedRelay) =>
  ids(relay.events.filter(({ kind }) => kind === 30_166)).sort();

describe('events of Publisher', () => {
  test('are sent to every relay, each over one connection', async () => {
    const relays = [await start(), await start()];
    const { publisher: one, outcomes } = publisher(relays.map(({ url }) => url));
    const events = [1, 2, 3].map((n) => discovery(n));
    for (const event of events) one.publish(event);
    await one.flush(10_000);
    for (const relay of relays) {
      expect(held(relay)).toEqual(ids(events).sort());
      expect(outcomes[relay.url]).toEqual(['accepted', 'accepted', 'accepted']);
      expect(relay.connections.total).toBe(1);
    }
  });

  test('have left the queue, or a pause has begun, when their outcome is reported', async () => {
    const relay = await start();
    const states: string[] = [];
    const onOutcome = () => states.push(one.state);
    const { publisher: one } = publisher([relay.url], { onOutcome });
    for (const n of [1, 2]) one.publish(discovery(n));
    await one.flush(10_000);
    expect(states).toEqual([`${relay.url}: 1 waiting`, `${relay.url}: 0 waiting`]);
    await relay.stop();
    one.publish(discovery(3));
    await vi.waitFor(() => expect(states.at(-1)).toContain('1 waiting, pausing ('));
  });

  test('are replaced by newer ones of the same relay', async () => {
    const relay = await start({ write: 'silent' });
    const { publisher: one } = publisher([relay.url]);
    one.publish(discovery(1, T - 10));
    one.publish(discovery(2, T - 10));
    one.publish(discovery(1, T));
    expect(one.state).toContain('2 waiting');
    relay.change({ write: 'accept' });
    await one.flush(10_000);
    expect(held(relay)).toEqual(ids([discovery(1, T), discovery(2, T - 10)]).sort());
  });

  test('beyond 20,000 are dropped, the oldest first, and counted', async () => {
    const gone = await start();
    await gone.stop();
    const { publisher: one, outcomes } = publisher([gone.url]);
    const event = discovery(0);
    for (let n = 0; n < 20_005; n += 1)
      one.publish({ ...event, tags: [['d', `wss://relay${n}.example.com/`]] });
    expect(one.state).toContain('20000 waiting');
    expect(outcomes[gone.url]?.filter((outcome) => outcome === 'dropped')).toHaveLength(5);
  });
});

test('long events are dropped by their total length', async () => {
  const gone = await start();
  await gone.stop();
  const { publisher: one, outcomes } = publisher([gone.url]);
  const event = { ...discovery(0), content: 'x'.repeat(1024 * 1024) };
  for (let n = 0; n < 40; n += 1)
    one.publish({ ...event, tags: [['d', `wss://relay${n % 36}.example.com/`]] });
  expect(one.state).toContain('32 waiting');
  expect(outcomes[gone.url]?.filter((outcome) => outcome === 'dropped')).toHaveLength(8);
});

describe('Publisher at a relay that', () => {
  test('is dead, silent or refuses does not delay the others', async () => {
    const dead = await start();
    await dead.stop();
    const mute = await start({ write: 'silent' });
    const closedTo = await start({ write: { refuse: 'restricted: not for you' } });
    const good = await start();
    const urls = [dead.url, mute.url, closedTo.url, good.url];
    const { publisher: one, outcomes } = publisher(urls);
    const events = Array.from({ length: 20 }, (_, n) => discovery(n));
    for (const event of events) one.publish(event); // the caller waits for nobody
    expect(good.published).toEqual([]);
    await good.until(({ events: stored }) => stored.length === 20, 'all events');
    await vi.waitFor(() => expect(outcomes[mute.url]).toContain('timeout'), 5000);
    await vi.waitFor(() => expect(outcomes[dead.url]).toContain('refused'));
    expect(outcomes[closedTo.url]).toEqual(['restricted']); // once, and then it is left alone
    expect(one.state).toContain(`${closedTo.url}: 20 waiting, pausing (restricted)`);
  });

  test('rate-limits continues after a pause until all events are sent', async () => {
    const relay = await start({ write: { refuse: 'rate-limited: slow down' } });
    const { publisher: one, outcomes } = publisher([relay.url]);
    one.publish(discovery(1));
    one.publish(discovery(2));
    await vi.waitFor(() => expect(outcomes[relay.url]?.length).toBeGreaterThan(1), 5000);
    expect(new Set(outcomes[relay.url])).toEqual(new Set(['rate_limited']));
    relay.change({ write: 'accept' });
    await relay.until(({ events }) => events.length === 2, 'both events');
    const sent = relay.published.length;
    await sleep(100);
    expect(relay.published.length).toBe(sent);
  });

  test('rate-limits pauses with back-off up to a maximum', async () => {
    const relay = await start({ write: { refuse: 'rate-limited: slow down' } });
    const pauses: unknown[] = [];
    const log = Object.assign(Object.create(silent), {
      warn: ({ pauseMs }: { pauseMs?: number }) => pauses.push(pauseMs),
    });
    const { publisher: one } = publisher([relay.url], {
      log,
      pauses: { rate_limited: { first: 10, longest: 50 } },
    });
    one.publish(discovery(1));
    await vi.waitFor(() => expect(pauses.slice(0, 5)).toEqual([10, 20, 40, 50, 50]), 5000);
  });

  test.each([
    ['invalid: no', 'invalid'],
    ['pow: 28 bits needed', 'pow'],
    ['error: disk', 'error'],
    ['we do not like it', 'rejected'],
  ])('refuses with "%s" drops that event and sends the next one', async (refuse, outcome) => {
    const relay = await start({ write: { refuse } });
    const { publisher: one, outcomes } = publisher([relay.url]);
    one.publish(discovery(1));
    await vi.waitFor(() => expect(outcomes[relay.url]).toEqual([outcome]));
    relay.change({ write: 'accept' });
    one.publish(discovery(2));
    await one.flush(10_000);
    expect(outcomes[relay.url]).toEqual([outcome, 'accepted']);
    expect(held(relay)).toEqual(ids([discovery(2)]));
  });

  test('already holds the event (OK false, duplicate:) counts as accepted', async () => {
    const relay = await start({ write: { refuse: 'duplicate: have it' } });
    const { publisher: one, outcomes } = publisher([relay.url]);
    one.publish(discovery(1));
    await one.flush(10_000);
    expect(outcomes[relay.url]).toEqual(['accepted']);
  });

  test('drops the connection sends the rest over another one', async () => {
    const relay = await start();
    const { publisher: one } = publisher([relay.url]);
    one.publish(discovery(1));
    await one.flush(10_000);
    relay.dropAll();
    one.publish(discovery(2));
    await relay.until(({ events }) => events.length === 2, 'both events');
    expect(relay.connections.total).toBe(2);
  });

  test('requires NIP-42 authenticates', async () => {
    const relay = await start({ auth: {} });
    const self = () => monitorEvents(SELF, T);
    const { publisher: one, outcomes } = publisher([relay.url], { self });
    one.publish(discovery(1));
    await one.flush(10_000);
    expect(outcomes[relay.url]).toEqual(Array(4).fill('accepted'));
    expect(held(relay)).toEqual(ids([discovery(1)]));
  });
});

describe('events about the monitor itself', () => {
  const self = () => monitorEvents(SELF, T);
  const kinds = (relay: ScriptedRelay) =>
    relay.published.map(({ kind }) => kind).sort((a, b) => a - b);

  test('are published if the relay does not have them', async () => {
    const relay = await start();
    const first = publisher([relay.url], { self });
    await first.publisher.flush(10_000);
    await first.publisher.stop();
    expect(kinds(relay)).toEqual([0, 10_002, 10_166]);
    const second = publisher([relay.url], { self: () => monitorEvents(SELF, T + 100) });
    second.publisher.publish(discovery(1));
    await second.publisher.flush(10_000);
    expect(kinds(relay)).toEqual([0, 10_002, 10_166, 30_166]);
  });

  test('replace earlier ones, even with a later time', async () => {
    const relay = await start();
    const before = publisher([relay.url], { self: () => monitorEvents(SELF, T + 60) });
    await before.publisher.flush(10_000);
    await before.publisher.stop();
    relay.forget();
    const renamed = () => monitorEvents({ ...SELF, name: 'another name' }, T);
    await publisher([relay.url], { self: renamed }).publisher.flush(10_000);
    expect(kinds(relay)).toEqual([0]);
    expect(relay.events.find(({ kind }) => kind === 0)).toMatchObject({
      created_at: T + 61,
      content: expect.stringContaining('another name'),
    });
  });

  test('never replace the profile and relay list of a person', async () => {
    const mine = [0, 10_002].map((kind) =>
      signedEvent({ kind, created_at: T - 1000, content: 'mine', secretKey: SECRET_KEY }),
    );
    const relay = await start({ events: mine });
    const { publisher: one, outcomes } = publisher([relay.url], { self });
    await one.flush(10_000);
    expect(kinds(relay)).toEqual([10_166]);
    expect(outcomes[relay.url]).toEqual(['left_alone', 'left_alone', 'accepted']);
    expect(ids(relay.events.filter(({ content }) => content === 'mine')).sort()).toEqual(
      ids(mine).sort(),
    );
  });

  test('never replace them at a relay that does not answer the request', async () => {
    const relay = await start({ onRequest: () => closed('error: busy') });
    const { publisher: one, outcomes } = publisher([relay.url], { self });
    await one.flush(10_000);
    expect(kinds(relay)).toEqual([10_166]);
    expect(outcomes[relay.url]).toEqual(['self_unknown', 'accepted']);
  });
});

describe('an outage of our own network', () => {
  /** A publisher whose missing answers are those of our network while `isOut`, with the pauses that it logs. */
  function behind(
    network: { isOut: boolean },
    urls: readonly string[],
    self: EventTemplate[] = [],
  ) {
    const pauses: unknown[] = [];
    const log = Object.assign(Object.create(silent), {
      warn: ({ pauseMs }: { pauseMs?: number }) => pauses.push(pauseMs),
    });
    const made = publisher(urls, {
      log,
      self: () => self,
      timeoutMs: 200,
      attribute: async (_, reason) => (network.isOut ? 'network_down' : reason),
      pauses: {
        failed: { first: 50, longest: 60_000 },
        ours: { first: 60_000, longest: 60_000 },
      },
    });
    return { ...made, pauses };
  }

  test('does not count against a relay, which is tried again at the return', async () => {
    const relay = await start({ write: 'silent' });
    const network = { isOut: true };
    const { publisher: one, outcomes, pauses } = behind(network, [relay.url]);
    one.publish(discovery(1));
    for (const times of [1, 2, 3]) {
      await vi.waitFor(() => expect(outcomes[relay.url]).toHaveLength(times), 5000);
      expect(one.state).toBe(`${relay.url}: 1 waiting, pausing (network_down)`);
      if (times < 3) one.networkReturned(); // of another part: this one is still out
    }
    expect(outcomes[relay.url]).toEqual(['network_down', 'network_down', 'network_down']);
    expect(pauses).toEqual([]);
    network.isOut = false;
    one.networkReturned();
    await vi.waitFor(() => expect(pauses).toEqual([50]), 5000); // the first one: none before counted
    relay.change({ write: 'accept' });
    await relay.until(({ events }) => events.length === 1, 'the event');
  });

  test('that is over when a failure is put down to it does not pause', async () => {
    const relay = await start({ write: 'silent' });
    const network = { isOut: true };
    const { publisher: one, outcomes } = behind(network, [relay.url]);
    one.publish(discovery(1));
    await relay.until(({ published }) => published.length === 1, 'the event under way');
    relay.change({ write: 'accept' });
    one.networkReturned();
    await relay.until(({ events }) => events.length === 1, 'the event');
    await vi.waitFor(() => expect(outcomes[relay.url]).toEqual(['network_down', 'accepted']));
  });

  test('leaves a pause for a refusal of the relay as it is', async () => {
    const relay = await start({ write: { refuse: 'restricted: pay' } });
    const { publisher: one, outcomes } = behind({ isOut: false }, [relay.url]);
    one.publish(discovery(1));
    await vi.waitFor(() => expect(outcomes[relay.url]).toEqual(['restricted']), 5000);
    one.networkReturned();
    expect(one.state).toContain('pausing (restricted)');
  });

  test('does not end the check of the events about the monitor itself', async () => {
    const network = { isOut: true };
    const relay = await start({ onRequest: () => (network.isOut ? unanswered : 'answer') });
    const self = monitorEvents(SELF, T);
    const { publisher: one, outcomes } = behind(network, [relay.url], [...self]);
    await vi.waitFor(() => expect(outcomes[relay.url]).toEqual(['network_down']), 5000);
    network.isOut = false;
    one.networkReturned();
    await relay.until(({ events }) => events.length === self.length, 'profile and relay list, too');
  });
});

test('stop() ends immediately, whatever waits', async () => {
  const mute = await start({ write: 'silent' });
  const { publisher: one } = publisher([mute.url], { timeoutMs: 60_000 });
  one.publish(discovery(1));
  await mute.until(({ published }) => published.length === 1, 'an event under way');
  await one.stop();
  await mute.until(({ connections }) => connections.open === 0, 'the connection closed');
});

describe('answers of a target relay', () => {
  test('Retry-After of a refused connection sets the pause', async () => {
    const relay = await start({ upgrade: { status: 429, headers: { 'retry-after': '7200' } } });
    const warnings: unknown[] = [];
    const log = { ...silent, warn: (fields: unknown) => warnings.push(fields) } as typeof silent;
    const { publisher: one, outcomes } = publisher([relay.url], { log });
    one.publish(discovery(1));
    await one.flush(10_000);
    expect(outcomes[relay.url]).toEqual(['http_429']);
    expect(warnings).toEqual([expect.objectContaining({ reason: 'http_429', pauseMs: 7_200_000 })]);
    expect(relay.fired.upgrade).toBe(1);
  });

  test('an event is sent again after an AUTH without OK', async () => {
    const relay = await start({ auth: { reads: false, ok: 'never' } });
    const { publisher: one, outcomes } = publisher([relay.url]);
    one.publish(discovery(1));
    await one.flush(10_000);
    expect(outcomes[relay.url]).toEqual(['accepted']);
    expect(relay.fired).toMatchObject({ auth: 1, 'ok-late': 1 });
  });
});
