import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Bigbrotr, Relay } from '../../src/bigbrotr.ts';
import type { NostrEvent } from '../../src/nostr/event.ts';
import { parseBlocklist } from '../../src/relay/blocklist.ts';
import { type NamingEvent, RelayNames } from '../../src/relay/relay-names.ts';
import { batchOf, closeGate, knownRelay, openBigbrotr } from '../support/bigbrotr.ts';
import { type TestDatabase, testDatabase } from '../support/database.ts';
import { makeKeys, realOrSignedEvents, signedEvent, signedEvents } from '../support/events.ts';

/** Checks that wait for nothing: the schedule makes no relay due again. */
const AT_ONCE = { intervalSeconds: 28_800, aheadSeconds: 0, leastSeconds: 10 * 365 * 86_400 };

const NOW = Math.floor(Date.now() / 1000);
const KEYS = makeKeys(40, 5);
/** Names under example.com are not for the public; here they are as good as others. */
const rules = { blocklist: parseBlocklist('', ''), allowPrivate: true };
const gather = () => new RelayNames(rules);

let database: TestDatabase;
let bigbrotr: Bigbrotr;
let relay: Relay;
let filterId: number;

beforeAll(async () => {
  database = await testDatabase();
  bigbrotr = await openBigbrotr(database);
});

beforeEach(async () => {
  await database.query(
    'truncate events, sightings, relays, nip11, nip66, filters, finder_queue, named_relays restart identity cascade',
  );
  relay = await knownRelay(bigbrotr, 'one');
  filterId = await bigbrotr.filterId({});
});

afterAll(async () => {
  await bigbrotr?.close();
  await database?.drop();
});

const store = (events: readonly NostrEvent[], on = relay) =>
  bigbrotr.store(batchOf({ relay: on, filterId, events }));

/** A relay list (NIP-65) by the author of that number. */
const relayList = (author: number, urls: readonly string[], created_at = NOW - 1000) =>
  signedEvent({
    created_at,
    kind: 10_002,
    tags: urls.map((url) => ['r', url]),
    ...(KEYS[author] && { secretKey: KEYS[author].secretKey }),
  });

const keyOf = (author: number) => KEYS[author]?.publicKey ?? '';

/** A naming that never was an event: for thousands of names. */
function named(author: number | null, urls: readonly string[], at = NOW - 1000) {
  const names = new RelayNames(rules);
  if (author === null) for (const url of urls) names.addListed(url, at);
  else {
    const tags = urls.map((url) => ['r', url]);
    for (let from = 0; from < tags.length; from += 1000) {
      const part: NamingEvent = {
        id: 'ab'.repeat(32),
        pubkey: keyOf(author),
        created_at: at,
        kind: 10_002,
        tags: tags.slice(from, from + 1000),
        content: '',
      };
      names.addEvent(part);
    }
  }
  return names.named();
}

const invented = (count: number, under = (index: number) => `invented-${index}.net`) =>
  Array.from({ length: count }, (_, index) => `wss://${under(index)}`);

async function queued(): Promise<number> {
  const [row] = await database.query<{ keys: string }>(
    'select coalesce(sum(cardinality(event_keys)), 0) as keys from finder_queue',
  );
  return Number(row?.keys);
}

const provenance = () =>
  database.query<Record<string, unknown>>(
    `select relay_url, state, first_named_at::integer, encode(first_author, 'hex') as first_author, first_source,
            times::integer, authors, listed
     from relay_provenance order by relay_url collate "C"`,
  );

async function scanAll() {
  const sum = { events: 0, candidates: 0 };
  for (;;) {
    const { batches, events, candidates } = await bigbrotr.finder.scan(10, gather);
    sum.events += events;
    sum.candidates += candidates;
    if (batches === 0) return sum;
  }
}

