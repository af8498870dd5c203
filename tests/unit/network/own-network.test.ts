import { isIP, type LookupFunction, type Socket } from 'node:net';
import { describe, expect, test } from 'vitest';
import {
  type NetworkNews,
  type NetworkPart,
  OwnNetwork,
} from '../../../src/network/own-network.ts';
import type { TestAddress } from '../../../src/network/way-out.ts';

const HOUR = 3_600_000;
const PARTS: readonly NetworkPart[] = ['dns', 'ipv4', 'ipv6'];

/** A network whose parts work or not as the test says, on a clock that the test moves. */
class World {
  nowMs = 1_000_000;
  readonly working = new Set<NetworkPart>(PARTS);
  readonly tests: { readonly part: NetworkPart; readonly alsoKnown: readonly TestAddress[] }[] = [];
  readonly news: NetworkNews[] = [];
  readonly own: OwnNetwork;
  /** How long a test takes, in milliseconds of this clock. */
  testMs = 10;
  #timers: { readonly atMs: number; readonly resolve: () => void }[] = [];

  constructor(parts: readonly NetworkPart[] = PARTS) {
    this.own = new OwnNetwork({
      wayOut: {
        parts: new Set(parts),
        works: async (part, alsoKnown) => {
          this.tests.push({ part, alsoKnown });
          await this.delay(this.testMs);
          return this.working.has(part);
        },
      },
      onNews: (news) => this.news.push(news),
      now: () => this.nowMs,
      delay: (ms) => this.delay(ms),
    });
  }

