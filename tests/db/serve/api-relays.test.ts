/** /v1/relays, what is below a relay, /v1/coverage and /v1/status. */
import { describe, expect } from 'vitest';
import { SCHEMA_VERSION } from '../../../src/database/version.ts';
import { apiTest } from '../../fixtures/api-test.ts';
import { signedEvents } from '../../fixtures/events.ts';
import { batchOf } from '../../postgres/bigbrotr.ts';

const NAMES = ['a', 'b', 'c', 'd'] as const;
const urlOf = (name: string) => `wss://${name}.example.com`;

const test = apiTest
  /** Relays a to d: a and b up with round trips of 20 and 10 ms, c down, d never checked. */
  .extend('relays', async ({ database }) => {
    for (const name of NAMES)
      await database.query("select insert_relay($1, 'clearnet')", [urlOf(name)]);
    for (const [name, rtt] of [
      ['a', 20],
      ['b', 10],
      ['c', null],
    ] as const) {
      const isUp = rtt !== null;
      const health = JSON.stringify({
        ...{ openable: isUp, readable: isUp, writable: false, rtt_open: rtt, rtt_read: rtt },
        reason: isUp ? null : 'timeout',
      });
      await database.query(
        "select insert_relay_metadata($1, 'clearnet', unix_now() - 60, null, $2)",
        [urlOf(name), health],
      );
      await database.query('select record_relay_check($1, unix_now() - 60, $2::jsonb, 28800)', [
        ...[urlOf(name), health],
      ]);
    }
  })
  /** A visit of relay `one` that has proven seconds 1000 to 1999 of the 3000 that are wanted, and found a hole. */
  .extend('visited', async ({ bigbrotr, database, relay, filterId }) => {
    const events = signedEvents(5, { from: 1000, to: 1900 });
    await bigbrotr.store(
      batchOf({
        ...{ relay, filterId, events },
        proven: [{ since: 1000, until: 1999 }],
        holes: [{ since: 2500, until: 2500, reason: 'dense', count: 3 }],
      }),
    );
    await database.query(
      `insert into visits (relay_id, filter_id, wanted, started_at, ended_at, outcome, stop_reason, detail, failures, failing_since)
       values ($1, $2, '[0,3000)', unix_now() - 100, unix_now() - 50, 'failed', 'timeout', 'no answer in 20 s', 2, unix_now() - 99)`,
      [relay.relayId, filterId],
    );
    return relay.url;
  });

describe('GET /v1/relays', () => {
  test('filters by state, network, URL and what checks found', async ({ relays: _relays, get }) => {
    const found = async (query: string) =>
      (await get(`/v1/relays?${query}`)).json.data.map(({ url }: { url: string }) => url);
    expect(await found('')).toEqual(NAMES.map(urlOf));
    expect(await found('state=up')).toEqual([urlOf('a'), urlOf('b')]);
    expect(await found('state=unknown')).toEqual([urlOf('d')]);
    expect(await found('readable=false')).toEqual([urlOf('c'), urlOf('d')]);
    expect(await found('network=tor')).toEqual([]);
    expect(await found('search=C.EXAMPLE')).toEqual([urlOf('c')]);
    expect(await found('nip=77')).toEqual([]);
  });

  test('sorts by a value either way, relays without it last, and pages through', async ({
    relays: _relays,
    get,
  }) => {
    const paged = async (query: string) => {
      const urls: string[] = [];
      for (let cursor = ''; ; ) {
        const { json } = await get(`/v1/relays?limit=1&${query}${cursor}`);
        urls.push(...json.data.map(({ url }: { url: string }) => url));
        if (json.next_cursor === null) return urls;
        cursor = `&cursor=${json.next_cursor}`;
      }
    };
    expect(await paged('sort=rtt_read')).toEqual(['b', 'a', 'c', 'd'].map(urlOf));
    expect(await paged('sort=rtt_read&desc=true')).toEqual(['a', 'b', 'd', 'c'].map(urlOf));
    expect(await paged('desc=true')).toEqual(['d', 'c', 'b', 'a'].map(urlOf));
  });
});

