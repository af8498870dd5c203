import { isIP } from 'node:net';
import { availableParallelism } from 'node:os';
import { describe, expect, test } from 'vitest';
import {
  type Environment,
  loadAllConfigs,
  loadFinderConfig,
  loadInitializerConfig,
  loadMonitorConfig,
  loadSynchronizerConfig,
} from '../../../src/config/load.ts';
import { allVariables } from '../../../src/config/schema.ts';
import { checkNames } from '../../../src/nostr/check-result.ts';
import {
  good,
  monitor,
  POSTGRES_PASSWORD,
  PUBLIC_KEY,
  problems,
  SECRET_KEY,
  sync,
} from '../../fixtures/configuration.ts';

describe('default configuration', () => {
  test('sets every field of the monitor', () => {
    expect(loadMonitorConfig(good)).toEqual({
      service: 'monitor',
      logLevel: 'info',
      allowPrivateRelays: false,
      shutdownTimeoutMs: 10_000,
      database: {
        host: '127.0.0.1',
        port: 5432,
        user: 'bigbrotr',
        password: POSTGRES_PASSWORD,
        database: 'bigbrotr',
        minPool: 2,
        maxPool: 5,
        shards: 1,
        commandTimeoutMs: 60_000,
      },
      tor: null,
      networkTest: { names: expect.any(Array), addresses: expect.any(Array) },
      blocklistPath: null,
      health: { host: '127.0.0.1', port: 8081, portVariable: 'MONITOR_HEALTH_PORT' },
      keys: { secretKey: SECRET_KEY, publicKey: PUBLIC_KEY },
      frequencySeconds: 8 * 3600,
      chunkSize: 50,
      numCores: 1,
      requestsPerCore: 100,
      timeoutsMs: { clearnet: 10_000, tor: 30_000 },
      eventFilter: {},
      checks: [...checkNames],
      capabilitiesFrequencySeconds: 86_400,
      geoip: { cityPath: null, asnPath: null },
      publish: null,
      webhooks: [],
      apiPublicUrl: null,
      loopIntervalSeconds: 900,
      warnings: [],
    });
  });

  test('gives monitor and finder the filter of the synchronizers', () => {
    const env = { ...good, SYNCHRONIZER_EVENT_FILTER: '{"kinds":[1]}' };
    expect(loadMonitorConfig(env).eventFilter).toEqual({ kinds: [1] });
    expect(loadFinderConfig(env).eventFilter).toEqual({ kinds: [1] });
  });

  test('tests our network with well-known hosts, except on test networks, or with NETWORK_TEST_HOSTS', () => {
    const tested = (env: Environment) => monitor(env).networkTest;
    expect(tested({})?.names).toContain('iana.org');
    const families = tested({})?.addresses.map(({ host }) => isIP(host));
    expect(new Set(families)).toEqual(new Set([4, 6]));
    expect(tested({ ALLOW_PRIVATE_RELAYS: 'true' })).toBe(null);
    expect(tested({ NETWORK_TEST_HOSTS: 'none' })).toBe(null);
    const NETWORK_TEST_HOSTS = 'example.com 192.0.2.1, [2001:db8::1]:53 192.0.2.2:7777 2001:db8::2';
    expect(tested({ NETWORK_TEST_HOSTS, ALLOW_PRIVATE_RELAYS: 'true' })).toEqual({
      names: ['example.com'],
      addresses: [
        { host: '192.0.2.1', port: 443 },
        { host: '2001:db8::1', port: 53 },
        { host: '192.0.2.2', port: 7777 },
        { host: '2001:db8::2', port: 443 },
      ],
    });
    for (const wrong of ['192.0.2.1:0', '192.0.2.300', '[192.0.2.1]:80', 'localhost', 'a.b/c'])
      expect(problems(() => monitor({ NETWORK_TEST_HOSTS: wrong }))).toEqual([
        `NETWORK_TEST_HOSTS must hold names, and addresses such as 192.0.2.1:443 or [2001:db8::1]:443, not "${wrong}".`,
      ]);
  });

  test('MONITOR_REQUEST_TIMEOUT overrides the deadlines of the networks', () => {
    const timeouts = (env: Environment) => monitor(env).timeoutsMs;
    expect(timeouts({ MONITOR_CLEARNET_TIMEOUT: '7' })).toEqual({ clearnet: 7000, tor: 30_000 });
    expect(timeouts({ MONITOR_TOR_TIMEOUT: '60' })).toEqual({ clearnet: 10_000, tor: 60_000 });
    expect(timeouts({ MONITOR_REQUEST_TIMEOUT: '20', MONITOR_TOR_TIMEOUT: '60' })).toEqual({
      clearnet: 20_000,
      tor: 20_000,
    });
    expect(problems(() => monitor({ MONITOR_REQUEST_TIMEOUT: '20s' }))).toEqual([
      'MONITOR_REQUEST_TIMEOUT must be a whole number of seconds from 1 to 600, not "20s".',
    ]);
  });

  test('differs between the two synchronizers in port and live subscriptions only', () => {
    const env = { POSTGRES_PASSWORD };
    const plain = loadSynchronizerConfig('synchronizer', env);
    const priority = loadSynchronizerConfig('priority-synchronizer', env);
    expect(plain).toMatchObject({
      keys: null,
      live: false,
      startTimestamp: 0,
      stopTimestamp: 'now',
      eventFilter: {},
      priorityRelaysPath: './priority_relays.txt',
      relayMetadataThresholdSeconds: 12 * 3600,
      loopIntervalSeconds: 900,
      batchSize: 500,
      overlapSeconds: 3600,
      reproveSeconds: 30 * 86_400,
      health: { port: 8082, portVariable: 'SYNCHRONIZER_HEALTH_PORT' },
    });
    expect(priority).toEqual({
      ...plain,
      service: 'priority-synchronizer',
      live: true,
      health: {
        host: '127.0.0.1',
        port: 8083,
        portVariable: 'PRIORITY_SYNCHRONIZER_HEALTH_PORT',
      },
    });
  });

  test('of the initializer needs a password and no keys', () => {
    const config = loadInitializerConfig({ POSTGRES_PASSWORD });
    expect(config).toMatchObject({ seedRelaysPath: './seed_relays.txt', warnings: [] });
    expect(config.database).toMatchObject({ minPool: 0, maxPool: 1 });
    expect(config.owner).toEqual(config.database);
    expect(config).not.toHaveProperty('keys');
  });

  test('can be cloned to a worker thread', () => {
    const all = loadAllConfigs(good);
    expect(structuredClone(all)).toEqual(all);
    expect(all.initSqlPath).toBe('./init.sql');
  });

  test('treats an empty variable as unset', () => {
    const empty = Object.fromEntries(Object.keys(allVariables).map((name) => [name, '']));
    expect(monitor({ ...empty, ...good })).toEqual(loadMonitorConfig(good));
  });
});

