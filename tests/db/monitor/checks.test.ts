import fc from 'fast-check';
import { describe, expect } from 'vitest';
import { Bigbrotr, type CheckRow, type SnapshotRow } from '../../../src/database/bigbrotr.ts';
import { readCarried } from '../../../src/monitor/checks/carried.ts';
import { readHttp } from '../../../src/monitor/checks/http.ts';
import { readGeo } from '../../../src/monitor/checks/net.ts';
import { probeRelay } from '../../../src/monitor/probe.ts';
import { SnapshotWriter } from '../../../src/monitor/snapshot-writer.ts';
import type { RelayUrl } from '../../../src/network/url.ts';
import { checkNames } from '../../../src/nostr/check-result.ts';
import { signedEvents } from '../../fixtures/events.ts';
import { probeContext } from '../../fixtures/probe-context.ts';
import { databaseConfig, silent } from '../../postgres/bigbrotr.ts';
import { archiveTest } from '../../postgres/fixtures.ts';
import { relayAddress } from '../../relay/relays.ts';
import { startScriptedRelay } from '../../relay/scripted-relay.ts';

const test = archiveTest
  .extend(
    'insert',
    ({ bigbrotr }) =>
      async (...snapshots: SnapshotRow[]) =>
        (await bigbrotr.insertSnapshots(snapshots)).added,
  )
  .extend(
    'count',
    ({ database }) =>
      async (table: string) =>
        Number(
          (await database.query<{ count: string }>(`select count(*) from ${table}`))[0]?.count,
        ),
  )
  .extend('relayOf', ({ bigbrotr }) => async (name: string) => {
    const [relay] = await bigbrotr.relaysOf([address(name)]);
    if (!relay) throw new Error(`no relay ${name}`);
    return relay;
  });

const NOW = Math.floor(Date.now() / 1000);
const OPEN = { openable: true, readable: true, writable: false, rtt_open: 5, rtt_read: 7 };
const address = (name: string) => relayAddress(`wss://${name}.example.com`);