describe('GET /v1/relays?strip', () => {
  test('has for equal parts of the time since Nostr began the share that is proven', async ({
    visited,
    relays: _relays,
    database,
    get,
  }) => {
    const began = Date.UTC(2020, 10, 7) / 1000;
    const quarter = (Math.floor(Date.now() / 1000) - began) / 4;
    const at = (quarters: number) => Math.round(began + quarters * quarter);
    await database.query('update visits set wanted = int8range($1, $2)', [at(1), at(9)]);
    await database.query(`update coverage set covered = int8multirange(int8range($1, $2))`, [
      ...[at(1.5), at(3)],
    ]);
    const { json } = await get('/v1/relays?strip=4');
    const strips = new Map<string, unknown>(
      json.data.map(({ url, strip }: { url: string; strip?: unknown }) => [url, strip]),
    );
    expect(strips.get(visited)).toEqual([
      null,
      expect.closeTo(0.5, 3),
      expect.closeTo(1, 3),
      expect.closeTo(0, 3),
    ]);
    expect(strips.get(urlOf('a'))).toBeUndefined();
    expect((await get('/v1/relays')).text).not.toContain('strip');
    expect((await get('/v1/relays?strip=121')).status).toBe(400);
  });
});

describe('GET /v1/relays/{url}', () => {
  test('has state, checks, visit and its own coverage, by an encoded or a plain URL', async ({
    visited,
    get,
  }) => {
    const { json } = await get(`/v1/relays/${encodeURIComponent(visited)}`);
    expect(json.data).toMatchObject({
      ...{ url: visited, state: 'unknown', outcome: 'failed', stop_reason: 'timeout' },
      ...{ share: expect.closeTo(1000 / 3000, 5), policy: null },
    });
    expect(json.meta.coverage).toEqual({
      ...{ relays: 1, complete: 0, share: expect.closeTo(1000 / 3000, 5) },
    });
    expect((await get(`/v1/relays/${visited}`)).json.data).toEqual(json.data);
    expect((await get(`/v1/relays/${visited}/coverage`)).status).toBe(200);
  });

  test('/coverage has every second that is wanted once: covered, gap or hole', async ({
    visited,
    get,
  }) => {
    const { json } = await get(`/v1/relays/${encodeURIComponent(visited)}/coverage`);
    expect(json.data).toMatchObject([
      { since: 0, until: 999, state: 'gap', filter: '{}' },
      { since: 1000, until: 1999, state: 'covered', evidence: 'paging' },
      { since: 2000, until: 2499, state: 'gap' },
      { since: 2500, until: 2500, state: 'hole', reason: 'dense', events: 3 },
      { since: 2501, until: 2999, state: 'gap' },
    ]);
    const rows: unknown[] = [];
    for (let cursor = ''; ; ) {
      const page = await get(`/v1/relays/${encodeURIComponent(visited)}/coverage?limit=2${cursor}`);
      rows.push(...page.json.data);
      if (page.json.next_cursor === null) break;
      cursor = `&cursor=${page.json.next_cursor}`;
    }
    expect(rows).toEqual(json.data);
  });

  test('/uptime, /checks, /figures and /offences', async ({
    relays: _relays,
    visited,
    database,
    get,
  }) => {
    const up = encodeURIComponent(urlOf('a'));
    expect((await get(`/v1/relays/${up}/uptime`)).json.data).toMatchObject([
      { state: 'up', to_at: null },
    ]);
    expect((await get(`/v1/relays/${up}/checks`)).json.data).toEqual([]);
    await database.query(
      `select record_offences(relay_id, '[{"reason":"bad_signature","count":3,"example":null},{"reason":"repeat","count":9,"example":null}]')
       from relays where url = $1`,
      [visited],
    );
    const url = encodeURIComponent(visited);
    expect((await get(`/v1/relays/${url}/offences`)).json.data).toMatchObject([
      { reason: 'repeat', count: 9 },
      { reason: 'bad_signature', count: 3 },
    ]);
    const first = (await get(`/v1/relays/${url}/offences?limit=1`)).json;
    const next = await get(`/v1/relays/${url}/offences?limit=1&cursor=${first.next_cursor}`);
    expect(next.json).toMatchObject({ data: [{ reason: 'bad_signature' }], next_cursor: null });
    expect((await get(`/v1/relays/${url}/figures`)).json.data).toMatchObject({
      ...{ events: 5, events_exact: true, only_here: null, quarantined: 0, withheld: 0 },
    });
  });

  test('says 404 for a relay that is not known, and 400 for what is no URL', async ({ get }) => {
    for (const subject of ['', '/coverage', '/uptime', '/checks', '/figures', '/offences'])
      expect((await get(`/v1/relays/wss%3A%2F%2Fnobody.example.com${subject}`)).status).toBe(404);
    expect(await get('/v1/relays/example.com')).toMatchObject({
      status: 400,
      json: { parameter: 'url' },
    });
  });
});