describe('values of variables', () => {
  test('are converted to the units that their fields name', () => {
    const config = sync({
      POSTGRES_HOST: '/var/run/postgresql',
      POSTGRES_PORT: '6432',
      TORPROXY_HOST: 'torproxy',
      TORPROXY_PORT: '9150',
      RELAY_BLOCKLIST_PATH: 'blocked.txt',
      LOG_LEVEL: 'DEBUG',
      ALLOW_PRIVATE_RELAYS: 'Yes',
      SHUTDOWN_TIMEOUT_SECONDS: '3',
      HEALTH_HOST: '::1',
      SYNCHRONIZER_HEALTH_PORT: '0',
      SYNCHRONIZER_START_TIMESTAMP: '-1',
      SYNCHRONIZER_STOP_TIMESTAMP: '1700000000',
      SYNCHRONIZER_EVENT_FILTER: `{"kinds":[0,65535],"authors":["${PUBLIC_KEY}"],"#t":["Nostr"]}`,
      SYNCHRONIZER_REQUEST_TIMEOUT: '7',
      SYNCHRONIZER_LIVE: '1',
    });
    expect(config).toMatchObject({
      database: { host: '/var/run/postgresql', port: 6432 },
      tor: { host: 'torproxy', port: 9150 },
      blocklistPath: 'blocked.txt',
      logLevel: 'debug',
      allowPrivateRelays: true,
      shutdownTimeoutMs: 3000,
      health: { host: '::1', port: 0 },
      startTimestamp: 'resume',
      stopTimestamp: 1_700_000_000,
      requestTimeoutMs: 7000,
      live: true,
    });
    expect(config.eventFilter).toEqual({
      kinds: [0, 65535],
      authors: [PUBLIC_KEY],
      '#t': ['Nostr'],
    });
  });

  test('are shared by the two synchronizers', () => {
    const env = {
      ...good,
      SYNCHRONIZER_BATCH_SIZE: '77',
      SYNCHRONIZER_LIVE: 'true',
      SYNCHRONIZER_HEALTH_PORT: '1',
      PRIORITY_SYNCHRONIZER_LIVE: 'false',
      PRIORITY_SYNCHRONIZER_HEALTH_PORT: '9',
    };
    expect(loadSynchronizerConfig('priority-synchronizer', env)).toMatchObject({
      batchSize: 77,
      live: false,
      health: { port: 9 },
    });
  });

  test.each(['true', 'TRUE', '1', 'yes'])('parse %s as true', (text) => {
    expect(monitor({ ALLOW_PRIVATE_RELAYS: text }).allowPrivateRelays).toBe(true);
  });
  test.each(['false', 'False', '0', 'NO'])('parse %s as false', (text) => {
    expect(monitor({ ALLOW_PRIVATE_RELAYS: text }).allowPrivateRelays).toBe(false);
  });

  test('accept keys in upper case', () => {
    const env = { SECRET_KEY: SECRET_KEY.toUpperCase(), PUBLIC_KEY: PUBLIC_KEY.toUpperCase() };
    expect(monitor(env).keys).toEqual({ secretKey: SECRET_KEY, publicKey: PUBLIC_KEY });
  });

  test('let the initializer migrate as the owner, without PgBouncer', () => {
    const config = loadInitializerConfig({
      ...{ POSTGRES_PASSWORD, POSTGRES_HOST: 'pgbouncer', POSTGRES_PORT: '6432' },
      ...{ POSTGRES_OWNER_PASSWORD: 'theirs', POSTGRES_DIRECT_HOST: 'postgres' },
    });
    expect(config.database).toMatchObject({ host: 'pgbouncer', port: 6432, user: 'bigbrotr' });
    expect(config.owner).toMatchObject({ host: 'postgres', port: 5432, user: 'bigbrotr_owner' });
    expect(config.owner.password).toBe('theirs');
  });

  test('are lowered with a warning for more cores than the machine has', () => {
    const wanted = availableParallelism() + 1;
    const config = monitor({ MONITOR_NUM_CORES: `${wanted}` });
    expect(config.numCores).toBe(availableParallelism());
    expect(config.warnings).toEqual([
      `MONITOR_NUM_CORES is lowered from ${wanted} to ${availableParallelism()}: this machine has no more cores.`,
    ]);
    const priority = { ...good, PRIORITY_SYNCHRONIZER_NUM_CORES: `${wanted}` };
    expect(loadSynchronizerConfig('priority-synchronizer', priority)).toMatchObject({
      numCores: availableParallelism(),
      warnings: [expect.stringContaining('PRIORITY_SYNCHRONIZER_NUM_CORES')],
    });
  });
});