const good = (name: string, data: object = {}, duration_ms = 10): CheckRow => ({
  ...{ name, success: true, reason: null, data, duration_ms },
});
const bad = (name: string, reason: string, duration_ms = 10): CheckRow => ({
  ...{ name, success: false, reason, data: null, duration_ms },
});
const snapshot = (
  name: string,
  generatedAt: number,
  checks?: readonly CheckRow[],
): SnapshotRow => ({
  ...{ relay: address(name), generatedAt, nip11: null, nip66: OPEN },
  ...(checks && { checks }),
});
describe('check_results', () => {
  test('holds each result once, whatever its duration and relay', async ({
    insert,
    count,
    database,
  }) => {
    expect(
      await insert(
        snapshot('a', NOW, [good('open', {}, 3), bad('read', 'timeout', 10_000)]),
        snapshot('a', NOW + 9, [good('open', {}, 4), bad('read', 'timeout', 9999)]),
        snapshot('b', NOW, [good('open', {}, 5), bad('read', 'closed', 1)]),
      ),
    ).toBe(3);
    expect(await count('check_results')).toBe(3);
    const rows = await database.query(
      'select * from relay_checks order by relay_url, generated_at, name',
    );
    const row = (relay: string, generated_at: number, check: CheckRow) => ({
      ...{ relay_url: `wss://${relay}.example.com`, generated_at: String(generated_at) },
      ...{ name: check.name, success: check.success, duration_ms: check.duration_ms },
      ...{ reason: check.reason, data: check.data },
    });
    expect(rows).toEqual([
      row('a', NOW, good('open', {}, 3)),
      row('a', NOW, bad('read', 'timeout', 10_000)),
      row('a', NOW + 9, good('open', {}, 4)),
      row('a', NOW + 9, bad('read', 'timeout', 9999)),
      row('b', NOW, good('open', {}, 5)),
      row('b', NOW, bad('read', 'closed', 1)),
    ]);
    const latest = await database.query(
      'select relay_url, generated_at, name from relay_checks_latest order by 1, 3',
    );
    expect(latest).toHaveLength(4);
    expect(latest[0]).toMatchObject({ generated_at: String(NOW + 9) });
  });

  test('is unchanged when the results are written twice', async ({ insert, database }) => {
    const rows = [snapshot('a', NOW, [good('open'), good('dns', { a: ['192.0.2.1'], ttl: 9 })])];
    expect(await insert(...rows)).toBe(1);
    const before = await database.query('select * from relay_checks');
    expect(await insert(...rows)).toBe(0);
    expect(await database.query('select * from relay_checks')).toEqual(before);
  });

  test('holds one result of dns while its TTL decreases, with the largest TTL', async ({
    insert,
    database,
  }) => {
    const dns = (ttl: number | null) => good('dns', { a: ['192.0.2.1'], ttl });
    for (const [index, ttl] of [100, 7, 300, 299, null].entries())
      await insert(snapshot('a', NOW + index, [dns(ttl)]));
    await insert(snapshot('b', NOW, [dns(40)]), snapshot('c', NOW, [dns(600)]));
    expect(await database.query("select data ->> 'ttl' as ttl from check_results")).toEqual([
      { ttl: '600' },
    ]);
  });

  test('uses no keys for known results', async ({ insert, database }) => {
    for (let round = 0; round < 20; round += 1)
      await insert(snapshot('a', NOW + round, [good('open'), bad('read', 'timeout')]));
    await insert(snapshot('a', NOW + 99, [good('tls', { valid: true })]));
    const [last] = await database.query('select max(result_id) as key from check_results');
    expect(last).toEqual({ key: 3 });
  });

  test('may have no results for a snapshot of an older version', async ({
    insert,
    database,
    count,
  }) => {
    await insert(snapshot('a', NOW));
    await database.query(
      `select insert_relay_metadata('wss://b.example.com', 'clearnet', 1, null, $1)`,
      [JSON.stringify(OPEN)],
    );
    expect(await count('relay_metadata')).toBe(2);
    expect(await count('relay_checks')).toBe(0);
    expect(await database.query('select relay_url, country, nip77 from relay_facts')).toHaveLength(
      2,
    );
  });

  test('holds each result of four concurrent writers once', async ({ database, count }) => {
    const writers = await Promise.all(
      Array.from({ length: 4 }, () => Bigbrotr.connect(databaseConfig(database), silent)),
    );
    const chunk = (writer: number) =>
      Array.from({ length: 50 }, (_, index) =>
        snapshot(`w${writer}-${index}`, NOW, [
          bad('open', `r${(index * (writer + 7)) % 50}`),
          bad('nip11', `r${(index * (writer + 3)) % 50}`),
        ]),
      );
    await Promise.all(writers.map((writer, index) => writer.insertSnapshots(chunk(index))));
    await Promise.all(writers.map((writer) => writer.close()));
    expect(await count('relay_checks')).toBe(400);
    expect(await count('check_results')).toBe(100);
  });
});

test('by property: any server name and document can be stored', async ({ insert, database }) => {
  const odd = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 300 }),
    fc.constantFrom('\u0000', '\ud800', '\udc00x', '\\u0000', '\ufffe', `${'x'.repeat(499)}💥`),
  );
  const names = fc.sample(odd, 300);
  const bodies = fc
    .sample(fc.record({ name: odd, extra: fc.jsonValue() }), 100)
    .map((document) => JSON.stringify(document));
  const rows = [
    ...names.map((server) => good('http', readHttp({ server }))),
    ...names.map((name) => good('geo', readGeo('', { city: cityOf(name), asn: null }))),
    ...bodies.map((raw) => good('nip11', { raw, dropped: 0 })),
  ];
  expect(await insert(...rows.map((row, index) => snapshot('a', NOW + index, [row])))).toBe(700);
  const stored = await database.query<{ raw: string }>(
    "select data ->> 'raw' as raw from relay_checks where name = 'nip11' order by generated_at",
  );
  expect(stored.map(({ raw }) => raw)).toEqual(bodies);
});

const cityOf = (name: string) => ({
  get: () => ({ country: { iso_code: 'CH' }, city: { names: { en: name } } }),
});