describe('GET /v1/coverage and /v1/status', () => {
  test('coverage counts relays, and those that are complete', async ({
    relays: _relays,
    visited: _visited,
    get,
  }) => {
    const { json } = await get('/v1/coverage');
    expect(json.data).toEqual({
      ...{ relays: 1, complete: 0, share: expect.closeTo(1000 / 3000, 5), known: 5, caught_up: 0 },
      failing: 1,
      networks: [
        {
          ...{ network: 'clearnet', relays: 5, up: 2, visited: 1, complete: 0 },
          share: expect.closeTo(1000 / 3000, 5),
        },
      ],
    });
  });

  test('status answers what operators ask', async ({ visited, database, get }) => {
    const { json } = await get('/v1/status');
    const shown = (section: string, name: string) =>
      json.data.rows.find(
        (row: { section: string; name: string }) => row.section === section && row.name === name,
      )?.value;
    expect(json.data).toMatchObject({ works: true, problems: [] });
    expect(shown('verdict', 'works')).toBe('yes');
    expect(shown('version', 'schema')).toBe(SCHEMA_VERSION);
    expect(shown('archive', 'events')).toBe('5');
    expect(shown('archive', 'new events in the last 3600 seconds')).toBe('5');
    expect(Number(shown('archive', 'growth in a day at this rate'))).toBeGreaterThan(0);
    expect(shown('coverage', 'relays not read to their end')).toBe('1');
    expect(shown('coverage', 'this estimate rests on')).toMatch(/^a sample of 1 of 1 relays/);
    expect(shown('coverage', 'done')).toMatch(/^in at most \d+ (hour|day)s?|^not known/);
    expect(shown('failing', visited)).toMatch(/^timeout: no answer in 20 s; 2 failed visits/);
    expect(shown('not proven', 'holes: dense')).toBe('1');
    expect(shown('backups', 'latest backup')).toBe('none is recorded');
    await database.query(
      `insert into runs (command, started_at, ended_at, succeeded, detail)
       values ('backup', 1000, 1060, true, 'all of it'), ('backup', 2000, 2001, false, 'exit code 1'), ('verify', 3000, 3007, true, '5 events')`,
    );
    const { rows } = (await get('/v1/status')).json.data;
    expect(
      rows.flatMap((row: { section: string }) => (row.section === 'backups' ? [row] : [])),
    ).toMatchObject([
      { name: 'latest backup', value: '1970-01-01T00:33:21Z', unit: 'time' },
      { name: 'backup outcome', value: 'failed: exit code 1, in 1 s' },
      { name: 'latest backup that succeeded', value: '1970-01-01T00:17:40Z', unit: 'time' },
      { name: 'latest verification', value: '1970-01-01T00:50:07Z' },
      { name: 'verification outcome', value: 'succeeded: 5 events, in 7 s' },
    ]);
    await database.query('update visits set caught_up = true, failures = 0');
    const after = await get('/v1/status');
    expect(after.text).toContain('every relay that was visited is read to its end');
  });
});
