/**
 * The address guard, against the services as processes: every adversarial URL in the seed file, in the priority list and
 * in rows that were inserted past the initializer. All of it in a network namespace where each address there is leads
 * to a listener that sees who dials it, and from which no packet can leave.
 */
import { expect } from 'vitest';
import { forbiddenAddress, forbiddenHost } from '../../src/network/address.ts';
import { parseRelayUrl, type RelayAddress } from '../../src/network/url.ts';
import { ADVERSARIAL_URLS } from '../network/adversarial-urls.ts';
import { namespaceObstacle, startGuardNamespace } from '../network/guard-namespace.ts';
import type { Entrypoint } from '../processes/stack.ts';
import { stackTest } from '../processes/stack-test.ts';

/** Names that only the namespace knows. Their spelling is harmless, some of their addresses are forbidden. */
const PUBLIC = ['93.184.215.14', '2606:4700::1111'];
const NAMES: Record<string, string[][]> = {
  'inward.bigbrotr': [['127.0.0.1']],
  'private.bigbrotr': [['10.1.2.3', '192.168.7.7', '172.20.0.2']],
  'metadata.bigbrotr': [['169.254.169.254']],
  'inward6.bigbrotr': [['::1']],
  'mapped.bigbrotr': [['::ffff:7f00:1']],
  'translated.bigbrotr': [['64:ff9b::7f00:1']],
  'unique-local.bigbrotr': [['fd00::1']],
  'mixed.bigbrotr': [['127.0.0.1', ...PUBLIC, '10.0.0.1', '::1']],
  'rebinding.bigbrotr': [PUBLIC, ['127.0.0.1', '::1']],
  'rebinding2.bigbrotr': [['127.0.0.1', '::1'], PUBLIC],
};
const NAMED = Object.keys(NAMES).map((name) => `ws://${name}:7777`);

/** Without public names and addresses, which the guard lets through: a test must not dial them. */
const URLS = ADVERSARIAL_URLS.map(({ url }) => url).filter((url) => {
  const parsed = parseRelayUrl(url);
  return !parsed.ok || parsed.network !== 'clearnet' || forbiddenHost(parsed.url) !== null;
});
const RELAYS = [...URLS, ...NAMED].flatMap((url): RelayAddress[] => {
  const parsed = parseRelayUrl(url);
  return parsed.ok ? [parsed] : [];
});
const KNOWN = new Map(RELAYS.map((relay) => [relay.url, relay]));
const PORTS = [...new Set([80, 443, ...RELAYS.map(({ url }) => portOf(url))])];
const obstacle = namespaceObstacle();
if (obstacle !== null) console.log(`skipped: the address guard as processes, ${obstacle}`);

function portOf(url: string): number {
  const { port, protocol } = new URL(url);
  return Number(port) || (protocol === 'wss:' ? 443 : 80);
}

const test = stackTest
  /** The services run in it, with a database of their own. */
  .extend('namespace', async ({ stack, database }, { onCleanup }) => {
    const { folder, env } = stack;
    const { config } = database;
    const namespace = await startGuardNamespace({
      ...{ folder, ports: PORTS, names: NAMES, database: config },
    });
    onCleanup(() => namespace.stop());
    stack.useDatabase({ ...config, host: namespace.databaseHost, port: 5432 });
    delete env.ALLOW_PRIVATE_RELAYS;
    delete env.RELAY_BLOCKLIST_PATH; // nothing leaves the namespace: only the guard may hold relays back
    Object.assign(env, {
      NETWORK_TEST_HOSTS: 'none', // what is dialled is what relays made us dial
      MONITOR_REQUESTS_PER_CORE: '200',
      SYNCHRONIZER_REQUESTS_PER_CORE: '200',
      PRIORITY_SYNCHRONIZER_LIVE: 'false',
      LOG_LEVEL: 'debug',
    });
    return namespace;
  })
  .extend(
    'run',
    ({ stack, namespace }) =>
      (entrypoint: Entrypoint, env: Record<string, string> = {}) =>
        namespace.run(entrypoint, ['--once'], { ...stack.env, ...env }),
  )
  /** Expects that nothing forbidden was dialled and no hidden name looked up. @returns how much else was */
  .extend('expectQuiet', ({ namespace }) => async () => {
    const { dialled, asked } = await namespace.take();
    expect(forbidden(dialled)).toEqual([]);
    expect(asked.filter((name) => /(onion|i2p|loki)$/.test(name))).toEqual([]);
    // Names whose spelling is harmless must be looked up, and names of public addresses may be; no others are.
    const others = [...new Set(asked)].filter((name) => NAMES[name] === undefined);
    expect(others.filter((name) => !isNameOfPublicAddress(name))).toEqual([]);
    return { dialled: dialled.length, asked: asked.length };
  });

