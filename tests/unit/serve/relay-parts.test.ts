/** The parts of the relay that need neither a socket nor a database. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { NostrEvent } from '../../../src/nostr/event.ts';
import { matchesFilter, type ReqFilter } from '../../../src/nostr/filter.ts';
import { ClientAddresses } from '../../../src/serve/relay/client-address.ts';
import { LiveSubscriptions } from '../../../src/serve/relay/live-subscriptions.ts';
import { QueryGate } from '../../../src/serve/relay/query-gate.ts';
import { RateLimit } from '../../../src/serve/relay/rate-limit.ts';
import { SubscriptionIndex } from '../../../src/serve/relay/subscription-index.ts';
import { isShown } from '../../../src/serve/relay/visibility.ts';
import { mixedEvents, signedEvent } from '../../fixtures/events.ts';

const EVENTS = mixedEvents(60);
const anyEvent = fc.constantFrom(...EVENTS);
const few = <T>(values: fc.Arbitrary<T>) => fc.array(values, { maxLength: 3 });
const filters: fc.Arbitrary<ReqFilter> = fc.record(
  {
    ids: few(anyEvent.map(({ id }) => id)),
    authors: few(anyEvent.map(({ pubkey }) => pubkey)),
    kinds: few(anyEvent.map(({ kind }) => kind)),
    since: anyEvent.map(({ created_at }) => created_at),
    until: anyEvent.map(({ created_at }) => created_at),
    '#p': few(anyEvent.map(({ tags }) => tags[0]?.[1] ?? '')),
    '#e': few(anyEvent.map(({ id }) => id)),
  },
  { requiredKeys: [] },
);

function matches(event: NostrEvent, filter: ReqFilter): boolean {
  const { since = 0, until = Number.POSITIVE_INFINITY } = filter;
  return event.created_at >= since && event.created_at <= until && matchesFilter(event, filter);
}

describe('SubscriptionIndex', () => {
  test('finds the subscriptions that match, and none that has ended', () => {
    fc.assert(
      fc.property(fc.array(few(filters), { maxLength: 20 }), fc.nat(19), (wanted, gone) => {
        const index = new SubscriptionIndex<number>();
        for (const [place, each] of wanted.entries()) index.add(place, each);
        index.delete(gone);
        for (const event of EVENTS.slice(0, 20)) {
          const expected = wanted.flatMap((each, place) =>
            place !== gone && each.some((filter) => matches(event, filter)) ? [place] : [],
          );
          expect([...index.matching(event).keys()].sort((a, b) => a - b)).toEqual(expected);
        }
      }),
      { numRuns: 200 },
    );
  });
});

describe('LiveSubscriptions', () => {
  test('never hand on an event by which a client authenticates', () => {
    const live = new LiveSubscriptions(() => expect.fail('it was handed on'));
    const ended: string[] = [];
    const subscription = {
      filters: [{}],
      end: (text: string) => ended.push(text),
      hasEnded: false,
    };
    const viewer = { hidesProtected: false, keys: new Set<string>() };
    live.add(subscription as never, viewer);
    live.deliver(signedEvent({ created_at: 1, kind: 22_242 }));
    live.loseAll();
    expect(ended).toEqual([expect.stringMatching(/^error: /)]);
    expect(live.size).toBe(0);
  });
});

describe('isShown', () => {
  const viewer = { hidesProtected: true, keys: new Set<string>() };
  test.each([
    ['2000', 1999, true],
    ['2000', 2000, false],
    ['', 5000, true],
    ['soon', 5000, true],
    ['-1', 5000, true],
  ])('an event that expires at %j, at %d: %s', (value, now, shown) => {
    const event = signedEvent({ created_at: 1, tags: [['expiration', value]] });
    expect(isShown(event, false, viewer, now)).toBe(shown);
    expect(isShown(event, true, viewer, now)).toBe(true);
  });
});

describe('RateLimit', () => {
  test('allows a minute’s messages at once, and then as they are refilled', () => {
    let now = 0;
    const rate = new RateLimit(60, () => now);
    const taken = (address: string) => {
      let count = 0;
      while (rate.take(address, 1)) count += 1;
      return count;
    };
    expect(taken('a')).toBe(60);
    expect(taken('b')).toBe(60);
    now += 10_000;
    expect(taken('a')).toBe(10);
    now += 3_600_000;
    expect(taken('a')).toBe(60);
    expect(new RateLimit(0).take('a', 1e9)).toBe(true);
  });
});

describe('QueryGate', () => {
  test('one address never has all slots, and those that wait come in their order', async () => {
    const gate = new QueryGate(4);
    const begun: string[] = [];
    const ends: (() => void)[] = [];
    const ask = (address: string) =>
      gate.run(address, async () => {
        begun.push(address);
        await new Promise<void>((end) => ends.push(end));
      });
    const all = ['a', 'a', 'a', 'a', 'b', 'c', 'd'].map(ask);
    expect(begun).toEqual(['a', 'a', 'b', 'c']);
    expect(gate.waiting).toBe(3);
    ends[2]?.(); // b
    await expect.poll(() => begun.length).toBe(5);
    expect(begun[4]).toBe('d'); // a has its share
    ends[0]?.();
    await expect.poll(() => begun.length).toBe(6);
    expect(begun[5]).toBe('a');
    while (gate.waiting > 0 || begun.length < 7 || ends.length > 0) {
      ends.shift()?.();
      await Promise.resolve();
    }
    await Promise.all(all);
  });

  test('a failure frees its slot', async () => {
    const gate = new QueryGate(1);
    await expect(gate.run('a', () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect(await gate.run('a', async () => 7)).toBe(7);
  });
});

describe('ClientAddresses', () => {
  const behind = new ClientAddresses(['10.0.0.0/8', '::1']);
  test.each([
    ['203.0.113.5', undefined, '203.0.113.5'],
    ['203.0.113.5', '198.51.100.1', '203.0.113.5'],
    ['10.0.0.1', '198.51.100.1', '198.51.100.1'],
    ['::ffff:10.0.0.1', '198.51.100.1, 10.2.3.4', '198.51.100.1'],
    ['10.0.0.1', '192.0.2.7, 198.51.100.1', '198.51.100.1'],
    ['10.0.0.1', 'nonsense', '10.0.0.1'],
    ['10.0.0.1', '', '10.0.0.1'],
    ['::1', '2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:db8:1:2::9', undefined, '2001:db8:1:2::/64'],
    [undefined, undefined, 'unknown'],
  ])('of %s with %j is %s', (peer, header, address) => {
    expect(behind.of(peer, header)).toBe(address);
  });
});
