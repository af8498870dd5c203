/** `npm run verify` as people run it: a sound archive, one that was tampered with row by row, and wrong input. */
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { describe, expect, vi } from 'vitest';
import type { NostrEvent } from '../../src/nostr/event.ts';
import { signedEvent, signedEvents } from '../fixtures/events.ts';
import { batchOf, knownRelay } from '../postgres/bigbrotr.ts';
import { Program } from '../processes/programs.ts';
import { projectFile } from '../processes/project.ts';
import { sharedStackTest } from '../processes/stack-test.ts';

const T = 1_700_000_000;
/** Times of one to twelve digits: rows are read on by a key that begins with the time. */
const TIMES = [0, 7, 99, 2 ** 20, 2 ** 31, 2 ** 33, 2 ** 39 - 1];
const EVENTS = [
  ...signedEvents(300, { from: T, to: T + 100_000 }),
  ...TIMES.map((created_at) => signedEvent({ created_at, tags: [['t', 'time']] })),
];
const ODD = ['\0', '\ud800', 'a\0b', '\udfff', '\ud800\0'].map((content, index) =>
  signedEvent({ created_at: T + index, content }),
);
const ALL = EVENTS.length + ODD.length;

/** An event that is found different, where it stands, and why. */
type Difference = [id: string, place: string, reason: string];

const test = sharedStackTest
  /** Stores events of one relay in the archive, which is empty before each test. */
  .extend('store', async ({ database, bigbrotr }) => {
    await database.query('truncate relays, events, sightings cascade');
    const relay = await knownRelay(bigbrotr, 'one');
    return async (events: readonly NostrEvent[]): Promise<void> => {
      await bigbrotr.store(batchOf({ relay, filterId: await bigbrotr.filterId({}), events }));
    };
  })
  .extend(
    'start',
    ({ stack, database: _used }) =>
      (args: readonly string[] = [], env: Record<string, string> = {}): Program =>
        new Program(process.execPath, [projectFile('dist/verify.js'), ...args], {
          cwd: stack.folder,
          env: { ...stack.env, ...env },
        }),
  )
  /** Runs it to its end. @returns what it said: differences, and the figures of the last line. */
  .extend('verify', ({ start }) => async (args: readonly string[] = [], expected = 0) => {
    const program = start(args);
    expect(await program.ended, program.said).toEqual({ code: expected, signal: null });
    expect(program.err).toEqual([]);
    const differences = program.out.slice(0, -1).map((line) => line.split('  '));
    const last = program.out.at(-1) ?? '';
    const [, read, different] =
      /^(\d+) events read back, (\d+) different, \d+\.\d s, \d+ events\/s$/.exec(last) ?? [];
    return { differences, read: Number(read), different: Number(different) };
  })
  /** Expects that all events are read back, and that these are different and no others. */
  .extend('expectDifferent', ({ verify }) => async (expected: readonly Difference[]) => {
    const { differences, ...figures } = await verify([], 1);
    expect(figures).toEqual({ read: ALL, different: expected.length });
    expect(differences.sort()).toEqual([...expected].sort());
  });

const sound = (read: number) => ({ read, different: 0, differences: [] });

describe('an intact archive', () => {
  test('is verified completely, with the quarantine', async ({ store, verify }) => {
    expect(await verify()).toEqual(sound(0));
    await store([...EVENTS, ...ODD]);
    expect(await verify()).toEqual(sound(ALL));
  });

  test('is verified in a sample of the requested size', async ({ store, verify }) => {
    await store(EVENTS.slice(0, 1));
    expect(await verify(['--sample', '5'])).toEqual(sound(5)); // whatever the point, there is an event after it
    await store(EVENTS);
    expect(await verify(['--sample', '250'])).toEqual(sound(250));
  });

  test('has its progress printed when verifying takes longer than a second', async ({
    store,
    start,
    database,
  }) => {
    await store(EVENTS);
    const waiting = async () => {
      const [row] = await database.query<{ count: number }>(
        `select count(*)::int from pg_stat_activity
         where wait_event_type = 'Lock' and datname = current_database()`,
      );
      return row?.count;
    };
    const keeper = new pg.Client(database.config);
    await keeper.connect();
    try {
      await keeper.query('begin; lock table events in access exclusive mode');
      const program = start();
      await vi.waitFor(async () => expect(await waiting()).toBe(1), { timeout: 30_000 });
      await sleep(2100);
      await keeper.query('commit');
      expect(await program.ended, program.said).toEqual({ code: 0, signal: null });
      expect(program.err).toEqual([
        expect.stringMatching(/^100 events read back, 0 different, [2-9]\.\d s, \d+ events\/s$/),
      ]);
    } finally {
      await keeper.end();
    }
  });
});

