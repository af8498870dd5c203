import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect } from 'vitest';
import { signedEvents } from '../fixtures/events.ts';
import { summaryOf } from '../postgres/archive.ts';
import { testDatabase } from '../postgres/database.ts';
import type { Program } from '../processes/programs.ts';
import { type Entrypoint, KEYS } from '../processes/stack.ts';
import { sharedStackTest } from '../processes/stack-test.ts';
import { HTML_PAGE, noEose, unanswered } from '../relay/scripted-relay.ts';

const RELAY = 'ws://127.0.0.1:9';
const NOW = Math.floor(Date.now() / 1000);

const ALL: readonly Entrypoint[] = [
  'local',
  'initializer',
  'monitor',
  'synchronizer',
  'priority-synchronizer',
];

const test = sharedStackTest
  .extend('start', async ({ stack, database: _used }) => {
    await stack.relays([RELAY], [RELAY]);
    return (...how: Parameters<typeof stack.start>): Program => stack.start(...how);
  })
  /** Expects the program to refuse: exit code 1, and what it says is for people and keeps every secret. */
  .extend('refusal', ({ database }) => async (program: Program): Promise<string> => {
    expect(await program.ended, program.said).toEqual({ code: 1, signal: null });
    expect(program.said).not.toMatch(/^\s*at |"stack"|node:internal/m);
    expect(program.said).not.toContain(KEYS.SECRET_KEY);
    expect(program.said).not.toContain(database.config.password);
    return program.said;
  });

/** The sentences after the heading "The configuration cannot be used:". */
function problems(said: string): string[] {
  const [heading, ...lines] = said.split('\n');
  expect(heading).toBe('The configuration cannot be used:');
  return lines.map((line) => line.replace(/^ {2}- /, ''));
}

describe('the seed file', () => {
  test.for([
    ['is missing', null, 'does not exist'],
    ['is empty', '', 'names no relay'],
    ['holds only comments', '# none yet\n\n', 'names no relay'],
    ['holds one line that is no relay', 'htp:/nowhere\n', '(line 1, "htp:/nowhere":'],
  ] as const)('is refused when it %s', async ([_, text, expected], { stack, start, refusal }) => {
    if (text === null) stack.env.SEED_RELAYS_PATH = join(stack.folder, 'nothing-here.txt');
    else await stack.write('seed.txt', text);
    const said = await refusal(start('local', ['--once']));
    expect(said).toContain(`The relay list ${stack.env.SEED_RELAYS_PATH}`);
    expect(said).toContain(expected);
    expect(said).not.toContain('"service":"monitor"'); // nothing was begun
  });

  test('may hold a bad line among good ones, which is logged and skipped', async ({
    stack,
    start,
  }) => {
    await stack.write('seed.txt', `${RELAY}\nhttp://not.a/relay\n  ${RELAY}/ # again\n`);
    const program = start('initializer');
    expect(await program.ended, program.said).toEqual({ code: 0, signal: null });
    expect(program.log).toEqual([
      expect.objectContaining({
        level: 'WARN',
        line: 2,
        text: 'http://not.a/relay',
        reason: expect.any(String),
        msg: 'a line of the seed file is skipped',
      }),
      expect.objectContaining({ relays: 1, invalid: 1, duplicates: 1 }),
      expect.objectContaining({ msg: 'relays of the priority list are marked' }),
    ]);
  });
});

