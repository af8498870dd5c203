import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse } from 'dotenv';
import { generateSecretKey, getPublicKey } from 'nostr-tools/pure';
import { afterAll, describe, expect, test } from 'vitest';
import { allVariables, secretNames } from '../../src/config/schema.ts';
import {
  ConfigError,
  checkDeployment,
  type Environment,
  loadAllConfigs,
  loadDatabaseConfig,
  loadFinderConfig,
  loadInitializerConfig,
  loadMonitorConfig,
  loadSynchronizerConfig,
  readEnvironment,
} from '../../src/config.ts';
import { checkNames } from '../../src/nostr/check-result.ts';

const secret = generateSecretKey();
const SECRET_KEY = Buffer.from(secret).toString('hex');
const PUBLIC_KEY = getPublicKey(secret);
const POSTGRES_PASSWORD = 'open sesame # $5';
const good = { POSTGRES_PASSWORD, SECRET_KEY, PUBLIC_KEY } as const;
const directory = mkdtempSync(join(tmpdir(), 'bigbrotr-config-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function failure(load: () => unknown): ConfigError {
  try {
    load();
  } catch (error) {
    if (error instanceof ConfigError) return error;
    throw error;
  }
  throw new Error('the configuration was accepted');
}
const problems = (load: () => unknown) => failure(load).problems;
const monitor = (env: Environment) => loadMonitorConfig({ ...good, ...env });
const sync = (env: Environment) => loadSynchronizerConfig('synchronizer', { ...good, ...env });

function file(name: string, text: string): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  return path;
}

