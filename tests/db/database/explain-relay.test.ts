/** `explain_relay`: what the archive says of one relay, through a connection that only reads. */
import { describe, expect } from 'vitest';
import { databaseTest } from '../../postgres/fixtures.ts';

const URL = 'wss://one.example.com';
const HOUR = 3600;
const ID = 'ab'.repeat(32);

interface ExplainedRow extends Record<string, unknown> {
  readonly section: string;
  readonly name: string;
  readonly value: string;
  readonly unit: string;
}

const test = databaseTest
  .extend('explain', ({ reader, database: _emptied }) => async (url: string) => {
    const { rows } = await reader.read((query) =>
      query<ExplainedRow>('select * from explain_relay($1)', [url]),
    );
    return rows;
  })
  /** The values of one section by name; a name that comes twice has its latest value. */
  .extend('section', ({ explain }) => async (section: string, url = URL) => {
    const rows = (await explain(url)).filter((row) => row.section === section);
    return Object.fromEntries(rows.map(({ name, value }) => [name, value]));
  })
  .extend('now', async ({ database }) => {
    const [row] = await database.query<{ now: number }>('select unix_now()::float as now');
    return row?.now ?? 0;
  })
  /** A relay that the archive knows, checked an hour ago. */
  .extend('checked', ({ database, now }) => async (reason: string | null, url = URL) => {
    const health = {
      openable: reason === null,
      readable: reason === null,
      writable: false,
      reason,
    };
    const tls = { name: 'tls', success: false, reason: 'no_tls', data: null, duration_ms: 3 };
    await database.query('select insert_relay_metadata($1, $2, $3, null, $4, $5)', [
      ...[url, 'clearnet', now - HOUR, JSON.stringify(health), JSON.stringify([tls])],
    ]);
    await database.query('select record_relay_check($1, $2, $3::jsonb, 28800)', [
      ...[url, now - HOUR, JSON.stringify(health)],
    ]);
  })
  /** A visit of the relay with a filter, of which the first half is proven. */
  .extend('visited', ({ database }) => async (filter: string, more: string) => {
    await database.query('insert into filters (filter) values ($1)', [filter]);
    await database.query(
      `insert into visits (relay_id, filter_id, wanted, started_at, ended_at, outcome, stop_reason, detail, pages, failures, failing_since)
       select relay_id, filter_id, '[1700000000,1700001000)', ${more} from relays, filters where filter = $1`,
      [filter],
    );
    await database.query(
      `insert into coverage select relay_id, filter_id, 'paging', '2026-01-01', '{[1700000500,1700001000)}', 1750000000
       from relays, filters where filter = $1`,
      [filter],
    );
  });

const ENDED = "unix_now() - 200, unix_now() - 100, 'complete', null, null, 9, 0, null";