describe('the environment', () => {
  const OTHER_KEY = 'e493dbf1c10d80f3581e4904930b1404cc6c13900ee0758474fa94abe8c4cd13';

  test.for<[string, Entrypoint, Record<string, string>, string]>([
    [
      'a key pair that is none',
      'monitor',
      { PUBLIC_KEY: OTHER_KEY },
      'PUBLIC_KEY is not the public key of SECRET_KEY. Make a key pair with: npm run keygen (in Docker: docker compose run --rm keygen)',
    ],
    [
      'a filter that is cut off',
      'synchronizer',
      { SYNCHRONIZER_EVENT_FILTER: '{' },
      'SYNCHRONIZER_EVENT_FILTER is not JSON',
    ],
    [
      'a filter with a key of its own',
      'synchronizer',
      { SYNCHRONIZER_EVENT_FILTER: '{"kind":1}' },
      'SYNCHRONIZER_EVENT_FILTER key "kind" is not a key of a NIP-01 filter',
    ],
    [
      'a placeholder',
      'initializer',
      { POSTGRES_PASSWORD: 'CHANGE_ME' },
      'POSTGRES_PASSWORD still holds the placeholder CHANGE_ME. Make one with: openssl rand',
    ],
    [
      'a secret that cannot be read',
      'initializer',
      { POSTGRES_PASSWORD: '', POSTGRES_PASSWORD_FILE: '/nothing/here' },
      'POSTGRES_PASSWORD_FILE names a file that cannot be read (ENOENT).',
    ],
    [
      'an init.sql that is not there',
      'local',
      { POSTGRES_DB_INIT_PATH: '/nothing/here.sql' },
      'POSTGRES_DB_INIT_PATH /nothing/here.sql cannot be read (ENOENT)',
    ],
    [
      'a data path that is a file',
      'local',
      { LOCAL_DATA_PATH: '/dev/null' },
      'LOCAL_DATA_PATH /dev/null cannot be made a directory (EEXIST)',
    ],
  ])('is refused when it holds %s', async ([_, entrypoint, env, expected], { start, refusal }) => {
    const found = problems(await refusal(start(entrypoint, [], env)));
    expect(found).toEqual([expect.stringContaining(expected)]);
    expect(found[0]).toMatch(/^[^\n]{20,300}$/);
  });

  test('is not read when an argument is unknown: the argument alone is reported', async ({
    start,
    refusal,
  }) => {
    for (const program of ALL.map((entrypoint) => start(entrypoint, ['--onse']))) {
      const found = problems(await refusal(program));
      expect(found).toEqual(['unknown argument --onse: the only one is --once']);
    }
  });

  test('has all of its mistakes reported at once, and nothing is started', async ({
    stack,
    start,
    refusal,
  }) => {
    const said = await refusal(
      start('local', [], {
        POSTGRES_HOST: '',
        MONITOR_NUM_CORES: 'four',
        MONITOR_REQUEST_TIMEOUT: '20s',
        MONITOR_DB_MIN_POOL: '9',
        MONITOR_HEALTH_PORT: '80810',
        SYNCHRONIZER_START_TIMESTAMP: '2024-01-01',
        SYNCHRONIZER_EVENT_FILTER: '{"kinds":"1"}',
        SYNCHRONIZER_BATCH_SIZE: '0',
        PRIORITY_SYNCHRONIZER_LIVE: 'perhaps',
        TORPROXY_HOST: 'socks5://127.0.0.1:9050',
        ALLOW_PRIVATE_RELAYS: 'ja',
        LOG_LEVEL: 'loud',
        SECRET_KEY: `nsec1${'q'.repeat(58)}`,
        SYNCRONIZER_BATCH_SIZE: '100',
        ＭＯＮＩＴＯＲ＿ＣＨＵＮＫ＿ＳＩＺＥ: '５０',
        postgres_db: 'elsewhere',
      }),
    );
    const found = problems(said);
    const expected = [
      'MONITOR_NUM_CORES must be a whole number from 1 to 1024, not "four".',
      'MONITOR_REQUEST_TIMEOUT must be a whole number of seconds',
      'MONITOR_DB_MAX_POOL (5) must not be smaller than MONITOR_DB_MIN_POOL (9).',
      'MONITOR_HEALTH_PORT must be a port number',
      'SYNCHRONIZER_START_TIMESTAMP must be',
      'SYNCHRONIZER_EVENT_FILTER key "kinds" must be a non-empty list',
      'SYNCHRONIZER_BATCH_SIZE must be a whole number from 1 to 10000, not "0".',
      'PRIORITY_SYNCHRONIZER_LIVE must be true or false',
      'TORPROXY_HOST must be a host name or an IP address alone',
      'ALLOW_PRIVATE_RELAYS must be true or false',
      'LOG_LEVEL must be one of trace, debug',
      'SECRET_KEY must be 64 hexadecimal characters',
      'Unknown variable SYNCRONIZER_BATCH_SIZE, did you mean SYNCHRONIZER_BATCH_SIZE?',
      'Unknown variable ＭＯＮＩＴＯＲ＿ＣＨＵＮＫ＿ＳＩＺＥ, did you mean MONITOR_CHUNK_SIZE?',
      'Unknown variable postgres_db, did you mean POSTGRES_DB?',
    ];
    for (const sentence of expected)
      expect(found).toContainEqual(expect.stringContaining(sentence));
    expect(found).toHaveLength(expected.length);
    expect(said).not.toContain('nsec1qqq');
    expect(existsSync(join(stack.folder, 'data', 'postgres'))).toBe(false);
  });

  test('is refused with a kept key file that holds no secret key', async ({
    stack,
    start,
    refusal,
  }) => {
    await stack.write('secret-key', 'not a key\n');
    const env = { SECRET_KEY: '', PUBLIC_KEY: '', LOCAL_DATA_PATH: stack.folder };
    const found = problems(await refusal(start('local', [], env)));
    expect(found).toEqual([expect.stringContaining('secret-key does not hold a secret key')]);
  });
});

