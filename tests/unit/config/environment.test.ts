import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test as base, describe, expect } from 'vitest';
import {
  loadDatabaseConfig,
  loadInitializerConfig,
  loadMonitorConfig,
  readEnvironment,
} from '../../../src/config/load.ts';
import {
  failure,
  monitor,
  POSTGRES_PASSWORD,
  PUBLIC_KEY,
  problems,
  SECRET_KEY,
} from '../../fixtures/configuration.ts';

/** Tests with a temporary `directory`, in which `file` writes a file. */
const test = base
  .extend('directory', ({ onTestFinished }) => {
    const directory = mkdtempSync(join(tmpdir(), 'bigbrotr-config-'));
    onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
    return directory;
  })
  .extend('file', ({ directory }) => {
    return (name: string, text: string): string => {
      const path = join(directory, name);
      writeFileSync(path, text);
      return path;
    };
  });

describe('secrets from files', () => {
  test('are read without the newline at the end', ({ file }) => {
    const config = loadMonitorConfig({
      PUBLIC_KEY,
      SECRET_KEY_FILE: file('key', `${SECRET_KEY}\r\n`),
      POSTGRES_PASSWORD_FILE: file('password', ' with spaces \n'),
    });
    expect(config.keys.secretKey).toBe(SECRET_KEY);
    expect(config.database.password).toBe(' with spaces ');
    expect(config.warnings).toEqual([]);
  });

  test('are refused beside the variable itself', ({ file }) => {
    const both = { POSTGRES_PASSWORD_FILE: file('good', 'x'), POSTGRES_PASSWORD: 'x' };
    expect(problems(() => loadDatabaseConfig(both))).toEqual([
      expect.stringMatching(/^POSTGRES_PASSWORD and POSTGRES_PASSWORD_FILE are both/),
    ]);
  });

  test.for<[string, string, string | null, RegExp]>([
    ['is missing', 'none', null, /cannot be read \(ENOENT\)/],
    ['is a directory', '', null, /cannot be read \(EISDIR\)/],
    ['is empty', 'empty', '\n', /names a file that is empty/],
    ['holds the placeholder', 'todo', 'CHANGE_ME', /still holds/],
  ])('are refused if the file %s', ([_case, name, text, message], { directory, file }) => {
    const path = text === null ? join(directory, name) : file(name, text);
    expect(problems(() => loadDatabaseConfig({ POSTGRES_PASSWORD_FILE: path }))).toEqual([
      expect.stringMatching(message),
    ]);
  });

  test('are not opened if the service does not need the secret', ({ directory }) => {
    const env = { POSTGRES_PASSWORD, SECRET_KEY_FILE: join(directory, 'none') };
    expect(loadInitializerConfig(env).database.password).toBe(POSTGRES_PASSWORD);
  });
});

describe('unknown variables', () => {
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
  ])('suggest the right name for %s', (wrong, right) => {
    const { warnings } = monitor({ [wrong]: '1' });
    expect(warnings).toEqual([`Unknown variable ${wrong}, did you mean ${right}?`]);
  });

  test('name the variable that the priority synchronizer shares', () => {
    expect(monitor({ PRIORITY_SYNCHRONIZER_BATCH_SIZE: '9' }).warnings).toEqual([
      'PRIORITY_SYNCHRONIZER_BATCH_SIZE is not a variable: the priority synchronizer takes SYNCHRONIZER_BATCH_SIZE.',
    ]);
  });

  test('of other programs cause no warning', () => {
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

  test('are reported with the problem that they may explain', () => {
    const error = failure(() => loadDatabaseConfig({ POSTGRES_PASWORD: 'hidden' }));
    expect(error.problems).toHaveLength(1);
    expect(error.message).toContain('did you mean POSTGRES_PASSWORD?');
    expect(error.message).not.toContain('hidden');
  });
});

describe('.env', () => {
  test('completes the environment without changing process.env', ({ file }) => {
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

  test('may be missing, but not unreadable', ({ directory }) => {
    expect(readEnvironment(join(directory, 'none')).env).toEqual({ ...process.env });
    expect(problems(() => readEnvironment(directory))).toEqual([
      expect.stringMatching(/cannot be read \(EISDIR\)/),
    ]);
  });

  test('reports lines that cannot be parsed by number, without their content', ({ file }) => {
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
