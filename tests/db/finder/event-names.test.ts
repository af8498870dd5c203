import { describe, expect } from 'vitest';
import { RelayNames } from '../../../src/finder/relay-names.ts';
import { realOrSignedEvents, signedEvent, signedEvents } from '../../fixtures/events.ts';
import {
  gather,
  KEYS,
  keyOf,
  NOW,
  relayList,
  rules,
  finderTest as test,
} from '../../fixtures/finder-test.ts';
import { closeGate, knownRelay } from '../../postgres/bigbrotr.ts';

describe('new events in the journal', () => {
  test('are recorded once, whatever inserts them', async ({
    store,
    unread,
    bigbrotr,
    database,
    scanAll,
  }) => {
    const naming = [relayList(0, ['wss://a.example.net']), relayList(1, ['wss://b.example.net'])];
    await store(naming);
    expect(await unread()).toBe(2);
    await store(naming, await knownRelay(bigbrotr, 'two'));
    await store(naming);
    expect(await unread()).toBe(2);
    const other = relayList(2, ['wss://c.example.net']);
    await database.query('select insert_event($1, $2, $3, $4, $5, $6, $7, $8, $9)', [
      ...[Buffer.from(other.id, 'hex'), Buffer.from(other.pubkey, 'hex'), other.created_at],
      ...[other.kind, JSON.stringify(other.tags), '', Buffer.from(other.sig, 'hex')],
      ...['wss://one.example.com', 'clearnet'],
    ]);
    expect(await unread()).toBe(3);
    expect(await scanAll()).toEqual({ events: 3, candidates: 3 });
  });
});

describe('scan of the journal', () => {
  test('stores the first mention of each name, and reads everything', async ({
    store,
    relay,
    scanAll,
    provenance,
    database,
    unread,
  }) => {
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
    expect(await unread()).toBe(0);
    expect(await scanAll()).toEqual({ events: 0, candidates: 0 });
  });

  test('counts each mention once, on however many relays its event is', async ({
    bigbrotr,
    store,
    scanAll,
    database,
  }) => {
    const events = realOrSignedEvents();
    const two = await knownRelay(bigbrotr, 'two');
    for (let from = 0; from < events.length; from += 300) {
      await store(events.slice(from, from + 300));
      if (from % 900 === 0) await scanAll();
      await store(events.slice(0, from + 300), two);
    }
    const { events: read } = await scanAll();
    expect(read).toBeLessThan(events.length); // the preselection skips some, and misses none:
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

  test('reads nothing while another scan reads', async ({
    store,
    database,
    bigbrotr,
    provenance,
    unread,
    scanAll,
    readable,
  }) => {
    for (let author = 0; author < 20; author += 1)
      await store([relayList(author, ['wss://a.net'])]);
    await readable();
    const gate = await closeGate(database, 'named_relays');
    const first = bigbrotr.finder.scan(8, gather);
    await gate.waiting(1);
    expect(await bigbrotr.finder.scan(100, gather)).toMatchObject({ state: 'busy', batches: 0 });
    await gate.open();
    expect(await first).toMatchObject({ state: 'rows', batches: 8, events: 8 });
    expect(await scanAll()).toMatchObject({ events: 12 });
    expect(await provenance()).toMatchObject([
      { relay_url: 'wss://a.net', times: 20, authors: 16 },
    ]);
    expect(await unread()).toBe(0);
  });

  test('leaves the cursor where it is when it fails', async ({
    store,
    bigbrotr,
    unread,
    scanAll,
  }) => {
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
    expect(await unread()).toBe(1);
    expect(await scanAll()).toEqual({ events: 1, candidates: 1 });
  });

  test('skips events that were deleted after they were archived', async ({
    store,
    database,
    scanAll,
  }) => {
    await store([relayList(0, ['wss://a.net']), relayList(1, ['wss://b.net'])]);
    const author = Buffer.from(keyOf(0), 'hex');
    await database.query(
      'select delete_events(array(select event_key from events where pubkey = $1))',
      [author],
    );
    expect(await scanAll()).toEqual({ events: 1, candidates: 1 });
  });
});

describe('known relay that is named again', () => {
  test('is due immediately if it was down and a recent event names it', async ({
    checkedAgo,
    store,
    relay,
    scanAll,
    due,
  }) => {
    await checkedAgo(100_000, false);
    await store([relayList(0, [relay.url], NOW - 200_000)]);
    await scanAll();
    expect(await due()).toEqual([]);
    await store([relayList(1, [relay.url])]);
    await scanAll();
    expect(await due()).toEqual([relay.url]);
  });

  test('keeps its schedule if it is up or was checked within a day', async ({
    checkedAgo,
    store,
    relay,
    scanAll,
    due,
    database,
  }) => {
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

describe('relay_aliases', () => {
  const history = signedEvents(300, { from: NOW - 9000, to: NOW - 1000, seed: 8 });
  const others = signedEvents(300, { from: NOW - 9000, to: NOW - 1000, seed: 9 });
  const document = (pubkey: string | null, name = 'one') => ({ name, ...(pubkey && { pubkey }) });

  test('lists relays with the same document with a key and nearly the same events', async ({
    holding,
    aliases,
  }) => {
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

  test('lists relays of which one is read less far than the other', async ({
    holding,
    aliases,
  }) => {
    const first = await holding('a', document(keyOf(0)), history);
    const behind = await holding('b', document(keyOf(0)), history.slice(150));
    expect(await aliases()).toMatchObject([{ relay_url: first, alias_url: behind }]);
  });
});
