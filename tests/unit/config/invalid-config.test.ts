import { describe, expect, test } from 'vitest';
import { readVariables } from '../../../src/config/environment.ts';
import {
  type Environment,
  loadAllConfigs,
  loadSynchronizerConfig,
} from '../../../src/config/load.ts';
import { deploymentVariables } from '../../../src/config/schema.ts';
import {
  failure,
  good,
  monitor,
  POSTGRES_PASSWORD,
  PUBLIC_KEY,
  problems,
  SECRET_KEY,
  sync,
} from '../../fixtures/configuration.ts';

describe('invalid configuration', () => {
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
  ])('is refused for SYNCHRONIZER_BATCH_SIZE=%j, or takes the default if it is empty', (text) => {
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
    ['POSTGRES_PASSWORD', '', /^POSTGRES_PASSWORD is not set. Make one with: openssl rand/],
    ['POSTGRES_PASSWORD', 'CHANGE_ME', /still holds the placeholder CHANGE_ME. Make one with/],
    ['SECRET_KEY', 'CHANGE_ME', /still holds the placeholder .*npm run keygen/],
    ['PUBLIC_KEY', '', /^PUBLIC_KEY is not set. .*npm run keygen/],
    ['POSTGRES_USER', 'CHANGE_ME_TOO', /placeholder CHANGE_ME. Put your own value/],
  ])('is refused for %s=%s', (name, text, message) => {
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
  ])('is refused for SYNCHRONIZER_EVENT_FILTER=%s', (text, message) => {
    const found = problems(() => sync({ SYNCHRONIZER_EVENT_FILTER: text }));
    expect(found).toEqual([expect.stringMatching(message)]);
    expect(found[0]).toMatch(/^SYNCHRONIZER_EVENT_FILTER /);
    expect(found[0]).not.toContain('\n');
  });

  test('names every wrong key of a filter', () => {
    const text = '{"since":1,"kinds":[],"#t":["ok"],"x":1}';
    expect(problems(() => sync({ SYNCHRONIZER_EVENT_FILTER: text }))).toHaveLength(3);
  });

  test('is refused for a minimum above the maximum, and a stop before the start', () => {
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

  test('is refused for a time in milliseconds', () => {
    const [problem] = problems(() => sync({ SYNCHRONIZER_START_TIMESTAMP: '1700000000000' }));
    expect(problem).toMatch(/-1 \(resume\), 0 \(genesis\) or a Unix time in seconds/);
  });

  test('is refused for one key without the other', () => {
    const { SECRET_KEY: _none, ...noSecret } = good;
    const { PUBLIC_KEY: _nothing, ...noPublic } = good;
    expect(problems(() => loadSynchronizerConfig('synchronizer', noSecret))).toEqual([
      expect.stringMatching(/^SECRET_KEY is not set but PUBLIC_KEY is. .*keygen/),
    ]);
    expect(problems(() => loadSynchronizerConfig('synchronizer', noPublic))).toEqual([
      expect.stringMatching(/^PUBLIC_KEY is not set but SECRET_KEY is. .*keygen/),
    ]);
  });

  test('reports all problems at once, including comparisons of two variables', () => {
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

  test('is reported once by loadAllConfigs', () => {
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

  test('of another service is ignored', () => {
    expect(() => monitor({ SYNCHRONIZER_BATCH_SIZE: 'x' })).not.toThrow();
    expect(() => sync({ MONITOR_CHUNK_SIZE: 'x' })).not.toThrow();
    expect(() => sync({ PRIORITY_SYNCHRONIZER_LIVE: 'x' })).not.toThrow();
  });

  test('is reported without any secret', () => {
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

  test('of the containers is reported too', () => {
    const env = {
      POSTGRES_ADMIN_PASSWORD: 'a',
      PGBOUNCER_ADMIN_PASSWORD: 'b',
      PGADMIN_DEFAULT_PASSWORD: 'c',
      API_DB_PASSWORD: 'd',
    };
    const read = (given: Environment) => readVariables(deploymentVariables, given);
    expect(read(env)).toMatchObject({ warnings: [] });
    const wrong = { ...env, PGADMIN_DEFAULT_EMAIL: 'me', PGBOUNCER_ADMIN_PASSWORD: 'CHANGE_ME' };
    expect(problems(() => read(wrong))).toEqual([
      expect.stringMatching(/^PGBOUNCER_ADMIN_PASSWORD still holds the placeholder/),
      expect.stringMatching(/^PGADMIN_DEFAULT_EMAIL must be an e-mail address/),
    ]);
  });
});