describe('explain_relay', () => {
  test('says that a relay is unknown, and names the most similar known URLs', async ({
    database,
    explain,
  }) => {
    expect((await explain(URL)).map(({ section, value }) => [section, value])).toEqual([
      ['relay', URL],
      ['relay', 'unknown to this archive'],
    ]);
    await database.query(`select insert_relay(url, 'clearnet') from unnest($1::text[]) url`, [
      ['wss://two.example.com', 'wss://one.example.org', 'wss://other.net', 'ws://one.example.com'],
    ]);
    const rows = await explain(URL);
    expect(rows.filter(({ section }) => section === 'nearest').map(({ name }) => name)).toEqual([
      'ws://one.example.com',
      'wss://one.example.org',
      'wss://two.example.com',
    ]);
  });

  test.for([
    ['relay.damus.io', true, 'relay.damsu.io: two letters changed places'],
    ['relay.damus.io', true, 'damus.io: a subdomain of it'],
    ['damus.io', true, 'relay.damus.io: without the subdomain'],
    ['nos.lol', true, 'nos.lo: a letter is missing'],
    ['relay.nostr.band', true, 'relay.nostr.bg: another top-level domain'],
    ['relay.snort.social', false, 'relay.damus.social: the same words around another name'],
    ['relay.abc.com', false, 'relay.xyz.com: the same words around another name'],
    ['nostr.mom', false, 'nostr.wine.com: the same beginning'],
  ] as const)('suggests %s: %s, for %s', async ([host, isClose, given], { database, explain }) => {
    await database.query(`select insert_relay('wss://' || $1, 'clearnet')`, [host]);
    const rows = await explain(`wss://${given.split(':')[0]}`);
    expect(rows.some(({ section }) => section === 'nearest')).toBe(isClose);
  });

  test.for([`${URL}/`, 'one.example.com', 'ONE.example.com/', ` ${URL} `])(
    'finds a relay that is spelled %j',
    async (spelling, { checked, section }) => {
      await checked(null);
      expect(await section('relay', spelling)).toMatchObject({ url: URL, status: 'known' });
    },
  );

  test('shows a candidate with its provenance and its next try', async ({ database, section }) => {
    await database.query(
      `insert into named_relays (url, network, host, domain, times, first_named_at, first_event, first_author, first_source,
           last_named_at, authors, tries, last_try_at, next_try_at, reason)
       values ($1, 'clearnet', 'one.example.com', 'example.com', 7, 1700000000, decode($2, 'hex'), decode($2, 'hex'),
           'relay_list', 1700000100, array[decode($2, 'hex')], 2, 1700000200, 1700000300, 'timeout')`,
      [URL, ID],
    );
    const candidate = {
      status: 'candidate: it was named, and has not answered the finder yet',
      ...{ 'first named': '2023-11-14T22:13:20Z', 'first named as': 'relay_list' },
      ...{ 'first named in event': ID, 'first named by': ID },
      ...{ 'events and lists that name it': '7', 'authors that name it': '1' },
      ...{ 'tries of the finder': '2', 'why it failed': 'timeout' },
      'next try': '2023-11-14T22:18:20Z',
    };
    expect(await section('relay')).toMatchObject(candidate);
    await database.query('update named_relays set dropped_at = 1700000300, next_try_at = null');
    expect(await section('relay')).toMatchObject({
      status: 'given up: it was named, and never answered the finder',
    });
    await database.query(`select insert_relay($1, 'clearnet', 1700000400)`, [URL]);
    await database.query(`update named_relays set answered_at = 1700000400, dropped_at = null`);
    const found = await section('relay');
    expect(found).toMatchObject({
      ...{ status: 'known', 'known since': '2023-11-14T22:20:00Z' },
      ...{ 'added by': 'the finder, which it answered', 'first named as': 'relay_list' },
    });
    expect(found).not.toHaveProperty('why it failed');
  });

  test('shows the state, the latest check with what failed, and the next one', async ({
    database,
    checked,
    section,
  }) => {
    await database.query(`select insert_relay($1, 'clearnet', 1700000400)`, [URL]);
    expect(await section('relay')).toMatchObject({
      'added by': 'the seed list, the priority list or SQL',
    });
    expect(await section('state')).toEqual({ state: 'unknown: it was never checked' });
    expect(await section('check')).toEqual({ 'last check': 'never', 'next check': 'due now' });
    await checked('timeout');
    expect(await section('state')).toMatchObject({ state: 'down', 'up in the last day': '0.0000' });
    expect(await section('check')).toMatchObject({
      ...{ result: 'does not open', 'why it failed': 'timeout' },
      ...{ 'other checks that failed': 'tls (no_tls)', 'checks in a row that found it down': '1' },
    });
    // By the jitter of the schedule it may be due already.
    await database.query('update relay_schedule set due_at = 4102444800');
    expect(await section('check')).toMatchObject({ 'next check': '2100-01-01T00:00:00Z' });
    expect(await section('visit')).toMatchObject({
      ...{ 'latest visit': 'never', 'next visit': 'due now' },
      'held up': 'its latest check did not find it readable',
    });
    await database.query('update relays set priority = true');
    expect(await section('relay')).toMatchObject({ 'visited by': 'the priority synchronizer' });
    expect(await section('visit')).not.toHaveProperty('held up');
    await database.query('update relay_schedule set seen_again_at = unix_now()');
    expect(await section('check')).toMatchObject({
      'next check': 'due now: it was named anew',
    });
  });

  test('shows coverage with gaps and holes, the visit with its stop reason, and the next visit', async ({
    database,
    checked,
    visited,
    section,
    now,
  }) => {
    await checked(null);
    await visited(
      '{}',
      "unix_now() - 200, unix_now() - 100, 'failed', 'timeout', 'no answer', 9, 2, 1700000000",
    );
    await database.query(
      `insert into holes select relay_id, 1, s::int8range, 'dense', 500, 1700000000
       from relays, unnest(array['[1700000100,1700000101)', '[1700000300,1700000301)']) s`,
    );
    expect(await section('coverage')).toMatchObject({
      ...{ filter: '{}', 'asked with': 'the filter', 'share proven complete': '0.500000' },
      ...{ 'first second proven': '2023-11-14T22:21:40Z', 'oldest proof': '2025-06-15T15:06:40Z' },
      ...{ 'gaps that are not read yet': '3', 'holes: dense': '2' },
      ...{ '  the oldest': '2023-11-14T22:15:00Z', '  events the relay showed there': '1000' },
    });
    const visit = await section('visit');
    expect(visit).toMatchObject({
      ...{ outcome: 'failed', 'stopped by': 'timeout', 'in words': 'no answer' },
      ...{ 'failed visits in a row': '2', 'failing since': '2023-11-14T22:13:20Z' },
    });
    expect(Math.round(Date.parse(visit['next visit'] ?? '') / 1000 - now)).toBeCloseTo(700, -2);
    expect(visit).not.toHaveProperty('held up');
    await database.query(
      `insert into relay_manners (relay_id, not_before, reason, refusals, nip77_not_before, nip77_reason)
       select relay_id, unix_now() + 7200, 'rate_limited', 3, unix_now() + 9000, 'unsupported' from relays`,
    );
    const policy = await section('policy');
    expect(policy).toMatchObject({
      ...{ 'paused for': 'rate_limited', 'refused or failed visits in a row': '3' },
      'why NIP-77 is not tried': 'unsupported',
    });
    expect((await section('visit'))['next visit']).toBe(policy['paused until']);
  });

  test('shows who holds the claim on a relay, and makes it due where the lease of a visit has ended', async ({
    database,
    checked,
    visited,
    section,
  }) => {
    await checked(null);
    await visited('{}', 'unix_now() - 50, null, null, null, null, 1, 0, null');
    expect(await section('visit')).toMatchObject({ ended: 'cut off', 'next visit': 'due now' });
    await database.query(
      `insert into claims select work, relay_id, 'host/1/' || work, 1, 1700000000, unix_now() + 60
       from relays, unnest(array['visit', 'check']) work`,
    );
    expect(await section('visit')).toMatchObject({
      ...{
        ended: 'under way',
        'claimed by': 'host/1/visit',
        'claimed since': '2023-11-14T22:13:20Z',
      },
    });
    expect(await section('visit')).not.toHaveProperty('next visit');
    expect(await section('check')).toMatchObject({ 'being checked by': 'host/1/check' });
    await database.query(`update visits set ended_at = unix_now(), outcome = 'complete'`);
    expect((await section('visit'))['next visit']).toMatch(/^20/); // an interval after its beginning
    await database.query('update claims set until = unix_now() - 1');
    expect(await section('visit')).toMatchObject({ 'next visit': 'due now' });
    expect(await section('visit')).not.toHaveProperty('claimed by');
    expect(await section('check')).not.toHaveProperty('being checked by');
  });

  test('shows the filters that a relay is asked with in place of one that it refuses, and each wanted filter', async ({
    database,
    checked,
    visited,
    explain,
  }) => {
    await checked(null);
    await visited('{"kinds":[1]}', ENDED);
    await visited('{}', 'unix_now() - 50, null, null, null, null, 1, 0, null');
    await database.query(
      `insert into filters (filter) values ('{"kinds":[2]}'), ('{"kinds":[3]}')`,
    );
    await database.query(
      `insert into filter_parts select relay_id, f.filter_id, p.filter_id, 'kinds', unix_now()
       from relays, filters f, filters p where f.filter = '{}' and p.filter in ('{"kinds":[2]}', '{"kinds":[3]}')`,
    );
    const rows = await explain(URL);
    const values = (name: string) =>
      rows.filter((row) => row.name === name).map((row) => row.value);
    expect(values('filter')).toEqual(['{}', '{"kinds":[1]}']); // the one visited last comes first
    expect(values('asked with')).toEqual([
      '2 filters by kinds: events of other kinds are not asked for',
      'the filter',
    ]);
    expect(values('part')).toEqual(['{"kinds":[2]}, 0.0 %', '{"kinds":[3]}, 0.0 %']);
    expect(values('ended')).toEqual(['cut off', expect.stringMatching(/^20.*Z$/)]);
  });

  test('counts events that are held, withheld, in quarantine and refused', async ({
    database,
    checked,
    visited,
    section,
  }) => {
    await checked(null);
    await visited('{}', ENDED);
    await database.query(
      `insert into sightings select event_key_floor(1700000000 + i), relay_id, 1, (1700000000 + i) / 86400 from relays, generate_series(1, 30) i`,
    );
    await database.query(
      `insert into quarantine select decode($1, 'hex'), relay_id, 1700000000, 'nul', '\\x00', 1700000000 from relays`,
      [ID],
    );
    await database.query(
      `insert into withheld (relay_id, filter_id, id, stretch, reason, first_at, last_at, next_try_at)
       select relay_id, 1, sha256(int4send(i)), '[1700000000,1700000001)', 'not_served', 1, 2, 3 from relays, generate_series(1, 4) i`,
    );
    await database.query(
      `select record_offences(relay_id, '[{"reason":"bad_signature","count":5},{"reason":"repeat","count":9}]') from relays`,
    );
    expect(await section('events')).toEqual({
      ...{
        held: '30',
        'oldest held': '2023-11-14T22:13:21Z',
        'newest held': '2023-11-14T22:13:50Z',
      },
      ...{ 'in quarantine': '1', 'withheld: not_served': '4' },
      ...{ 'refused: repeat': '9', 'refused: bad_signature': '5' },
      'last refused': expect.stringMatching(/^20.*Z$/),
    });
  });

  test('reads neither events nor sightings as a whole, and of a large relay no more than 100,000 entries', async ({
    database,
    checked,
    visited,
    reader,
  }) => {
    await checked(null);
    await checked(null, 'wss://two.example.com');
    await visited('{}', ENDED);
    await database.query(
      `insert into sightings select event_key_floor(1700000000) + i, relay_id, 1, 1700000000 / 86400
       from relays, generate_series(1, case url when $1 then 140000 else 10 end) i`,
      [URL],
    );
    await database.query('analyze sightings');
    // What a session has read since its figures were last flushed, which is at most once a second.
    const scans = `select relname, seq_scan::int as whole, idx_tup_fetch::int as entries
      from pg_stat_xact_user_tables where relname in ('events', 'sightings') order by relname`;
    type Scans = Record<'whole' | 'entries', number>;
    const [held, events, sightings] = await reader.read(async (query) => {
      const { rows: before } = await query<Scans>(scans);
      const { rows } = await query<ExplainedRow>(
        `select * from explain_relay($1) where section = 'events' and name = 'held'`,
        [URL],
      );
      const { rows: after } = await query<Scans>(scans);
      const [ofEvents, ofSightings] = after.map(({ whole, entries }, place) => ({
        whole: whole - (before[place]?.whole ?? 0),
        entries: entries - (before[place]?.entries ?? 0),
      }));
      return [rows[0], ofEvents, ofSightings] as const;
    });
    expect(held?.unit).toBe('estimate');
    expect(Math.abs(Number(held?.value) - 140_000)).toBeLessThan(3000);
    expect(events).toEqual({ whole: 0, entries: 0 });
    expect(sightings?.whole).toBe(0);
    expect(sightings?.entries).toBeLessThanOrEqual(100_100);
  });
});