/** What was dialled and must not be. */
const forbidden = (dialled: readonly string[]) =>
  dialled.filter((where) => forbiddenAddress(where.split(' ')[0] ?? '') !== null);

/** What a reverse question asks about: `34.216.184.93.in-addr.arpa` (RFC 1035 section 3.5). */
function isNameOfPublicAddress(name: string): boolean {
  const octets = /^([\d.]+)\.in-addr\.arpa$/.exec(name)?.[1]?.split('.') ?? [];
  return forbiddenAddress(octets.reverse().join('.')) === null;
}

test.skipIf(obstacle !== null)(
  'no service dials a forbidden address, whoever named it',
  async ({ stack, database, run, expectQuiet }) => {
    await stack.relays([...URLS, ...NAMED], [...URLS, ...NAMED]);
    await run('initializer');
    const seeded = await database.query<{ url: string }>('select url from relays');
    expect(seeded.length).toBeGreaterThan(NAMED.length);
    for (const { url } of seeded) {
      const parsed = parseRelayUrl(url);
      expect(parsed.ok && forbiddenHost(parsed.url), url).toBe(null);
    }
    expect(await expectQuiet()).toEqual({ dialled: 0, asked: 0 });

    // Past the initializer: as they were written, and in the one form that the parser gives them.
    const storable = URLS.filter((url) => url !== '' && !/[\0\p{Surrogate}]/u.test(url));
    const texts = [...new Set([...storable, ...KNOWN.keys()])].filter(
      (url) => Buffer.byteLength(url) <= 255,
    );
    await database.query(`select insert_relay(url, 'clearnet') from unnest($1::text[]) url`, [
      texts,
    ]);
    await run('monitor');
    const monitored = await expectQuiet();
    expect(monitored.asked).toBeGreaterThan(NAMED.length);
    const reasons = await database.query<{ relay_url: string; reason: string; openable: boolean }>(
      'select relay_url, reason, openable from relay_metadata_latest',
    );
    const found = new Map(reasons.map((row) => [row.relay_url, row.reason]));
    expect(reasons.filter(({ openable }) => openable)).toEqual([]);
    for (const { url, network } of KNOWN.values()) {
      if (NAMED.includes(url)) continue;
      const reason =
        network !== 'clearnet' && forbiddenHost(url) === null ? 'no_proxy' : 'forbidden';
      // Without Tor its relays are left to other hosts: only other spellings of them, here of no network, are asked for.
      if (network === 'tor') expect(['no_proxy', 'forbidden', undefined]).toContain(found.get(url));
      else expect(found.get(url), url).toBe(reason);
    }
    for (const name of [
      'inward',
      'private',
      'metadata',
      'inward6',
      'mapped',
      'translated',
      'unique-local',
    ])
      expect(found.get(`ws://${name}.bigbrotr:7777`), name).toBe('forbidden');

    // Somebody says that all of them were readable a moment ago.
    await database.query('delete from snapshots');
    await database.query(
      `select insert_relay_metadata(url, network, unix_now(), null,
       '{"openable":true,"readable":true,"writable":true}') from relays`,
    );
    const outcomes = async () => {
      const rows = await database.query<{ detail: string; count: number }>(
        'select detail, count(*)::int from visits group by detail order by detail',
      );
      return Object.fromEntries(rows.map(({ detail, count }) => [detail, count]));
    };
    await stack.write('nobody.txt', 'wss://[::1]\n');
    await run('synchronizer', { SYNCHRONIZER_PRIORITY_RELAYS_PATH: `${stack.folder}/nobody.txt` });
    const synchronized = await expectQuiet();
    const visited = await outcomes();
    expect(visited.forbidden).toBeGreaterThan(200);
    await database.query('truncate visits, relay_manners');
    await run('priority-synchronizer');
    const prioritised = await expectQuiet();
    expect((await outcomes()).forbidden).toBeGreaterThan(100); // each once, in its one form
    expect(await database.query('select from sightings')).toEqual([]);

    // Names that are relays already are no candidates.
    await database.query('truncate relays cascade');
    // The finder has them as candidates, as lists to fetch, and as relays to hear reports from.
    await database.query(
      `insert into named_relays (url, network, host, domain, times, first_named_at, first_source, last_named_at, authors, next_try_at)
       select url, 'clearnet', url, url, 1, 0, 'list', 0, array[''::bytea], 0 from unnest($1::text[]) url`,
      [texts],
    );
    const lists = [...KNOWN.values()].filter(({ network }) => network === 'clearnet');
    const said = await run('finder', {
      FINDER_URLS: lists.map(({ url }) => url.replace(/^ws/, 'http')).join(' '),
      FINDER_REQUESTS_PER_CORE: '200',
    });
    const heard = await expectQuiet();
    expect(heard.asked).toBeGreaterThan(0);
    const tried = await database.query<{ relay_url: string; tries: number; reason: string }>(
      'select url as relay_url, tries, reason from named_relays',
    );
    expect(tried.filter(({ tries }) => tries === 0)).toEqual([]);
    expect(new Set(tried.map(({ relay_url }) => relay_url))).toEqual(new Set(texts));
    // Some names have public addresses as well, and it is those that were dialled.
    const others = tried.filter(({ relay_url }) => !/mixed|rebinding/.test(relay_url));
    expect(new Set(others.map(({ reason }) => reason))).toEqual(
      new Set(['forbidden', 'no_proxy', 'invalid']),
    );
    const refused = said.split('\n').filter((line) => line.includes('source of relays failed'));
    expect(refused.filter((line) => line.includes('"reason":"forbidden"')).length).toBeGreaterThan(
      100,
    );
    console.log(
      `${URLS.length} adversarial URLs of ${ADVERSARIAL_URLS.length} and ${NAMED.length} names, ${texts.length} rows: ` +
        `forbidden connects 0 in seed, monitor, both synchronizers and finder; ` +
        `public ones ${monitored.dialled + synchronized.dialled + prioritised.dialled}, visits ${JSON.stringify(visited)}`,
    );
  },
);

test.skipIf(obstacle !== null)(
  'forbidden addresses are dialled, and seen, with ALLOW_PRIVATE_RELAYS=true',
  async ({ database, namespace, run }) => {
    await database.query(`select insert_relay(url, 'clearnet') from unnest($1::text[]) url`, [
      [...KNOWN.keys()],
    ]);
    await run('monitor', { ALLOW_PRIVATE_RELAYS: 'true' });
    const { dialled } = await namespace.take();
    const addresses = new Set(forbidden(dialled).map((where) => where.split(' ')[0]));
    console.log(
      `allowed: ${forbidden(dialled).length} connects to ${addresses.size} forbidden addresses`,
    );
    for (const address of [
      '127.0.0.1',
      '10.0.0.5',
      '169.254.169.254',
      '100.127.255.254',
      '192.168.1.1',
    ])
      expect(addresses).toContain(address);
    expect(addresses.size).toBeGreaterThan(10);
  },
);