describe('the queue', () => {
  it('gets each new event once, whoever inserts it', async () => {
    const naming = [relayList(0, ['wss://a.example.net']), relayList(1, ['wss://b.example.net'])];
    await store(naming);
    expect(await queued()).toBe(2);
    await store(naming, await knownRelay(bigbrotr, 'two'));
    await store(naming);
    expect(await queued()).toBe(2);
    const other = relayList(2, ['wss://c.example.net']);
    await database.query('select insert_event($1, $2, $3, $4, $5, $6, $7, $8, $9)', [
      ...[Buffer.from(other.id, 'hex'), Buffer.from(other.pubkey, 'hex'), other.created_at],
      ...[other.kind, JSON.stringify(other.tags), '', Buffer.from(other.sig, 'hex')],
      ...['wss://one.example.com', 'clearnet'],
    ]);
    expect(await queued()).toBe(3);
    expect(await scanAll()).toEqual({ events: 3, candidates: 3 });
  });

  it('is in rows that one transaction can take, however many events come at once', async () => {
    await database.query(
      `insert into events (event_key, created_at, kind, id, pubkey, sig, tags, tagvalues, content)
       select n, 0, 1, sha256(n::text::bytea), sha256(''), sha256('') || sha256(''), '[]', event_tagvalues('[]'), ''
       from generate_series(1, 2500) n`,
    );
    const rows = await database.query(
      'select cardinality(event_keys) as keys from finder_queue order by 1',
    );
    expect(rows).toEqual([{ keys: 500 }, { keys: 1000 }, { keys: 1000 }]);
    expect(await scanAll()).toEqual({ events: 0, candidates: 0 });
    expect(await queued()).toBe(0);
  });
});

describe('a scan', () => {
  it('writes who named what, the earliest first, and empties the queue', async () => {
    await store([
      relayList(0, ['wss://a.net', 'WSS://B.net:443/', relay.url], NOW - 100),
      relayList(1, ['wss://b.net'], NOW - 300),
    ]);
    await store([
      signedEvent({
        created_at: NOW - 200,
        tags: [['e', 'ab'.repeat(32), 'wss://a.net/']],
        ...(KEYS[2] && { secretKey: KEYS[2].secretKey }),
      }),
    ]);
    expect(await scanAll()).toEqual({ events: 3, candidates: 2 });
    const by = (author: number, ago: number, source = 'relay_list') => ({
      first_author: keyOf(author),
      first_named_at: NOW - ago,
      first_source: source,
      listed: false,
    });
    expect(await provenance()).toEqual([
      {
        relay_url: 'wss://a.net',
        state: 'candidate',
        times: 2,
        authors: 2,
        ...by(2, 200, 'e_hint'),
      },
      { relay_url: 'wss://b.net', state: 'candidate', times: 2, authors: 2, ...by(1, 300) },
      { relay_url: relay.url, state: 'relay', times: 1, authors: 1, ...by(0, 100) },
    ]);
    const waiting = await database.query('select relay_url from relay_candidates order by 1');
    expect(waiting).toEqual([{ relay_url: 'wss://a.net' }, { relay_url: 'wss://b.net' }]);
    expect(await queued()).toBe(0);
    expect(await scanAll()).toEqual({ events: 0, candidates: 0 });
  });

  it('of the events of the network counts each naming once, on however many relays they are', async () => {
    const events = realOrSignedEvents();
    const two = await knownRelay(bigbrotr, 'two');
    for (let from = 0; from < events.length; from += 300) {
      await store(events.slice(from, from + 300));
      if (from % 900 === 0) await scanAll();
      await store(events.slice(0, from + 300), two);
    }
    const { events: looked } = await scanAll();
    expect(looked).toBeLessThan(events.length); // the first look passes over some, and misses none:
    const expected = new RelayNames(rules);
    for (const event of events) expected.addEvent(event);
    const rows = await database.query<{ url: string; times: number; authors: number }>(
      `select url, times::integer, cardinality(authors) as authors from named_relays order by url collate "C"`,
    );
    expect(rows).toEqual(
      expected.named().map(({ url, times, authors }) => ({ url, times, authors: authors.length })),
    );
    expect(rows.length).toBeGreaterThan(0);
  });

  it('leaves to another one what that reads, and repeats nothing', async () => {
    for (let author = 0; author < 20; author += 1)
      await store([relayList(author, ['wss://a.net'])]);
    const gate = await closeGate(database, 'named_relays');
    const first = bigbrotr.finder.scan(8, gather);
    await gate.waiting(1);
    const second = bigbrotr.finder.scan(100, gather);
    await gate.waiting(2);
    await gate.open();
    expect((await first).batches).toBe(8);
    expect((await second).batches).toBe(12);
    expect(await provenance()).toMatchObject([
      { relay_url: 'wss://a.net', times: 20, authors: 16 },
    ]);
    expect(await queued()).toBe(0);
  });

  it('that fails has read nothing', async () => {
    await store([relayList(0, ['wss://a.net'])]);
    const broken = () => ({
      ...gather(),
      size: 0,
      refused: {},
      addEvent: () => {},
      named: () => {
        throw new Error('planned');
      },
    });
    await expect(bigbrotr.finder.scan(10, broken)).rejects.toThrow('planned');
    expect(await queued()).toBe(1);
    expect(await scanAll()).toEqual({ events: 1, candidates: 1 });
  });

  it('passes over events that were deleted since', async () => {
    await store([relayList(0, ['wss://a.net']), relayList(1, ['wss://b.net'])]);
    await database.query(`delete from events where pubkey = $1`, [Buffer.from(keyOf(0), 'hex')]);
    expect(await scanAll()).toEqual({ events: 1, candidates: 1 });
  });
});

