import { describe, expect } from 'vitest';
import {
  AT_ONCE,
  HOLDER,
  invented,
  named,
  finderTest as test,
} from '../../fixtures/finder-test.ts';

/** Claimed where there is no candidate. */
const NOBODY = { nameId: 0 };

describe('limits of waiting names', () => {
  test('apply to each author, and not to the lists of the operator', async ({ bigbrotr }) => {
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

  test('apply to each host, whatever the path and the author', async ({ bigbrotr, database }) => {
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

  test('never exclude the URL of a host without a path', async ({ bigbrotr }) => {
    await bigbrotr.finder.record(
      named(
        0,
        Array.from({ length: 30 }, (_, n) => `wss://host.net/${n}`),
      ),
    );
    const written = await bigbrotr.finder.record(named(1, ['wss://host.net', 'wss://host.net/31']));
    expect(written).toEqual({ names: 2, candidates: 1, crowded: 1 });
  });

  test('drop the names that failed most often and those with the fewest authors', async ({
    bigbrotr,
    database,
  }) => {
    await bigbrotr.finder.record(named(0, invented(30)));
    await bigbrotr.finder.record(named(1, invented(10)));
    const failed = await bigbrotr.finder.claim(5, ['clearnet'], HOLDER);
    for (const candidate of failed) await bigbrotr.finder.putOff(candidate, 'refused');
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
  test('of one author are limited to sixty an hour, and do not delay those of others', async ({
    bigbrotr,
    claimAll,
    database,
  }) => {
    await bigbrotr.finder.record(named(0, invented(2000)));
    await bigbrotr.finder.record(named(1, ['wss://honest.net']));
    const first = await bigbrotr.finder.claim(2, ['clearnet'], HOLDER);
    expect(first.map(({ url }) => url)).toContain('wss://honest.net');
    expect(await claimAll()).toHaveLength(59);
    await bigbrotr.finder.record(named(2, ['wss://later.net', 'wss://invented-1999.net']));
    expect((await claimAll()).map(({ url }) => url).sort()).toEqual([
      'wss://invented-1999.net', // named by another author, and charged to that one
      'wss://later.net',
    ]);
    await database.query('update named_relays set last_try_at = last_try_at - 3601');
    expect(await claimAll()).toHaveLength(60);
  });

  test('under one domain are limited to thirty an hour, however many authors name them', async ({
    bigbrotr,
    claimAll,
  }) => {
    for (let author = 0; author < 40; author += 1)
      await bigbrotr.finder.record(named(author, [`wss://n${author}.wild.net`]));
    await bigbrotr.finder.record(named(0, ['wss://tame.net']));
    const claimed = await claimAll();
    expect(claimed).toHaveLength(31);
    expect(claimed.map(({ url }) => url)).toContain('wss://tame.net');
  });

  test('under a domain with two thousand relays are not claimed', async ({
    bigbrotr,
    database,
    claimAll,
  }) => {
    await bigbrotr.finder.record(named(0, ['wss://a.wild.co.uk', 'wss://tame.co.uk']));
    await database.query(
      `insert into named_relays (url, network, host, domain, times, first_named_at, first_source, last_named_at, authors, answered_at)
       select 'wss://' || n || '.wild.co.uk', 'clearnet', n || '.wild.co.uk', 'wild.co.uk', 1, 1, 'list', 1, '{""}', 1
       from generate_series(1, 2000) n`,
    );
    expect(await claimAll()).toMatchObject([{ url: 'wss://tame.co.uk' }]);
  });

  test('are claimed once, and again after ten minutes without a result', async ({
    bigbrotr,
    claimAll,
    database,
  }) => {
    await bigbrotr.finder.record(named(0, ['wss://a.net']));
    const [both] = await Promise.all([
      Promise.all([1, 2].map(() => bigbrotr.finder.claim(10, ['clearnet'], HOLDER))),
    ]);
    expect(both.flat()).toHaveLength(1);
    expect(await claimAll()).toEqual([]);
    await database.query('update claims set until = unix_now() - 1');
    expect(await claimAll()).toHaveLength(1);
  });

  test('of an unreachable network are not claimed', async ({ bigbrotr, claimAll }) => {
    const onion = 'ws://gnostr2jnapk72mnagq3cuykfon73temzp77hcbncn4silgt77boruid.onion';
    await bigbrotr.finder.record(named(0, [onion]));
    expect(await claimAll()).toEqual([]);
    expect(await bigbrotr.finder.claim(10, ['clearnet', 'tor'], HOLDER)).toMatchObject([
      { url: onion },
    ]);
  });

  test('become relays once when they answer', async ({ bigbrotr, database, provenance }) => {
    await bigbrotr.finder.record(named(0, ['wss://a.net']));
    const [candidate] = await bigbrotr.finder.claim(10, ['clearnet'], HOLDER);
    if (!candidate) throw new Error('there is no candidate');
    expect(await bigbrotr.finder.promote(candidate)).toBe(true);
    expect(await bigbrotr.finder.promote(candidate)).toBe(false);
    expect(await database.query('select from relay_candidates')).toEqual([]);
    expect(await provenance()).toMatchObject([{ relay_url: 'wss://a.net', state: 'relay' }]);
    expect((await bigbrotr.relaysToCheck(AT_ONCE)).map(({ url }) => url)).toContain('wss://a.net');
    await bigbrotr.finder.record(named(1, ['wss://a.net']));
    expect(await bigbrotr.finder.claim(10, ['clearnet'], HOLDER)).toEqual([]);
  });

  test('that became relays in another way are removed', async ({
    bigbrotr,
    database,
    relay,
    claimAll,
  }) => {
    await bigbrotr.finder.record(named(0, [relay.url, 'wss://a.net']));
    await database.query(`select insert_relay('wss://a.net', 'clearnet')`);
    expect(await database.query('select from relay_candidates')).toEqual([]);
    await bigbrotr.finder.tidy();
    expect(await claimAll()).toEqual([]);
  });

  test('that never answer are retried with back-off, and dropped after two months', async ({
    bigbrotr,
    claimAll,
    database,
    provenance,
  }) => {
    await bigbrotr.finder.record(named(0, ['wss://a.net']));
    const waits: number[] = [];
    for (let tries = 0; tries < 7; tries += 1) {
      const [candidate] = await claimAll();
      await bigbrotr.finder.putOff(candidate ?? NOBODY, 'refused');
      const [row] = await database.query<{ wait: string }>(
        'select next_try_at - unix_now() as wait from named_relays',
      );
      waits.push(Number(row?.wait));
      await database.query('update named_relays set next_try_at = 1, last_try_at = 1');
      await database.query('truncate claims');
    }
    const hours = [2, 8, 24, 72, 168, 336, 672];
    for (const [index, wait] of waits.entries()) {
      expect(wait).toBeGreaterThanOrEqual((hours[index] ?? 0) * 3600 * 0.75 - 5);
      expect(wait).toBeLessThanOrEqual((hours[index] ?? 0) * 3600 * 1.25);
    }
    const [last] = await claimAll();
    await bigbrotr.finder.putOff(last ?? NOBODY, 'refused');
    expect(await provenance()).toMatchObject([{ relay_url: 'wss://a.net', state: 'dropped' }]);

    await bigbrotr.finder.record(named(0, ['wss://a.net']));
    expect(await claimAll()).toEqual([]); // named by the same author again
    await bigbrotr.finder.record(named(1, ['wss://a.net']));
    await database.query('truncate claims');
    const [revived] = await claimAll();
    await bigbrotr.finder.putOff(revived ?? NOBODY, 'refused');
    const [row] = await database.query('select tries from relay_candidates');
    expect(row).toEqual({ tries: 5 });
  });
});