describe('defaults', () => {
  test('of the monitor', () => {
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
        commandTimeoutMs: 60_000,
      },
      tor: null,
      blocklistPath: null,
      health: { host: '127.0.0.1', port: 8081, portVariable: 'MONITOR_HEALTH_PORT' },
      keys: { secretKey: SECRET_KEY, publicKey: PUBLIC_KEY },
      frequencyMs: 8 * 3_600_000,
      chunkSize: 50,
      numCores: 1,
      requestsPerCore: 100,
      timeoutsMs: { clearnet: 10_000, tor: 30_000 },
      eventFilter: {},
      checks: [...checkNames],
      capabilitiesFrequencyMs: 86_400_000,
      geoip: { cityPath: null, asnPath: null },
      publish: null,
      loopIntervalMs: 900_000,
      warnings: [],
    });
  });

  test('monitor and finder ask relays with the filter that is archived', () => {
    const env = { ...good, SYNCHRONIZER_EVENT_FILTER: '{"kinds":[1]}' };
    expect(loadMonitorConfig(env).eventFilter).toEqual({ kinds: [1] });
    expect(loadFinderConfig(env).eventFilter).toEqual({ kinds: [1] });
  });

  test('one deadline for every network wins over theirs', () => {
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

  test('of the two synchronizers differ in port and live alone', () => {
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
      relayMetadataThresholdMs: 12 * 3_600_000,
      loopIntervalMs: 900_000,
      batchSize: 500,
      overlapSeconds: 3600,
      reproveMs: 30 * 86_400_000,
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

  test('of the initializer, which needs a password and no keys', () => {
    const config = loadInitializerConfig({ POSTGRES_PASSWORD });
    expect(config).toMatchObject({ seedRelaysPath: './seed_relays.txt', warnings: [] });
    expect(config.database).toMatchObject({ minPool: 0, maxPool: 1 });
    expect(config.owner).toEqual(config.database);
    expect(config).not.toHaveProperty('keys');
  });

  test('every configuration survives the way to a worker thread', () => {
    const all = loadAllConfigs(good);
    expect(structuredClone(all)).toEqual(all);
    expect(all.initSqlPath).toBe('./init.sql');
  });

  test('an empty variable is an unset one', () => {
    const empty = Object.fromEntries(Object.keys(allVariables).map((name) => [name, '']));
    expect(monitor({ ...empty, ...good })).toEqual(loadMonitorConfig(good));
  });
});

describe('values', () => {
  test('are taken over, in the units that their fields name', () => {
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

  test('the priority synchronizer takes the settings of the synchronizer', () => {
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

  test.each(['true', 'TRUE', '1', 'yes'])('%s is true', (text) => {
    expect(monitor({ ALLOW_PRIVATE_RELAYS: text }).allowPrivateRelays).toBe(true);
  });
  test.each(['false', 'False', '0', 'NO'])('%s is false', (text) => {
    expect(monitor({ ALLOW_PRIVATE_RELAYS: text }).allowPrivateRelays).toBe(false);
  });

  test('keys may be written in capitals', () => {
    const env = { SECRET_KEY: SECRET_KEY.toUpperCase(), PUBLIC_KEY: PUBLIC_KEY.toUpperCase() };
    expect(monitor(env).keys).toEqual({ secretKey: SECRET_KEY, publicKey: PUBLIC_KEY });
  });

  test('the initializer migrates as the owner, past PgBouncer', () => {
    const config = loadInitializerConfig({
      ...{ POSTGRES_PASSWORD, POSTGRES_HOST: 'pgbouncer', POSTGRES_PORT: '6432' },
      ...{ POSTGRES_OWNER_PASSWORD: 'theirs', POSTGRES_DIRECT_HOST: 'postgres' },
    });
    expect(config.database).toMatchObject({ host: 'pgbouncer', port: 6432, user: 'bigbrotr' });
    expect(config.owner).toMatchObject({ host: 'postgres', port: 5432, user: 'bigbrotr_owner' });
    expect(config.owner.password).toBe('theirs');
  });

  test('more cores than there are is lowered with a warning', () => {
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

describe('mistakes', () => {
  test.each([
    '10abc',
    '1e3',
    ' 5 ',
    '5.0',
    '0x10',
    '+5',
    '05',
    '-0',
    '５',
    '',
    '0',
    '10001',
    'NaN',
  ])('SYNCHRONIZER_BATCH_SIZE=%j', (text) => {
    if (text === '') return expect(sync({ SYNCHRONIZER_BATCH_SIZE: text }).batchSize).toBe(500);
    expect(problems(() => sync({ SYNCHRONIZER_BATCH_SIZE: text }))).toEqual([
      `SYNCHRONIZER_BATCH_SIZE must be a whole number from 1 to 10000, not ${JSON.stringify(text)}.`,
    ]);
  });

  test.each<[string, string, RegExp]>([
    ['MONITOR_DB_MIN_POOL', '-1', /from 0 to 1000/],
    ['MONITOR_HEALTH_PORT', '65536', /port number .* from 0 to 65535/],
    ['POSTGRES_PORT', '0', /port number from 1 to 65535/],
    ['ALLOW_PRIVATE_RELAYS', 'maybe', /must be true or false .* not "maybe"/],
    ['LOG_LEVEL', 'loud', /must be one of trace, debug, info, warn, error, fatal, silent/],
    ['POSTGRES_HOST', 'postgres://u:pw@host/db', /must be a host name/],
    ['TORPROXY_HOST', 'torproxy:9050', /must be a host name/],
    ['HEALTH_HOST', '0.0.0.0/0', /must be a host name/],
    ['POSTGRES_DB', 'big brotr ', /must not begin or end with a space/],
    ['POSTGRES_USER', 'é'.repeat(32), /longer than 63 bytes/],
    ['RELAY_BLOCKLIST_PATH', 'a\nb', /control characters/],
    ['SECRET_KEY', 'nsec1xyz', /must be 64 hexadecimal characters/],
    ['SECRET_KEY', '0'.repeat(64), /not a valid secp256k1 secret key. .*npm run keygen/],
    ['SECRET_KEY', 'f'.repeat(64), /not a valid secp256k1 secret key/],
    ['PUBLIC_KEY', 'a'.repeat(64), /is not the public key of SECRET_KEY. .*npm run keygen/],
    ['POSTGRES_PASSWORD', '', /^POSTGRES_PASSWORD is not set. Make one with: node -p/],
    ['POSTGRES_PASSWORD', 'CHANGE_ME', /still holds the placeholder CHANGE_ME. Make one with/],
    ['SECRET_KEY', 'CHANGE_ME', /still holds the placeholder .*npm run keygen/],
    ['PUBLIC_KEY', '', /^PUBLIC_KEY is not set. .*npm run keygen/],
    ['POSTGRES_USER', 'CHANGE_ME_TOO', /placeholder CHANGE_ME. Put your own value/],
  ])('%s=%s', (name, text, message) => {
    const found = problems(() => monitor({ [name]: text }));
    expect(found).toEqual([expect.stringMatching(message)]);
    expect(found[0]).toMatch(new RegExp(`^${name} `));
  });

  test.each<[string, RegExp]>([
    ['{', /is not JSON .* In .env write it between single quotes/],
    ["'{}'", /is not JSON/],
    ['[]', /must be a JSON object/],
    ['null', /must be a JSON object/],
    ['"all"', /must be a JSON object/],
    ['{"since":1}', /key "since" is not taken here: use SYNCHRONIZER_START_TIMESTAMP/],
    ['{"until":1}', /key "until" is not taken here: use SYNCHRONIZER_STOP_TIMESTAMP/],
    ['{"limit":1}', /key "limit" is not taken here: use SYNCHRONIZER_BATCH_SIZE/],
    ['{"search":"x"}', /key "search" is not a key of a NIP-01 filter/],
    ['{"__proto__":[]}', /key "__proto__" is not a key/],
    ['{"constructor":[]}', /key "constructor" is not a key/],
    ['{"#tt":["x"]}', /key "#tt" is not a key/],
    ['{"#1":["x"]}', /key "#1" is not a key/],
    ['{"kinds":[]}', /key "kinds" must be a non-empty list/],
    ['{"kinds":1}', /key "kinds" must/],
    ['{"kinds":[1.5]}', /key "kinds" must/],
    ['{"kinds":["1"]}', /key "kinds" must/],
    ['{"kinds":[65536]}', /key "kinds" must/],
    ['{"kinds":[-1]}', /key "kinds" must/],
    ['{"ids":[]}', /key "ids" must/],
    [`{"authors":["${'A'.repeat(64)}"]}`, /key "authors" must .* lowercase/],
    [`{"#e":["${'a'.repeat(63)}"]}`, /key "#e" must .* 64 lowercase/],
    ['{"#p":["bob"]}', /key "#p" must/],
    ['{"#t":"x"}', /key "#t" must be a non-empty list of strings/],
    ['{"#t":[]}', /key "#t" must/],
    ['{"#t":[1]}', /key "#t" must/],
    [JSON.stringify({ '#t': ['x'.repeat(2048)] }), /is 2059 bytes long: at most 2048/],
  ])('SYNCHRONIZER_EVENT_FILTER=%s', (text, message) => {
    const found = problems(() => sync({ SYNCHRONIZER_EVENT_FILTER: text }));
    expect(found).toEqual([expect.stringMatching(message)]);
    expect(found[0]).toMatch(/^SYNCHRONIZER_EVENT_FILTER /);
    expect(found[0]).not.toContain('\n');
  });

  test('every wrong key of a filter is named', () => {
    const text = '{"since":1,"kinds":[],"#t":["ok"],"x":1}';
    expect(problems(() => sync({ SYNCHRONIZER_EVENT_FILTER: text }))).toHaveLength(3);
  });

  test('minimum above maximum, stop before start', () => {
    expect(
      problems(() =>
        sync({
          SYNCHRONIZER_DB_MIN_POOL: '6',
          SYNCHRONIZER_START_TIMESTAMP: '100',
          SYNCHRONIZER_STOP_TIMESTAMP: '100',
        }),
      ),
    ).toEqual([
      'SYNCHRONIZER_DB_MAX_POOL (5) must not be smaller than SYNCHRONIZER_DB_MIN_POOL (6).',
      'SYNCHRONIZER_START_TIMESTAMP (100) must be earlier than SYNCHRONIZER_STOP_TIMESTAMP (100).',
    ]);
    expect(problems(() => monitor({ MONITOR_DB_MAX_POOL: '1' }))).toEqual([
      'MONITOR_DB_MAX_POOL (1) must not be smaller than MONITOR_DB_MIN_POOL (2).',
    ]);
  });

  test('a time in milliseconds is refused', () => {
    const [problem] = problems(() => sync({ SYNCHRONIZER_START_TIMESTAMP: '1700000000000' }));
    expect(problem).toMatch(/-1 \(resume\), 0 \(genesis\) or a Unix time in seconds/);
  });

  test('one key without the other', () => {
    const { SECRET_KEY: _none, ...noSecret } = good;
    const { PUBLIC_KEY: _nothing, ...noPublic } = good;
    expect(problems(() => loadSynchronizerConfig('synchronizer', noSecret))).toEqual([
      expect.stringMatching(/^SECRET_KEY is not set but PUBLIC_KEY is. .*keygen/),
    ]);
    expect(problems(() => loadSynchronizerConfig('synchronizer', noPublic))).toEqual([
      expect.stringMatching(/^PUBLIC_KEY is not set but SECRET_KEY is. .*keygen/),
    ]);
  });

  test('all are told at once, also those that compare two variables', () => {
    const env = {
      POSTGRES_PORT: 'x',
      LOG_LEVEL: 'loud',
      SECRET_KEY: 'short',
      SYNCHRONIZER_EVENT_FILTER: '{',
      SYNCHRONIZER_DB_MIN_POOL: '6',
      SYNCHRONIZER_LIVE: 'perhaps',
    };
    const error = failure(() => sync(env));
    expect(error.problems.map((problem) => problem.split(' ')[0]).sort()).toEqual([
      'LOG_LEVEL',
      'POSTGRES_PORT',
      'SECRET_KEY',
      'SYNCHRONIZER_DB_MAX_POOL',
      'SYNCHRONIZER_EVENT_FILTER',
      'SYNCHRONIZER_LIVE',
    ]);
    expect(error.name).toBe('ConfigError');
    expect(error.message.split('\n')).toHaveLength(1 + error.problems.length);
  });

  test('the four services together tell each mistake once', () => {
    const error = failure(() =>
      loadAllConfigs({ POSTGRES_PORT: 'x', MONITOR_CHUNK_SIZE: '0', SYNCHRONIZER_LIVE: 'x' }),
    );
    expect(error.problems.map((problem) => problem.split(' ')[0]).sort()).toEqual([
      'MONITOR_CHUNK_SIZE',
      'POSTGRES_PASSWORD',
      'POSTGRES_PORT',
      'PUBLIC_KEY',
      'SECRET_KEY',
      'SYNCHRONIZER_LIVE',
    ]);
  });

  test('a service does not mind the variables of another', () => {
    expect(() => monitor({ SYNCHRONIZER_BATCH_SIZE: 'x' })).not.toThrow();
    expect(() => sync({ MONITOR_CHUNK_SIZE: 'x' })).not.toThrow();
    expect(() => sync({ PRIORITY_SYNCHRONIZER_LIVE: 'x' })).not.toThrow();
  });

  test('no secret is ever shown', () => {
    const shown = [
      failure(() => monitor({ SECRET_KEY: `${SECRET_KEY}00`, POSTGRES_PORT: 'x' })),
      failure(() => monitor({ PUBLIC_KEY: SECRET_KEY, SECRET_KEY: PUBLIC_KEY })),
      failure(() => monitor({ POSTGRES_PASSWORD: `${POSTGRES_PASSWORD}\0CHANGE_ME` })),
      failure(() => monitor({ POSTGRES_PASSWORD: '', POSTGRES_PASSWORD_FILE: POSTGRES_PASSWORD })),
      failure(() => monitor({ POSTGRES_HOST: `postgres://u:${POSTGRES_PASSWORD}@h` })),
    ].map((error) => `${error.stack} ${JSON.stringify(error)}`);
    for (const text of shown) {
      expect(text).not.toContain(SECRET_KEY);
      expect(text).not.toContain(POSTGRES_PASSWORD);
    }
  });

  test('the containers have variables of their own', () => {
    const env = {
      POSTGRES_ADMIN_PASSWORD: 'a',
      PGBOUNCER_ADMIN_PASSWORD: 'b',
      PGADMIN_DEFAULT_PASSWORD: 'c',
    };
    expect(checkDeployment(env)).toEqual({ warnings: [] });
    const wrong = { ...env, PGADMIN_DEFAULT_EMAIL: 'me', PGBOUNCER_ADMIN_PASSWORD: 'CHANGE_ME' };
    expect(problems(() => checkDeployment(wrong))).toEqual([
      expect.stringMatching(/^PGBOUNCER_ADMIN_PASSWORD still holds the placeholder/),
      expect.stringMatching(/^PGADMIN_DEFAULT_EMAIL must be an e-mail address/),
    ]);
  });
});

describe('secrets from files', () => {
  test('are read without the newline at their end', () => {
    const config = loadMonitorConfig({
      PUBLIC_KEY,
      SECRET_KEY_FILE: file('key', `${SECRET_KEY}\r\n`),
      POSTGRES_PASSWORD_FILE: file('password', ' with spaces \n'),
    });
    expect(config.keys.secretKey).toBe(SECRET_KEY);
    expect(config.database.password).toBe(' with spaces ');
    expect(config.warnings).toEqual([]);
  });

  test.each<[string, Environment, RegExp]>([
    [
      'both set',
      { POSTGRES_PASSWORD: 'x' },
      /^POSTGRES_PASSWORD and POSTGRES_PASSWORD_FILE are both/,
    ],
    ['missing', { POSTGRES_PASSWORD_FILE: join(directory, 'none') }, /cannot be read \(ENOENT\)/],
    ['a directory', { POSTGRES_PASSWORD_FILE: directory }, /cannot be read \(EISDIR\)/],
    ['empty', { POSTGRES_PASSWORD_FILE: file('empty', '\n') }, /names a file that is empty/],
    ['a placeholder', { POSTGRES_PASSWORD_FILE: file('todo', 'CHANGE_ME') }, /still holds/],
  ])('%s', (_case, env, message) => {
    const all = { POSTGRES_PASSWORD_FILE: file('good', 'x'), ...env };
    expect(problems(() => loadDatabaseConfig(all))).toEqual([expect.stringMatching(message)]);
  });

  test('a file of a secret that the service does not need is not opened', () => {
    const env = { POSTGRES_PASSWORD, SECRET_KEY_FILE: join(directory, 'none') };
    expect(loadInitializerConfig(env).database.password).toBe(POSTGRES_PASSWORD);
  });
});

describe('names that are nearly ours', () => {
  test.each([
    ['MONITOR_FREQUENCY_HOURS', 'MONITOR_FREQUENCY_HOUR'],
    ['SYNCRONIZER_BATCH_SIZE', 'SYNCHRONIZER_BATCH_SIZE'],
    ['SYNCHRONISER_BATCH_SIZE', 'SYNCHRONIZER_BATCH_SIZE'],
    ['SYNCHRONIZER_MAX_POOL', 'SYNCHRONIZER_DB_MAX_POOL'],
    ['MONITOR_LOOP_INTERVAL', 'MONITOR_LOOP_INTERVAL_MINUTES'],
    ['FINDER_FREQUENCY_OF_HOURS', 'FINDER_FREQUENCY_HOUR'],
    ['POSTGRES_PASWORD', 'POSTGRES_PASSWORD'],
    ['POSTGRESS_PORT', 'POSTGRES_PORT'],
    ['POSTGRES_DATABASE', 'POSTGRES_DB'],
    ['postgres_host', 'POSTGRES_HOST'],
    ['POSTGRES-HOST', 'POSTGRES_HOST'],
    ['ＰＯＳＴＧＲＥＳ＿ＨＯＳＴ', 'POSTGRES_HOST'],
    ['PGADMIN_DEFAULT_PASSWORT', 'PGADMIN_DEFAULT_PASSWORD'],
    ['SECRET_KEYS', 'SECRET_KEY'],
    ['SECRET_KEYFILE', 'SECRET_KEY_FILE'],
    ['LOGLEVEL', 'LOG_LEVEL'],
    ['SEED_RELAY_PATH', 'SEED_RELAYS_PATH'],
    ['ALLOW_PRIVATE_RELAY', 'ALLOW_PRIVATE_RELAYS'],
    ['TORPROXY_HOSTNAME', 'TORPROXY_HOST'],
  ])('%s', (wrong, right) => {
    const { warnings } = monitor({ [wrong]: '1' });
    expect(warnings).toEqual([`Unknown variable ${wrong}, did you mean ${right}?`]);
  });

  test('a setting that the priority synchronizer shares', () => {
    expect(monitor({ PRIORITY_SYNCHRONIZER_BATCH_SIZE: '9' }).warnings).toEqual([
      'PRIORITY_SYNCHRONIZER_BATCH_SIZE is not a variable: the priority synchronizer takes SYNCHRONIZER_BATCH_SIZE.',
    ]);
  });

  test('names of others are left alone', () => {
    const others = {
      HOME: '/root',
      PATH: '/bin',
      DB_HOST: 'x',
      PUBLIC_URL: 'x',
      HOSTNAME: 'x',
      LOGNAME: 'x',
      PGPASSWORD: 'x',
      NODE_ENV: 'x',
      npm_config_loglevel: 'x',
      POSTGRES_INITDB_ARGS: 'x',
      POSTGRES_HOST_AUTH_METHOD: 'x',
      PGADMIN_LISTEN_PORT: 'x',
      MONITOR_FREQUENCY_HOURS: '',
    };
    expect(monitor(others).warnings).toEqual([]);
  });

  test('are told beside the problem that they may explain', () => {
    const error = failure(() => loadDatabaseConfig({ POSTGRES_PASWORD: 'hidden' }));
    expect(error.problems).toHaveLength(1);
    expect(error.message).toContain('did you mean POSTGRES_PASSWORD?');
    expect(error.message).not.toContain('hidden');
  });
});

describe('.env', () => {
  test('completes the environment and leaves process.env alone', () => {
    const path = file(
      '.env',
      "\ufeffPOSTGRES_PASSWORD='a # b'\nPATH=/nowhere\nexport LOG_LEVEL=warn\n",
    );
    const { env, warnings } = readEnvironment(path);
    expect(env).toMatchObject({ POSTGRES_PASSWORD: 'a # b', LOG_LEVEL: 'warn' });
    expect(env.PATH).toBe(process.env.PATH);
    expect(process.env.POSTGRES_PASSWORD).not.toBe('a # b');
    expect(warnings).toEqual([]);
  });

  test('may be missing, but not unreadable', () => {
    expect(readEnvironment(join(directory, 'none')).env).toEqual({ ...process.env });
    expect(problems(() => readEnvironment(directory))).toEqual([
      expect.stringMatching(/cannot be read \(EISDIR\)/),
    ]);
  });

  test('lines that say nothing are named by number, not by content', () => {
    const path = file(
      '.env.odd',
      [
        "# a comment, it's fine",
        'POSTGRES_PASSWORD hunter2',
        '',
        "SYNCHRONIZER_EVENT_FILTER='{",
        '  "kinds": [1]',
        "}'",
        'ＬＯＧ＿ＬＥＶＥＬ＝debug',
        'LOG_LEVEL=info',
      ].join('\r\n'),
    );
    const { env, warnings } = readEnvironment(path);
    expect(env.LOG_LEVEL).toBe('info');
    expect(warnings).toEqual([
      `${path} line 2 is not NAME=value and was not read.`,
      `${path} line 7 is not NAME=value and was not read.`,
    ]);
  });
});

describe('MONITOR_PUBLISH_RELAYS', () => {
  const ONION = 'ws://oxtrdevav64z64yb7x6rjg4ntzqjhedm5b5zjqulugknhzr46ny2qbad.onion';

  test('is a list of relays, each once and in its one spelling', () => {
    const MONITOR_PUBLISH_RELAYS =
      ' wss://Relay.damus.io/, wss://nos.lol ,wss://relay.damus.io:443,';
    const { publish } = monitor({ MONITOR_PUBLISH_RELAYS, MONITOR_PUBLISH_GEOHASH: 'u33db' });
    const relays = ['wss://relay.damus.io', 'wss://nos.lol'];
    expect(publish).toEqual({ relays, name: 'Bigbrotr', geohash: 'u33db' });
    expect(monitor({ MONITOR_PUBLISH_RELAYS: ' , ' }).publish).toBe(null);
  });

  test('with everything that is wrong in it at once', () => {
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
  ])('%s is refused before anything starts', (MONITOR_PUBLISH_RELAYS, why) => {
    expect(problems(() => monitor({ MONITOR_PUBLISH_RELAYS }))).toEqual([
      expect.stringMatching(why),
    ]);
  });

  test('onion services with Tor, and private ones where they are allowed', () => {
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

  test('tells each name that is none, and what must not be missing', () => {
    expect(problems(() => monitor({ MONITOR_CHECKS: 'read,ssl,,dns' }))).toEqual([
      expect.stringMatching(/^MONITOR_CHECKS holds "ssl": a check is one of open, read, write/),
      expect.stringMatching(/^MONITOR_CHECKS holds ""/),
      'MONITOR_CHECKS must hold open: the synchronizers go by what is found there.',
    ]);
  });
});

describe('env.example', () => {
  const text = readFileSync(new URL('../../env.example', import.meta.url), 'utf8');
  const example = parse(text);
  const lines = text.split('\n');

  function defaultOf(name: string): string {
    const schema = allVariables[name as keyof typeof allVariables];
    return 'defaultValue' in schema.def ? `${schema.def.defaultValue}` : 'CHANGE_ME';
  }

  test('names exactly the variables that are known', () => {
    expect(Object.keys(example).sort()).toEqual(Object.keys(allVariables).sort());
    expect(lines.filter((line) => /^\w+=/.test(line))).toHaveLength(Object.keys(example).length);
  });

  test.each(Object.keys(allVariables))('%s has its default, and is explained', (name) => {
    expect(example[name]).toBe(defaultOf(name));
    const at = lines.indexOf(`${name}=${example[name]}`);
    expect(lines[at - 1]).toMatch(/^# .{10,}/);
  });

  test('with the placeholders filled in, it is what happens without it', () => {
    const filled = { ...example, ...good, POSTGRES_OWNER_PASSWORD: '' };
    expect(loadAllConfigs(filled)).toEqual(loadAllConfigs(good));
    expect(problems(() => loadAllConfigs(example))).toHaveLength(4);
    for (const name of secretNames) expect(['CHANGE_ME', '']).toContain(example[name]);
  });

  test('has every variable that docker-compose.yml takes from it', () => {
    const path = new URL('../../docker-compose.yml', import.meta.url);
    expect(existsSync(path)).toBe(true);
    const compose = readFileSync(path, 'utf8');
    const taken = [...compose.matchAll(/\$\{([A-Z_]+)|^ +([A-Z_]+):$/gm)].map(
      (match) => match[1] ?? match[2] ?? '',
    );
    const known = [
      ...Object.keys(allVariables),
      ...secretNames.map((name) => `${name}_FILE`),
      'COMPOSE_PROJECT_NAME',
    ];
    expect(taken.length).toBeGreaterThan(20);
    expect(taken.filter((name) => !known.includes(name))).toEqual([]);
  });
});