describe('an archive that was tampered with', () => {
  const hex = (letter: string, length: number) => `decode(repeat('${letter}', ${length}), 'hex')`;
  const tampering: [column: string, value: string, reason: string][] = [
    ['content', `content || ' and more'`, 'id_mismatch'],
    ['content', `''`, 'id_mismatch'],
    ['tags', `'[["t","other"]]'`, 'id_mismatch'],
    ['tags', `'{"t":1}'`, 'tags'],
    ['tags', `'[["t",1]]'`, 'tags'],
    ['kind', 'kind + 1', 'id_mismatch'],
    ['created_at', 'created_at + 1', 'id_mismatch'],
    ['pubkey', hex('ab', 32), 'id_mismatch'],
    ['sig', hex('cd', 64), 'bad_signature'],
    ['sig', `overlay(sig placing '\\x00' from 64)`, 'bad_signature'],
  ];

  test('in any column of a row: the event is reported', async ({
    store,
    database,
    expectDifferent,
  }) => {
    await store([...EVENTS, ...ODD]);
    const expected: Difference[] = [];
    for (const [index, [column, value, reason]] of tampering.entries()) {
      const { id } = EVENTS[20 * index] as NostrEvent;
      const where = `where id = decode($1, 'hex') returning 1`;
      const changed = await database.query(`update events set ${column} = ${value} ${where}`, [id]);
      expect(changed, value).toHaveLength(1);
      expected.push([id, 'events', reason]);
    }
    await expectDifferent(expected);
  });

  test('in an id: the event is reported with the stored id', async ({
    store,
    database,
    verify,
  }) => {
    await store(EVENTS);
    await database.query(`update events set id = ${hex('ef', 32)} where id = decode($1, 'hex')`, [
      EVENTS[3]?.id,
    ]);
    const { differences } = await verify([], 1);
    expect(differences).toEqual([['ef'.repeat(32), 'events', 'id_mismatch']]);
  });

  const raws: [set: string, reason: string][] = [
    [
      `raw = convert_to(replace(convert_from(raw, 'UTF8'), '"content":"', '"content":"x'), 'UTF8')`,
      'id_mismatch',
    ],
    [
      `raw = convert_to(regexp_replace(convert_from(raw, 'UTF8'), '"sig":"....', '"sig":"0000'), 'UTF8')`,
      'bad_signature',
    ],
    [`raw = substring(raw from 2)`, 'not_object'],
    [`raw = raw || '\\xff'::bytea`, 'not_object'],
    [`raw = ''`, 'not_object'],
  ];
  test('in the bytes of the quarantine: each event is reported with its reason', async ({
    store,
    database,
    expectDifferent,
  }) => {
    await store([...EVENTS, ...ODD]);
    const expected: Difference[] = [];
    for (const [index, [set, reason]] of raws.entries()) {
      const { id } = ODD[index] as NostrEvent;
      await database.query(`update quarantine set ${set} where id = decode($1, 'hex')`, [id]);
      expected.push([id, 'quarantine', reason]);
    }
    await expectDifferent(expected);
  });

  test('in an id of the quarantine: the event is reported with that id', async ({
    store,
    database,
    verify,
  }) => {
    await store(ODD);
    await database.query(
      `update quarantine set id = ${hex('ef', 32)} where id = decode($1, 'hex')`,
      [ODD[0]?.id],
    );
    const { differences } = await verify([], 1);
    expect(differences).toEqual([['ef'.repeat(32), 'quarantine', 'stands under another id']]);
  });

  test('everywhere: a hundred events are reported and all are counted; a sample detects it too', async ({
    store,
    database,
    verify,
  }) => {
    await store(EVENTS);
    await database.query(`update events set content = content || '!'`);
    const { differences, ...figures } = await verify([], 1);
    expect(figures).toEqual({ read: EVENTS.length, different: EVENTS.length });
    expect(differences).toHaveLength(100);
    expect(await verify(['--sample', '3'], 1)).toMatchObject({ read: 3, different: 3 });
  });
});

test.for<[args: string[], env: Record<string, string>, sentence: string]>([
  [['--sample'], {}, '--sample is not understood: give nothing, or --sample and a number above 0.'],
  [['--sample', '0'], {}, '--sample 0 is not understood'],
  [['--sample', '1.5'], {}, '--sample 1.5 is not understood'],
  [['--all'], {}, '--all is not understood'],
  [[], { POSTGRES_PASSWORD: 'wrong' }, 'PostgreSQL refuses the login'],
  [[], { POSTGRES_DB: 'nowhere' }, 'There is no database at'],
])(
  'verify with %j %j exits with 2 and prints one sentence with the error',
  async ([args, env, sentence], { start }) => {
    const program = start(args, env);
    expect(await program.ended).toEqual({ code: 2, signal: null });
    expect(program.out).toEqual([]);
    expect(program.err.join('\n')).toContain(sentence);
    expect(program.err.join('\n')).not.toMatch(/^\s*at /m);
  },
);