describe('a known relay that is named anew', () => {
  const checkedAgo = async (seconds: number, readable: boolean) => {
    const nip66 = {
      openable: readable,
      readable,
      writable: false,
      reason: readable ? null : 'refused',
    };
    await bigbrotr.insertSnapshots([{ relay, generatedAt: NOW - seconds, nip11: null, nip66 }]);
    await database.query('update relay_schedule set due_at = $1', [NOW + 90_000]);
  };
  const due = async () => (await bigbrotr.relaysToCheck(AT_ONCE)).map(({ url }) => url);

  it('is checked soon when it was down, by an event of these days', async () => {
    await checkedAgo(100_000, false);
    await store([relayList(0, [relay.url], NOW - 200_000)]);
    await scanAll();
    expect(await due()).toEqual([]);
    await store([relayList(1, [relay.url])]);
    await scanAll();
    expect(await due()).toEqual([relay.url]);
  });

  it('is left to its schedule when it is up, or was checked today', async () => {
    await checkedAgo(80_000, false);
    await store([relayList(0, [relay.url])]);
    await scanAll();
    expect(await due()).toEqual([]);
    await checkedAgo(70_000, true);
    await database.query('update relay_schedule set checked_at = checked_at - 100000');
    await store([relayList(1, [relay.url])]);
    await scanAll();
    expect(await due()).toEqual([]);
  });
});

describe('room for names', () => {
  it('is bounded by author, but for the lists of the operator', async () => {
    const flood = await bigbrotr.finder.record(named(0, invented(2500)));
    expect(flood).toEqual({ names: 2500, candidates: 2000, crowded: 500 });
    const more = await bigbrotr.finder.record(named(0, ['wss://one-more.net']));
    expect(more).toEqual({ names: 1, candidates: 0, crowded: 1 });
    const other = await bigbrotr.finder.record(named(1, ['wss://one-more.net']));
    expect(other).toEqual({ names: 1, candidates: 1, crowded: 0 });
    const listed = await bigbrotr.finder.record(
      named(
        null,
        invented(3000, (n) => `listed-${n}.net`),
      ),
    );
    expect(listed).toEqual({ names: 3000, candidates: 3000, crowded: 0 });
  });

  it('is bounded by host, whatever the path and whoever names it', async () => {
    const paths = (from: number) =>
      Array.from({ length: 10 }, (_, index) => `wss://host.net/${from + index}`);
    await bigbrotr.finder.record(named(0, paths(0)));
    const written = await bigbrotr.finder.record(named(1, [...paths(5), 'wss://host.net:8443']));
    expect(written).toEqual({ names: 11, candidates: 6, crowded: 0 });
    const full = await bigbrotr.finder.record(named(2, paths(10)));
    expect(full).toEqual({ names: 10, candidates: 1, crowded: 4 });
    const [row] = await database.query(
      `select count(*)::integer from named_relays where host = 'host.net'`,
    );
    expect(row).toEqual({ count: 16 });
  });

  it('is there for a host by itself, whoever has invented paths on it', async () => {
    await bigbrotr.finder.record(
      named(
        0,
        Array.from({ length: 30 }, (_, n) => `wss://host.net/${n}`),
      ),
    );
    const written = await bigbrotr.finder.record(named(1, ['wss://host.net', 'wss://host.net/31']));
    expect(written).toEqual({ names: 2, candidates: 1, crowded: 1 });
  });

  it('is made by forgetting those that failed most and the fewest named', async () => {
    await bigbrotr.finder.record(named(0, invented(30)));
    await bigbrotr.finder.record(named(1, invented(10)));
    const failed = await bigbrotr.finder.claim(5, ['clearnet']);
    for (const { nameId } of failed) await bigbrotr.finder.putOff(nameId, 'refused');
    expect(await bigbrotr.finder.tidy({ candidates: 12, dropped: 10 })).toBe(18);
    const rows = await database.query<{ tries: number; authors: number }>(
      'select tries, authors from relay_candidates',
    );
    expect(rows).toHaveLength(12);
    expect(rows.every(({ tries }) => tries === 0)).toBe(true);
    expect(rows.filter(({ authors }) => authors === 2).length).toBeGreaterThanOrEqual(5);
  });
});