describe('check_results without references', () => {
  test('are deleted; those of a snapshot or carried_checks stay', async ({
    insert,
    database,
    count,
  }) => {
    await insert(
      snapshot('gone', NOW, [good('open'), bad('read', 'timeout')]),
      snapshot('kept', NOW, [good('open'), bad('read', 'closed')]),
    );
    const carried = { fresh_until: NOW + 9, etag: null, last_modified: null };
    await insert(snapshot('kept', NOW + 1, [{ ...good('nip11', { raw: '{}' }), carried }]));
    await database.query('delete from snapshots where generated_at = $1', [NOW + 1]);
    await database.query("delete from relays where url like '%gone%'");
    const remove = () => database.query('select delete_orphan_check_results() as deleted');
    expect(await remove()).toEqual([{ deleted: '1' }]);
    expect(await remove()).toEqual([{ deleted: '0' }]);
    expect(await database.query('select name, reason from check_results order by name')).toEqual([
      { name: 'nip11', reason: null },
      { name: 'open', reason: null },
      { name: 'read', reason: 'closed' },
    ]);
    expect(await count('relay_checks')).toBe(2);
  });
});

describe('carried_checks', () => {
  const terms = (fresh_until: number, etag: string | null = null) => ({
    ...{ fresh_until, etag, last_modified: null },
  });
  const capabilities = { nip45: true, nip50: null, nip67: false, nip77: true, maxLimit: 500 };

  test('returns a result for the next check of that relay only', async ({
    insert,
    bigbrotr,
    relayOf,
    count,
  }) => {
    await insert(
      snapshot('a', NOW, [
        { ...good('nip11', { raw: '{"name":"A"}', dropped: 0 }, 77), carried: terms(5, '"x"') },
        { ...good('capabilities', capabilities, 900), carried: terms(NOW + 100) },
      ]),
    );
    await insert(snapshot('a', NOW + 5, [good('capabilities', capabilities, 900)]));
    const carried = readCarried(await bigbrotr.carriedChecks(await relayOf('a')));
    expect(carried).toEqual({
      nip11: {
        ...{ durationMs: 77, freshUntil: 5, etag: '"x"', lastModified: null },
        data: { document: expect.objectContaining({ name: 'A' }), raw: '{"name":"A"}', dropped: 0 },
      },
      capabilities: {
        ...{ durationMs: 900, freshUntil: NOW + 100, etag: null, lastModified: null },
        data: capabilities,
      },
    });
    expect(await bigbrotr.carriedChecks(await relayOf('b'))).toEqual([]);
    expect(await count('check_results')).toBe(2);
  });

  test('keeps the newest result', async ({ insert, bigbrotr, relayOf }) => {
    const at = (generatedAt: number, raw: string) =>
      insert(
        snapshot('a', generatedAt, [{ ...good('nip11', { raw }), carried: terms(generatedAt) }]),
      );
    await at(NOW, 'first');
    await at(NOW + 10, 'second');
    await at(NOW + 5, 'late');
    expect(await bigbrotr.carriedChecks(await relayOf('a'))).toMatchObject([
      { freshUntil: NOW + 10, data: { raw: 'second' } },
    ]);
  });
});

