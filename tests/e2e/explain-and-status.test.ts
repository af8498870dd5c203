/** `npm run explain` and `npm run status` as people run them: beside `npm start`, and on a server of their own. */
import { describe, expect } from 'vitest';
import { SCHEMA_VERSION } from '../../src/database/version.ts';
import { signedEvents } from '../fixtures/events.ts';
import { healthPort } from '../processes/health-client.ts';
import { sharedStackTest } from '../processes/stack-test.ts';

const NOW = Math.floor(Date.now() / 1000);
const URL = 'wss://one.example.com';

interface JsonRow {
  readonly section: string;
  readonly name: string;
  readonly value: string;
  readonly unit: string;
}

const test = sharedStackTest
  /** Runs a command to its end. @returns what it printed */
  .extend(
    'run',
    ({ stack }) =>
      async (
        command: 'explain' | 'status',
        args: readonly string[] = [],
        { code = 0, env = {} }: { code?: number; env?: Record<string, string> } = {},
      ) => {
        const program = stack.start(command, args, env);
        expect(await program.ended, program.said).toEqual({ code, signal: null });
        return { out: program.out.join('\n'), err: program.err };
      },
  )
  .extend('json', ({ run }) => async (...how: Parameters<typeof run>) => {
    const { out } = await run(how[0], [...(how[1] ?? []), '--json'], how[2]);
    return JSON.parse(out) as { known?: boolean; url?: string; rows: JsonRow[] };
  });

const valueIn = (rows: readonly JsonRow[], section: string, name: string) =>
  rows.find((row) => row.section === section && row.name === name)?.value;

describe('beside npm start', () => {
  test('both read the archive of the data folder, while it runs and after it has stopped', async ({
    stack,
    startRelay,
    run,
    json,
  }) => {
    const good = await startRelay({
      events: signedEvents(300, { from: NOW - 100_000, to: NOW - 1000 }),
    });
    const down = await startRelay();
    await down.stop();
    await stack.relays([good.url, down.url], [good.url]);
    const blocklist = await stack.write('blocked.txt', down.url);
    const local = stack.start('local');
    const visited = ({ msg, relay }: { msg: string; relay?: unknown }) =>
      msg === 'relay visited' && relay === good.url;
    await local.logged(visited, 'the visit of the relay', 120_000);

    const env = { RELAY_BLOCKLIST_PATH: blocklist };
    const { url, known, rows } = await json('explain', [good.url], { env });
    expect({ url, known }).toEqual({ url: good.url, known: true });
    expect(valueIn(rows, 'coverage', 'share proven complete')).toMatch(/^(0\.99|1)/);
    expect(valueIn(rows, 'visit', 'outcome')).toBe('complete');
    expect(valueIn(rows, 'events', 'held')).toBe('300');
    expect(valueIn(rows, 'lists', 'blocklist')).toBe(`no (${blocklist})`);
    expect(valueIn(rows, 'lists', 'priority list')).toMatch(/^yes /);
    const blocked = await json('explain', [down.url], { env });
    expect(valueIn(blocked.rows, 'lists', 'blocklist')).toMatch(/^blocked: it is never contacted/);
    expect(valueIn(blocked.rows, 'check', 'why it failed')).toBe('refused');
    expect(valueIn(blocked.rows, 'check', 'next check')).toBe('none: it is on the blocklist');

    const port = await healthPort(local, 'monitor');
    const { out } = await run('status', [`127.0.0.1:${port}`, '127.0.0.1:9']);
    expect(out).toMatch(/^ +schema +\d{4}_/m);
    expect(out).toMatch(/^archive +events +300$/m);
    expect(out).toMatch(/^ +clearnet down +1$/m);
    expect(out).toMatch(/^ +free on its disk +[\d.]+ [GTM]B$/m);
    expect(out).toMatch(/^services +monitor +(running|waiting)/m);
    expect(out).toMatch(/^ +127\.0\.0\.1:9 +does not answer/m);

    local.signal('SIGTERM');
    expect(await local.ended).toMatchObject({ code: 0 });
    const { out: screen } = await run('explain', [good.url.replace('ws://', 'WS://')], { env });
    expect(screen.split('\n')[0]).toMatch(new RegExp(`^relay +url +${good.url}$`));
    expect(screen).toMatch(/^events +held +300$/m);
    const after = await json('status');
    expect(valueIn(after.rows, 'archive', 'events')).toBe('300');
  });

  test('both print in one sentence that there is no archive in the data folder, and how to create one', async ({
    run,
  }) => {
    for (const [command, args] of [
      ['explain', [URL]],
      ['status', []],
    ] as const) {
      const { out, err } = await run(command, args, { code: 2 });
      expect(out).toBe('');
      expect(err).toHaveLength(1);
      expect(err[0]).toMatch(/^There is no archive in .*data.postgres: npm start makes one/);
    }
  });
});

describe('on a server', () => {
  test('both work on an archive without relays', async ({ database: _used, run, json }) => {
    const { known, rows } = await json('explain', [URL], { code: 1 });
    expect(known).toBe(false);
    expect(valueIn(rows, 'relay', 'status')).toBe('unknown to this archive');
    const status = await json('status');
    expect(valueIn(status.rows, 'version', 'schema')).toBe(SCHEMA_VERSION);
    expect(valueIn(status.rows, 'version', 'Bigbrotr')).toMatch(/^\d+\.\d+\.\d+/);
    expect(valueIn(status.rows, 'relays', 'known')).toBe('0');
    expect(status.rows.some(({ section }) => section === 'disk')).toBe(false); // of another machine
    const { out } = await run('status');
    expect(out).toMatch(/^relays +known +0$/m);
  });

  test('explain suggests similar known relays for an unknown one', async ({ database, run }) => {
    await database.query(`select insert_relay($1, 'clearnet')`, [URL]);
    const { out } = await run('explain', ['wss://one.exmaple.com'], { code: 1 });
    expect(out).toMatch(/^ +status +unknown to this archive$/m);
    expect(out).toMatch(new RegExp(`^nearest +${URL} +[\\d.]+ %$`, 'm'));
    expect((await run('explain', ['one.example.com/'])).out).toMatch(/^ +status +known$/m);
  });

  test.for<['explain' | 'status', string[], Record<string, string>, RegExp]>([
    ['explain', [], {}, /^Name one relay: npm run explain -- wss:\/\/relay\.example\.com/],
    ['explain', ['http://x.example'], {}, /^"http:\/\/x\.example" names no relay/],
    ['explain', [URL], { POSTGRES_PORT: '1' }, /^The database .* failed: .*ECONNREFUSED/],
    ['explain', [URL], { POSTGRES_DB: 'nowhere' }, /^There is no database at/],
    ['status', ['--all'], {}, /^"--all" is not understood: npm run status/],
    ['status', [], { POSTGRES_PORT: '1' }, /^The database .* failed: .*ECONNREFUSED/],
    ['status', [], { POSTGRES_PASSWORD: 'wrong' }, /^PostgreSQL refuses the login/],
  ])(
    '%s %j with %j exits with 2 and prints one sentence',
    async ([command, args, env, sentence], { database: _used, run }) => {
      const { out, err } = await run(command, args, { code: 2, env });
      expect(out).toBe('');
      expect(err).toHaveLength(1);
      expect(err[0]).toMatch(sentence);
    },
  );
});