describe('candidates', () => {
  const claimAll = async () => {
    const all = [];
    for (;;) {
      const some = await bigbrotr.finder.claim(50, ['clearnet']);
      if (some.length === 0) return all;
      all.push(...some);
    }
  };

  it('of an author who invents thousands cost sixty tries an hour, and nobody else a turn', async () => {
    await bigbrotr.finder.record(named(0, invented(2000)));
    await bigbrotr.finder.record(named(1, ['wss://honest.net']));
    const first = await bigbrotr.finder.claim(2, ['clearnet']);
    expect(first.map(({ url }) => url)).toContain('wss://honest.net');
    expect(await claimAll()).toHaveLength(59);
    await bigbrotr.finder.record(named(2, ['wss://later.net', 'wss://invented-1999.net']));
    expect((await claimAll()).map(({ url }) => url).sort()).toEqual([
      'wss://invented-1999.net', // by another's word, at another's cost
      'wss://later.net',
    ]);
    await database.query('update named_relays set last_try_at = last_try_at - 3601');
    expect(await claimAll()).toHaveLength(60);
  });

  it('under one domain cost thirty tries an hour, however many authors name them', async () => {
    for (let author = 0; author < 40; author += 1)
      await bigbrotr.finder.record(named(author, [`wss://n${author}.wild.net`]));
    await bigbrotr.finder.record(named(0, ['wss://tame.net']));
    const claimed = await claimAll();
    expect(claimed).toHaveLength(31);
    expect(claimed.map(({ url }) => url)).toContain('wss://tame.net');
  });

  it('under a domain where two thousand relays were found are not asked', async () => {
    await bigbrotr.finder.record(named(0, ['wss://a.wild.co.uk', 'wss://tame.co.uk']));
    await database.query(
      `insert into named_relays (url, network, host, domain, times, first_named_at, first_source, last_named_at, authors, answered_at)
       select 'wss://' || n || '.wild.co.uk', 'clearnet', n || '.wild.co.uk', 'wild.co.uk', 1, 1, 'list', 1, '{""}', 1
       from generate_series(1, 2000) n`,
    );
    expect(await claimAll()).toMatchObject([{ url: 'wss://tame.co.uk' }]);
  });

  it('that nothing is heard of come again, and are not given out twice until then', async () => {
    await bigbrotr.finder.record(named(0, ['wss://a.net']));
    const [both] = await Promise.all([
      Promise.all([1, 2].map(() => bigbrotr.finder.claim(10, ['clearnet']))),
    ]);
    expect(both.flat()).toHaveLength(1);
    expect(await claimAll()).toEqual([]);
    await database.query('update named_relays set next_try_at = next_try_at - 600');
    expect(await claimAll()).toHaveLength(1);
  });

  it('of a network that cannot be reached are left alone', async () => {
    const onion = 'ws://gnostr2jnapk72mnagq3cuykfon73temzp77hcbncn4silgt77boruid.onion';
    await bigbrotr.finder.record(named(0, [onion]));
    expect(await claimAll()).toEqual([]);
    expect(await bigbrotr.finder.claim(10, ['clearnet', 'tor'])).toMatchObject([{ url: onion }]);
  });

  it('become relays when they answer, once', async () => {
    await bigbrotr.finder.record(named(0, ['wss://a.net']));
    const [candidate] = await bigbrotr.finder.claim(10, ['clearnet']);
    const nameId = candidate?.nameId ?? 0;
    expect(await bigbrotr.finder.promote(nameId)).toBe(true);
    expect(await bigbrotr.finder.promote(nameId)).toBe(false);
    expect(await database.query('select from relay_candidates')).toEqual([]);
    expect(await provenance()).toMatchObject([{ relay_url: 'wss://a.net', state: 'relay' }]);
    expect((await bigbrotr.relaysToCheck(AT_ONCE)).map(({ url }) => url)).toContain('wss://a.net');
    await bigbrotr.finder.record(named(1, ['wss://a.net']));
    expect(await bigbrotr.finder.claim(10, ['clearnet'])).toEqual([]);
  });

  it('that became relays by another way are no candidates any more', async () => {
    await bigbrotr.finder.record(named(0, ['wss://one.example.com', 'wss://a.net']));
    await database.query(`select insert_relay('wss://a.net', 'clearnet')`);
    expect(await database.query('select from relay_candidates')).toEqual([]);
    await bigbrotr.finder.tidy();
    expect(await claimAll()).toEqual([]);
  });

  it('that never answer wait longer each time, and are dropped in their second month', async () => {
    await bigbrotr.finder.record(named(0, ['wss://a.net']));
    const waits: number[] = [];
    for (let tries = 0; tries < 7; tries += 1) {
      const [candidate] = await claimAll();
      await bigbrotr.finder.putOff(candidate?.nameId ?? 0, 'refused');
      const [row] = await database.query<{ wait: string }>(
        'select next_try_at - unix_now() as wait from named_relays',
      );
      waits.push(Number(row?.wait));
      await database.query('update named_relays set next_try_at = 1, last_try_at = 1');
    }
    const hours = [2, 8, 24, 72, 168, 336, 672];
    for (const [index, wait] of waits.entries()) {
      expect(wait).toBeGreaterThanOrEqual((hours[index] ?? 0) * 3600 * 0.75 - 5);
      expect(wait).toBeLessThanOrEqual((hours[index] ?? 0) * 3600 * 1.25);
    }
    const [last] = await claimAll();
    await bigbrotr.finder.putOff(last?.nameId ?? 0, 'refused');
    expect(await provenance()).toMatchObject([{ relay_url: 'wss://a.net', state: 'dropped' }]);

    await bigbrotr.finder.record(named(0, ['wss://a.net']));
    expect(await claimAll()).toEqual([]); // by the same author: nothing new
    await bigbrotr.finder.record(named(1, ['wss://a.net']));
    expect(await claimAll()).toHaveLength(1);
    await bigbrotr.finder.putOff(last?.nameId ?? 0, 'refused');
    const [row] = await database.query('select tries from relay_candidates');
    expect(row).toEqual({ tries: 5 });
  });
});