describe('a health port that is in use', () => {
  test('stops a service, and keeps npm start from starting anything', async ({
    start,
    refusal,
  }) => {
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as AddressInfo;
    const env = { SYNCHRONIZER_HEALTH_PORT: String(port) };
    const reason = `Port ${port} on 127.0.0.1 is in use by another program: stop it, or set SYNCHRONIZER_HEALTH_PORT to a free port.`;
    try {
      const alone = start('synchronizer', [], env);
      await refusal(alone);
      expect(alone.log).toContainEqual(expect.objectContaining({ level: 'FATAL', reason }));

      const together = start('local', [], env);
      expect(await refusal(together)).toContain(reason);
      expect(together.log).toEqual([]);
    } finally {
      other.close();
    }
  });
});

describe('the database', () => {
  test('refuses a wrong password, and each entrypoint reports it', async ({
    start,
    refusal,
    database,
  }) => {
    const { user, host, port } = database.config;
    const env = { POSTGRES_PASSWORD: 'not the password' };
    for (const program of ALL.map((entrypoint) => start(entrypoint, [], env))) {
      const said = await refusal(program);
      expect(said).toContain(`PostgreSQL refuses the login ${user}@${host}:${port}/`);
      expect(said).toContain('check POSTGRES_USER and POSTGRES_PASSWORD');
      expect(said).not.toContain('not the password');
    }
  });

  test('is refused while init.sql is not loaded', async ({ start, refusal, database }) => {
    const name = `bigbrotr_bare_${randomBytes(6).toString('hex')}`;
    await database.query(`create database ${name} template template0`);
    const alone = ALL.filter((entrypoint) => entrypoint !== 'local'); // which would load it
    const programs = alone.map((entrypoint) => {
      return start(entrypoint, ['--once'], { POSTGRES_DB: name });
    });
    try {
      for (const program of programs) {
        const said = await refusal(program);
        expect(said).toContain('lacks something that init.sql makes: load init.sql');
      }
    } finally {
      await database.query(`drop database ${name} with (force)`);
    }
  });

  test('is refused when it does not exist', async ({ start, refusal }) => {
    const said = await refusal(start('initializer', [], { POSTGRES_DB: 'nowhere' }));
    expect(said).toContain('create it, or check POSTGRES_DB');
  });

  test('is waited for when it does not answer, with its address, the time waited and the deadline in the log', async ({
    start,
  }) => {
    const program = start('initializer', [], { POSTGRES_PORT: '1' });
    const isWaiting = ({ msg }: { msg: string }) => msg === 'database not reachable, trying again';
    const line = await program.logged(isWaiting, 'that it waits');
    expect(line).toMatchObject({
      level: 'WARN',
      code: 'ECONNREFUSED',
      reason: expect.stringMatching(/^The database .*:1\/.* failed: .+/),
      waitedSeconds: expect.any(Number),
    });
    const left = Date.parse(String(line.until)) - Date.now();
    expect(left).toBeGreaterThan(0);
    expect(left).toBeLessThanOrEqual(60_000);
    expect(program.isRunning).toBe(true);
  });
});

test('addresses that are not relays delay neither the other relays nor the end of the round', async ({
  stack,
  startRelay,
  onTestFinished,
}) => {
  const events = signedEvents(300, { from: NOW - 100_000, to: NOW - 1000 });
  const own = await testDatabase();
  onTestFinished(() => own.drop());
  const good = await startRelay({ events });
  const html = await startRelay({
    upgrade: { status: 200, body: HTML_PAGE },
    nip11: { body: HTML_PAGE },
  });
  const silent = await startRelay({ events, quirk: unanswered });
  const endless = await startRelay({ events: events.slice(0, 100), quirk: noEose });
  const down = await startRelay();
  await down.stop();
  stack.useDatabase(own.config);
  await stack.relays(
    [good, html, silent, endless, down].map(({ url }) => url),
    [endless.url],
  );
  const env = { MONITOR_REQUEST_TIMEOUT: '3', SYNCHRONIZER_REQUEST_TIMEOUT: '3' };
  const program = stack.start('local', ['--once'], env);
  expect(await program.ended, program.said).toEqual({ code: 0, signal: null });
  expect(program.said).not.toMatch(/"stack"/);
  expect(summaryOf(program)).toMatchObject({
    relays: 5,
    'relays/readable': 2,
    'relays/not readable': 3,
    'visits/complete': 1,
    'visits/failed': 1,
    events: 300,
  });
  const reasons = await own.query<{ relay_url: string; reason: string }>(
    'select relay_url, reason from relay_metadata_latest where not readable',
  );
  expect(Object.fromEntries(reasons.map((row) => [row.relay_url, row.reason]))).toEqual({
    [html.url]: 'http_200',
    [silent.url]: 'timeout',
    [down.url]: 'refused',
  });
  // It showed its events and never an end: they are archived, and nothing of it counts as covered.
  const covered = await own.query(
    `select relay_url, share::float, outcome from relay_coverage order by share`,
  );
  expect(covered).toEqual([
    { relay_url: endless.url, share: 0, outcome: 'failed' },
    { relay_url: good.url, share: 1, outcome: 'complete' },
  ]);
});