describe('relay_facts', () => {
  test('has the results of the latest checks in one row', async ({ insert, database }) => {
    await insert(
      snapshot('a', NOW - 9, [good('geo', { country: 'DE' })]),
      snapshot('a', NOW, [
        good('geo', { country: 'CH', city: 'Zurich', geohash: 'u0qj' }),
        good('net', { ip: '192.0.2.1', asn: 4_200_000_000, organisation: 'Host' }),
        good('tls', { valid: true, problem: null, issuer: 'CA', notAfter: NOW + 99 }),
        good('http', { server: 'nginx' }),
        good('capabilities', {
          nip45: true,
          nip50: null,
          nip67: false,
          nip77: true,
          maxLimit: 500,
        }),
      ]),
      snapshot('b', NOW, [bad('open', 'dns'), bad('dns', 'not_found')]),
    );
    const [a, b] = await database.query('select * from relay_facts order by relay_url');
    expect(a).toMatchObject({
      ...{ relay_url: 'wss://a.example.com', network: 'clearnet', rtt_read: 7, readable: true },
      ...{ country: 'CH', city: 'Zurich', geohash: 'u0qj', ip: '192.0.2.1', asn: '4200000000' },
      ...{ organisation: 'Host', tls_valid: true, tls_problem: null, tls_issuer: 'CA' },
      ...{ tls_not_after: String(NOW + 99), http_server: 'nginx', max_limit: 500 },
      ...{ nip45: true, nip50: null, nip67: false, nip77: true },
    });
    expect(b).toMatchObject({ country: null, tls_valid: null, nip77: null, max_limit: null });
  });

  test('of one relay uses indexes', async ({ insert, database }) => {
    await insert(
      ...Array.from({ length: 300 }, (_, index) => snapshot(`r${index}`, NOW, [good('open')])),
    );
    await database.query('analyze relays, snapshots, check_results');
    for (const view of ['relay_facts', 'relay_checks_latest', 'relay_checks']) {
      const plan = await database.query<{ 'QUERY PLAN': string }>(
        `explain select * from ${view} where relay_url = 'wss://r7.example.com'`,
      );
      const text = plan.map((line) => line['QUERY PLAN']).join('\n');
      expect(text).toMatch(/Index.* using relays_url_key/);
      expect(text).toMatch(/snapshots_pkey/);
    }
  });
});

test('insertSnapshots adds an unknown relay with every result', async ({ bigbrotr, database }) => {
  const relay = await startScriptedRelay({
    events: signedEvents(3, { from: 1, to: 9, kinds: [1] }),
    verbs: {
      COUNT: ([, id], reply) => reply('COUNT', id, { count: 1 }),
      'NEG-OPEN': ([, id], reply) => reply('NEG-ERR', id, 'disabled'),
    },
    nip11: { document: { name: 'Nul \u0000', odd: '\ud800', supported_nips: [1, 77] } },
  });
  try {
    const place = { get: () => ({ country: { iso_code: 'CH' } }) };
    const context = probeContext({
      selected: new Set(checkNames),
      geoip: { city: place, asn: null },
    });
    const snapshotted = await probeRelay(
      { url: relay.url as RelayUrl, network: 'clearnet' },
      context,
    );
    await new SnapshotWriter(bigbrotr, 1).write(snapshotted);
    const rows = await database.query<{ name: string; success: boolean; data: object }>(
      `select name, success, data from relay_checks_latest order by array_position($1::text[], name::text)`,
      [checkNames],
    );
    const wanted = checkNames.filter((name) => name !== 'tls' && name !== 'dns');
    expect(rows.map(({ name, success }) => [name, success])).toEqual(
      wanted.map((name) => [name, true]),
    );
    const { data } = rows.find(({ name }) => name === 'nip11') ?? {};
    expect(data).toEqual({ raw: expect.stringContaining('\\u0000'), dropped: 2 });
    const claimed = await database.query(
      "select relay_url from relay_facts where supported_nips @> '77' and not nip77",
    );
    expect(claimed).toHaveLength(1);
  } finally {
    await relay.stop();
  }
});

test('the latest change of a relay between up and down is found, whatever was unknown between', async ({
  bigbrotr,
  database,
}) => {
  const [changed, steady] = await bigbrotr.relaysOf([address('changed'), address('steady')]);
  const write = (relay = changed, ...rows: readonly [string, number, number | null][]) =>
    Promise.all(
      rows.map(([state, from, to]) =>
        database.query(
          'insert into relay_states (relay_id, state, from_at, to_at) values ($1, $2, $3, $4)',
          [relay?.relayId, state, from, to],
        ),
      ),
    );
  await write(changed, ['up', 1, 2], ['unknown', 2, 3], ['down', 3, 4], ['unknown', 4, 5]);
  await write(changed, ['down', 5, null]);
  await write(steady, ['up', 1, 2], ['unknown', 2, 3], ['up', 3, null]);
  const change = (relay = changed) => relay && bigbrotr.reports.stateChange(relay);
  expect(await change(changed)).toEqual({ state: 'down', since: 3 });
  expect(await change(steady)).toBeNull();
});