describe('MONITOR_PUBLISH_RELAYS', () => {
  const ONION = 'ws://oxtrdevav64z64yb7x6rjg4ntzqjhedm5b5zjqulugknhzr46ny2qbad.onion';

  test('is a list of relays, each once and normalised', () => {
    const MONITOR_PUBLISH_RELAYS =
      ' wss://Relay.damus.io/, wss://nos.lol ,wss://relay.damus.io:443,';
    const { publish } = monitor({ MONITOR_PUBLISH_RELAYS, MONITOR_PUBLISH_GEOHASH: 'u33db' });
    const relays = ['wss://relay.damus.io', 'wss://nos.lol'];
    expect(publish).toEqual({ relays, name: 'Bigbrotr', geohash: 'u33db' });
    expect(monitor({ MONITOR_PUBLISH_RELAYS: ' , ' }).publish).toBe(null);
  });

  test('reports all its problems at once', () => {
    const MONITOR_PUBLISH_RELAYS = 'https://relay.damus.io,relay,wss://nos.lol';
    expect(
      problems(() => monitor({ MONITOR_PUBLISH_RELAYS, MONITOR_PUBLISH_GEOHASH: 'ail' })),
    ).toEqual([
      expect.stringMatching(
        /^MONITOR_PUBLISH_RELAYS names "https:.* is no relay URL: http is not a scheme/,
      ),
      expect.stringMatching(/^MONITOR_PUBLISH_RELAYS names "relay", which is no relay URL/),
      expect.stringMatching(/^MONITOR_PUBLISH_GEOHASH must be a geohash/),
    ]);
  });

  test.each([
    ['ws://127.0.0.1:7777', /loopback/],
    ['wss://10.0.0.1', /private/],
    ['ws://database', /without a dot/],
    [ONION, /needs Tor: set TORPROXY_HOST/],
    ['ws://relay.i2p', /no way into i2p/],
  ])('refuses %s, to which no connection is possible', (MONITOR_PUBLISH_RELAYS, why) => {
    expect(problems(() => monitor({ MONITOR_PUBLISH_RELAYS }))).toEqual([
      expect.stringMatching(why),
    ]);
  });

  test('accepts onion services with Tor, and private addresses if they are allowed', () => {
    const MONITOR_PUBLISH_RELAYS = `${ONION},ws://127.0.0.1:7777`;
    const allowed = { TORPROXY_HOST: 'tor', ALLOW_PRIVATE_RELAYS: 'true' };
    expect(monitor({ MONITOR_PUBLISH_RELAYS, ...allowed }).publish?.relays).toHaveLength(2);
  });
});

describe('MONITOR_CHECKS', () => {
  test('is a list in any order and spelling, each name once', () => {
    expect(monitor({ MONITOR_CHECKS: ' Read, open ,dns,dns' }).checks).toEqual([
      'open',
      'read',
      'dns',
    ]);
  });

  test('reports each unknown name, and required ones that are missing', () => {
    expect(problems(() => monitor({ MONITOR_CHECKS: 'read,ssl,,dns' }))).toEqual([
      expect.stringMatching(/^MONITOR_CHECKS holds "ssl": a check is one of open, read, write/),
      expect.stringMatching(/^MONITOR_CHECKS holds ""/),
      'MONITOR_CHECKS must hold open: the synchronizers depend on their results.',
    ]);
  });
});