  delay(ms: number): Promise<void> {
    return new Promise((resolve) => this.#timers.push({ atMs: this.nowMs + ms, resolve }));
  }

  /** Moves the clock on, timer by timer. */
  async pass(ms: number): Promise<void> {
    const until = this.nowMs + ms;
    for (;;) {
      await new Promise(setImmediate);
      const next = this.#timers.sort((a, b) => a.atMs - b.atMs)[0];
      if (!next || next.atMs > until) break;
      this.#timers.shift();
      this.nowMs = next.atMs;
      next.resolve();
    }
    this.nowMs = until;
  }

  /** Reaches a host at these addresses, or fails to. */
  async dial(host: string, addresses: readonly string[] | null, connects: boolean): Promise<void> {
    const lookup = ((_: string, __: object, callback: (...args: unknown[]) => void) => {
      if (addresses === null) callback(new Error('no such name'), []);
      else
        callback(
          null,
          addresses.map((address) => ({ address, family: 4 })),
        );
    }) as unknown as LookupFunction;
    const reach = async (watched: LookupFunction): Promise<Socket> => {
      if (isIP(host) === 0)
        await new Promise<void>((resolve) => watched(host, { all: true }, () => resolve()));
      if (!connects) throw new Error('not reached');
      const [remoteAddress] = addresses ?? [];
      return { remoteAddress, remotePort: 443, bytesRead: 0, once: () => {} } as unknown as Socket;
    };
    await this.own.watchDial(host, lookup, reach).catch(() => {});
    this.own.tick();
  }

  /** What a failure is attributed to; the clock moves on until that is known. */
  async attribute(host: string, reason: string, sinceMs?: number): Promise<string> {
    let attributed: string | null = null;
    const asked = this.own.attribute(host, reason, new AbortController().signal, sinceMs);
    void asked.then((word) => {
      attributed = word;
    });
    for (let step = 0; attributed === null && step < 100; step += 1) await this.pass(100);
    return asked;
  }

  /** A relay that cannot be reached, from the attempt to what its failure is attributed to. */
  async fail(host: string, addresses: readonly string[] | null, reason: string, tookMs: number) {
    const attempt = this.dial(host, addresses, false);
    await attempt;
    await this.pass(tookMs);
    return this.attribute(host, reason);
  }
}

const FOUR = ['192.0.2.7'];
const SIX = ['2001:db8::7'];

describe('a failure', () => {
  test.each(['dns', 'unreachable', 'timeout', 'reset', 'disconnected'])(
    'by %s is ours when a test of our way out fails after it, and of the relay when it succeeds',
    async (reason) => {
      const addresses = reason === 'dns' ? null : FOUR;
      const world = new World();
      expect(await world.fail('relay.test', addresses, reason, 1000)).toBe(reason);
      world.working.clear();
      expect(await world.fail('relay.test', addresses, reason, 1000)).toBe('network_down');
    },
  );

  test.each(['refused', 'tls', 'protocol', 'http_503', 'forbidden'])(
    'by %s is of the relay, and nothing is tested',
    async (reason) => {
      const world = new World();
      world.working.clear();
      expect(await world.fail('relay.test', FOUR, reason, 1000)).toBe(reason);
      expect(world.tests).toEqual([]);
    },
  );

  test('needs no test when another relay is reached within a second after it', async () => {
    const world = new World();
    await world.dial('dead.test', FOUR, false);
    const asked = world.own.attribute('dead.test', 'timeout', new AbortController().signal);
    await world.pass(900);
    await world.dial('alive.test', ['192.0.2.9'], true);
    expect(await asked).toBe('timeout');
    expect(world.tests).toEqual([]);
  });

  test('of many relays at once is decided by one test', async () => {
    const world = new World();
    world.working.clear();
    const hosts = Array.from({ length: 100 }, (_, index) => `relay-${index}.test`);
    for (const host of hosts) await world.dial(host, FOUR, false);
    const asked = hosts.map((host) =>
      world.own.attribute(host, 'timeout', new AbortController().signal),
    );
    await world.pass(2000);
    expect(new Set(await Promise.all(asked))).toEqual(new Set(['network_down']));
    expect(world.tests.map(({ part }) => part)).toEqual(['ipv4']);
  });

  test('of an attempt that began before the outage was noticed counts as ours', async () => {
    const world = new World();
    await world.dial('alive.test', FOUR, true);
    await world.pass(1000);
    await world.dial('relay.test', FOUR, false);
    world.working.clear();
    expect(await world.fail('other.test', FOUR, 'unreachable', 10)).toBe('network_down');
    expect(await world.attribute('relay.test', 'timeout')).toBe('network_down');
  });

  test('of an attempt that began during an outage counts as ours, even when the network is back', async () => {
    const world = new World();
    world.working.clear();
    void world.own.test('ipv4');
    await world.pass(100);
    await world.dial('relay.test', FOUR, false);
    await world.pass(5000);
    world.working.add('ipv4');
    await world.pass(5000);
    expect(await world.attribute('relay.test', 'timeout')).toBe('network_down');
    expect(await world.fail('relay.test', FOUR, 'timeout', 10_000)).toBe('timeout');
  });

  test('of a request that began after an outage counts against the relay, also on an older connection', async () => {
    const world = new World();
    await world.dial('followed.test', FOUR, true);
    world.working.clear();
    expect(await world.fail('other.test', FOUR, 'timeout', 10_000)).toBe('network_down');
    world.working.add('ipv4');
    await world.dial('other.test', FOUR, true);
    await world.pass(60_000);
    expect(await world.attribute('followed.test', 'timeout', world.nowMs - 20_000)).toBe('timeout');
    expect(await world.attribute('followed.test', 'timeout', world.nowMs - HOUR)).toBe(
      'network_down',
    );
  });

  test('counts against the relay if it was never dialled, if no test is configured, and on loopback', async () => {
    const world = new World();
    world.working.clear();
    expect(await world.attribute('never.test', 'timeout')).toBe('timeout');
    expect(await world.fail('127.0.0.1', ['127.0.0.1'], 'timeout', 1000)).toBe('timeout');
    const untested = new World([]);
    expect(await untested.fail('relay.test', FOUR, 'timeout', 1000)).toBe('timeout');
  });

  test('is not attributed when the service stops', async () => {
    const world = new World();
    world.working.clear();
    await world.dial('relay.test', FOUR, false);
    const stopping = new AbortController();
    const asked = world.own.attribute('relay.test', 'timeout', stopping.signal);
    stopping.abort();
    await world.pass(1000);
    expect(await asked).toBe('timeout');
  });
});

describe('half an outage', () => {
  test('of DNS alone: failures to connect to an address count against the relay', async () => {
    const world = new World();
    world.working.delete('dns');
    expect(await world.fail('relay.test', null, 'dns', 1000)).toBe('network_down');
    expect(await world.fail('192.0.2.1', FOUR, 'timeout', 1000)).toBe('timeout');
    expect(world.own.state).toBe('down');
    expect(world.own.parts).toEqual({ dns: 'down', ipv4: 'up', ipv6: 'up' });
  });

  test.each([
    ['ipv6', SIX, FOUR],
    ['ipv4', FOUR, SIX],
  ] as const)('of %s leaves relays of the other family to be judged', async (part, lost, other) => {
    const world = new World();
    for (const each of ['ipv4', 'ipv6'] as const) void world.own.test(each);
    await world.pass(100);
    world.working.delete(part);
    expect(await world.fail('lost.test', lost, 'timeout', 1000)).toBe('network_down');
    expect(await world.fail('other.test', other, 'timeout', 1000)).toBe('timeout');
    expect(world.own.state).toBe('degraded');
    // A relay with both may be alive at the address that cannot be reached, but not for ever.
    expect(await world.fail('both.test', [...lost, ...other], 'timeout', 1000)).toBe(
      'network_down',
    );
    await world.pass(HOUR);
    expect(await world.fail('both.test', [...lost, ...other], 'timeout', 1000)).toBe('timeout');
    expect(await world.fail('lost.test', lost, 'timeout', 1000)).toBe('network_down');
  });

  test('a machine without IPv6 is no outage: relays with both families are judged by IPv4', async () => {
    const world = new World();
    world.working.delete('ipv6');
    for (const each of PARTS) void world.own.test(each);
    await world.pass(100);
    expect(world.own.state).toBe('up');
    expect(world.own.parts.ipv6).toBe('absent');
    expect(await world.fail('both.test', [...FOUR, ...SIX], 'timeout', 1000)).toBe('timeout');
    expect(await world.fail('six.test', SIX, 'unreachable', 1000)).toBe('network_down');
  });

  test('a relay that was reached over one family needs that family alone', async () => {
    const world = new World();
    for (const each of PARTS) void world.own.test(each);
    await world.pass(100);
    world.working.delete('ipv6');
    await world.dial('both.test', [...FOUR, ...SIX], true);
    await world.pass(10_000);
    expect(await world.attribute('both.test', 'timeout')).toBe('timeout');
  });
});

describe('90 % of all relays dead', () => {
  test('is not an outage, and causes at most one test a second', async () => {
    const world = new World();
    const words = new Set<string>();
    const startedMs = world.nowMs;
    for (let index = 0; index < 300; index += 1) {
      const host = `relay-${index}.test`;
      if (index % 10 === 0) await world.dial(host, [`192.0.2.${index % 250}`], true);
      else {
        await world.dial(host, FOUR, false);
        void world.own
          .attribute(host, 'timeout', new AbortController().signal)
          .then((word) => words.add(word));
      }
      await world.pass(100);
    }
    await world.pass(5000);
    expect(words).toEqual(new Set(['timeout']));
    expect(world.own.state).toBe('up');
    expect(world.tests.length).toBeLessThanOrEqual((world.nowMs - startedMs) / 1000);
  });
});

describe('an outage', () => {
  test('is logged once when it begins and once when it ends', async () => {
    const world = new World(['ipv4']);
    const returned: NetworkPart[] = [];
    world.own.onReturned((part) => returned.push(part));
    world.working.clear();
    for (let times = 0; times < 5; times += 1) {
      void world.own.testIfQuiet('ipv4', 60_000);
      await world.pass(2100);
    }
    expect(world.news).toEqual([{ part: 'ipv4', works: false, address: null }]);
    expect(world.own.state).toBe('down');
    world.working.add('ipv4');
    void world.own.testIfQuiet('ipv4', 60_000);
    await world.pass(2000);
    expect(world.news.slice(1)).toEqual([{ part: 'ipv4', works: true, address: null }]);
    expect(returned).toEqual(['ipv4']);
    expect(world.own.state).toBe('up');
  });

  test('is detected while a dial is pending, before it times out', async () => {
    const world = new World(['ipv4']);
    await world.dial('alive.test', FOUR, true);
    let fail = () => {};
    const lookup = ((_: string, __: object, callback: (...args: unknown[]) => void) =>
      callback(null, [{ address: '192.0.2.8', family: 4 }])) as unknown as LookupFunction;
    const dialling = world.own.watchDial('slow.test', lookup, async (watched) => {
      await new Promise<void>((resolve) => watched('slow.test', { all: true }, () => resolve()));
      await new Promise<void>((resolve) => {
        fail = resolve;
      });
      throw new Error('timeout');
    });
    dialling.catch(() => {});
    world.working.clear();
    for (let second = 0; second < 5; second += 1) {
      await world.pass(1000);
      world.own.tick();
    }
    expect(world.own.state).toBe('down');
    world.working.add('ipv4');
    for (let second = 0; second < 5; second += 1) {
      await world.pass(1000);
      world.own.tick();
    }
    expect(world.own.state).toBe('up');
    fail();
    await dialling.catch(() => {});
    expect(await world.attribute('slow.test', 'timeout')).toBe('network_down');
  });

  test('that ends while a test waits for an answer is noticed by the time that this took', async () => {
    const world = new World(['ipv4']);
    await world.dial('alive.test', FOUR, true);
    await world.pass(5000);
    await world.dial('relay.test', FOUR, false); // in an outage of 4 s
    world.testMs = 2500; // its packets are sent again after the outage
    void world.own.testIfQuiet('ipv4', 1000);
    await world.pass(2500);
    expect(world.own.state).toBe('up');
    world.testMs = 10;
    expect(await world.attribute('relay.test', 'timeout')).toBe('network_down');
    expect(await world.fail('dead.test', FOUR, 'timeout', 3000)).toBe('timeout');
  });

  test('is not seen in tests that are slow on this network each time', async () => {
    const world = new World(['ipv4']);
    world.testMs = 1500;
    const words: string[] = [];
    for (let times = 0; times < 6; times += 1)
      words.push(await world.fail('dead.test', FOUR, 'timeout', 3000));
    expect(words.slice(-3)).toEqual(['timeout', 'timeout', 'timeout']);
  });

  test.each(['dns', 'unreachable'])(
    'in whose last second a failure by %s comes at once is noticed',
    async (reason) => {
      const world = new World();
      await world.dial('alive.test', FOUR, true);
      await world.pass(4000);
      world.working.clear();
      await world.dial('relay.test', reason === 'dns' ? null : FOUR, false);
      const asked = world.own.attribute('relay.test', reason, new AbortController().signal);
      await world.pass(500);
      for (const part of PARTS) world.working.add(part);
      await world.pass(3000);
      expect(await asked).toBe('network_down');
    },
  );

  test('is not declared when a relay was reached while the test ran', async () => {
    const world = new World(['ipv4']);
    world.working.clear();
    world.testMs = 3000;
    const tested = world.own.test('ipv4');
    await world.pass(1000);
    await world.dial('alive.test', FOUR, true);
    await world.pass(3000);
    await tested;
    expect(world.own.state).toBe('up');
  });

  test('is tested with recently reached relays too', async () => {
    const world = new World(['ipv4']);
    await world.dial('alive.test', FOUR, true);
    await world.pass(60_000);
    void world.own.test('ipv4');
    await world.pass(100);
    expect(world.tests).toEqual([{ part: 'ipv4', alsoKnown: [{ host: '192.0.2.7', port: 443 }] }]);
    await world.pass(HOUR);
    void world.own.test('ipv4');
    await world.pass(100);
    expect(world.tests[1]?.alsoKnown).toEqual([]);
  });
});