describe('aliases', () => {
  const history = signedEvents(300, { from: NOW - 9000, to: NOW - 1000, seed: 8 });
  const others = signedEvents(300, { from: NOW - 9000, to: NOW - 1000, seed: 9 });
  const document = (pubkey: string | null, name = 'one') => ({ name, ...(pubkey && { pubkey }) });

  /** A relay with a snapshot and events. */
  async function holding(name: string, nip11: object | null, events: readonly NostrEvent[]) {
    const one = await knownRelay(bigbrotr, name);
    await bigbrotr.insertSnapshots([{ relay: one, generatedAt: NOW, nip11, nip66: null }]);
    if (events.length > 0) await store(events, one);
    return one.url;
  }
  const aliases = () =>
    database.query(
      'select relay_url, alias_url, events_compared::integer, events_shared::integer from relay_aliases',
    );

  it('have the same document with a key in it, and the same events, but for a few', async () => {
    const first = await holding('a', document(keyOf(0)), history);
    const same = await holding('b', document(keyOf(0)), history.slice(3));
    await holding(
      'subset',
      document(keyOf(0)),
      history.slice(0, 300).filter((_, at) => at % 3 > 0),
    );
    await holding('mirror', document(keyOf(1)), history);
    await holding('default', document(null), history);
    await holding('clone', document(null), history);
    await holding('undocumented', null, history);
    await holding('else', document(keyOf(0)), others);
    await holding('empty', document(keyOf(0)), []);
    expect(await aliases()).toEqual([
      { relay_url: first, alias_url: same, events_compared: 100, events_shared: 100 },
    ]);
  });

  it('are found where one was read less far than the other', async () => {
    const first = await holding('a', document(keyOf(0)), history);
    const behind = await holding('b', document(keyOf(0)), history.slice(150));
    expect(await aliases()).toMatchObject([{ relay_url: first, alias_url: behind }]);
  });
});
