import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { forbiddenHost } from '../../../src/network/address.ts';
import { parseSeedList, readSeedFile, SeedListError } from '../../../src/network/seed-list.ts';

const ONION = 'oxtrdevav64z64yb7x6rjg4ntzqjhedm5b5zjqulugknhzr46ny2qbad.onion';
const urls = (text: string): string[] => parseSeedList(text).relays.map(({ url }) => url);

describe('parseSeedList', () => {
  test('reads comments, blank lines, a byte order mark and any line ends', () => {
    const text =
      '\ufeff# relays\r\n\r\nwss://one.damus.io # the first\r  wss://two.damus.io\t#\n   # indented\nwss://three.damus.io';
    expect(parseSeedList(text)).toEqual({
      relays: ['one', 'two', 'three'].map((name) => ({
        url: `wss://${name}.damus.io`,
        network: 'clearnet',
      })),
      invalid: [],
      duplicates: 0,
    });
  });

  test('reads a byte order mark before a URL', () => {
    expect(urls('\ufeffwss://relay.damus.io')).toEqual(['wss://relay.damus.io']);
  });

  test('keeps the first of many spellings of a relay and counts the others', () => {
    const list = parseSeedList(
      ['wss://nos.lol', 'wss://NOS.lol/', 'wss://nos.lol:443', 'nos.lol', 'ws://nos.lol'].join(
        '\n',
      ),
    );
    expect(list.relays.map(({ url }) => url)).toEqual(['wss://nos.lol', 'ws://nos.lol']);
    expect(list.duplicates).toBe(3);
  });

  test('reports lines that are not a relay, with number and reason, and reads on', () => {
    const list = parseSeedList(
      [
        '# list',
        'https://nos.lol',
        'hello',
        'wss://nos.lol:0',
        'nos.lol',
        'wss://a.io wss://b.io',
      ].join('\n'),
    );
    expect(list.relays).toHaveLength(1);
    expect(list.invalid).toEqual([
      { line: 2, text: 'https://nos.lol', reason: expect.stringContaining('http') },
      { line: 3, text: 'hello', reason: 'it is neither a URL nor a host name' },
      { line: 4, text: 'wss://nos.lol:0', reason: 'port 0 is not a port' },
      { line: 6, text: 'wss://a.io wss://b.io', reason: expect.stringContaining('space') },
    ]);
  });

  test.each([
    ['relay.damus.io', 'wss://relay.damus.io'],
    ['relay.damus.io:4848/path', 'wss://relay.damus.io:4848/path'],
    ['[2606:4700::1111]:7777', 'wss://[2606:4700::1111]:7777'],
    [ONION, `ws://${ONION}`],
    [`${ONION.toUpperCase()}:81/path`, `ws://${ONION}:81/path`],
    [`wss://${ONION}`, `wss://${ONION}`],
    ['ws://localhost:7777', 'ws://localhost:7777'],
    ['wss://relay.damus.io#a-fragment-is-no-comment', 'wss://relay.damus.io'],
  ])('reads %s as %s', (line, url) => {
    expect(urls(line)).toEqual([url]);
  });

  test.each([
    'localhost:7777',
    '#wss://nos.lol',
    'mailto:alice',
    'wss://nos.lol#wss://a.io',
    'see/wss.lol',
    '/relay.damus.io',
  ])('does not guess a relay URL from %s', (line) => {
    expect(urls(line)).toEqual([]);
  });

  test('bounds the reported text of a line, without control characters', () => {
    const [first, second] = parseSeedList(`${'x'.repeat(100_000)}\n\u001b[31mred`).invalid;
    expect(first?.text).toHaveLength(101);
    expect(second?.text).toBe('\ufffd[31mred');
  });
});

describe('readSeedFile', () => {
  let folder = '';
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'seed-list-'));
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  async function failure(path: string): Promise<SeedListError> {
    const error = await readSeedFile(path).catch((caught: unknown) => caught);
    if (!(error instanceof SeedListError)) throw new Error(`no SeedListError: ${String(error)}`);
    expect(error.path).toBe(path);
    return error;
  }
  function file(name: string, content: string): string {
    writeFileSync(join(folder, name), content);
    return join(folder, name);
  }

  test('reads a file', async () => {
    const list = await readSeedFile(file('good.txt', 'nos.lol\nnonsense\n'));
    expect(list.relays).toEqual([{ url: 'wss://nos.lol', network: 'clearnet' }]);
    expect(list.invalid).toHaveLength(1);
  });

  test('reports a missing file in one sentence', async () => {
    const path = join(folder, 'missing.txt');
    const error = await failure(path);
    expect(error.problem).toBe('missing');
    expect(error.message).toBe(
      `The relay list ${path} does not exist: create it, or set its path to a file that does.`,
    );
  });

  test('reports that the path is a directory', async () => {
    const error = await failure(folder);
    expect(error.problem).toBe('unreadable');
    expect(error.message).toContain('it is a directory');
  });

  test.each([
    ['empty', '', /names no relay: write/],
    ['comments only', '# nothing\n\n', /names no relay: write/],
    [
      'of wrong lines',
      'https://nos.lol\n',
      /names no relay \(line 1, "https:\/\/nos\.lol": http is/,
    ],
  ])('refuses a list that is %s', async (name, content, message) => {
    const error = await failure(file(`${name}.txt`, content));
    expect(error.problem).toBe('empty');
    expect(error.message).toMatch(message);
  });
});

describe('the lists of the repository', () => {
  const path = (name: string): string =>
    fileURLToPath(new URL(`../../../${name}`, import.meta.url));
  const seeds = parseSeedList(readFileSync(path('seed_relays.txt'), 'utf8'));
  const priority = parseSeedList(readFileSync(path('priority_relays.txt'), 'utf8'));

  test.each([
    ['seed_relays.txt', seeds],
    ['priority_relays.txt', priority],
  ])('%s contains each relay once, normalised and public', (name, list) => {
    expect(list.invalid).toEqual([]);
    expect(list.duplicates).toBe(0);
    const guarded = list.relays.filter(({ url }) => forbiddenHost(url) !== null);
    expect(guarded).toEqual([]);
    const lines = readFileSync(path(name), 'utf8').split('\n');
    expect(lines.filter((line) => line !== '' && !line.startsWith('#'))).toEqual(
      list.relays.map(({ url }) => url),
    );
  });

  test('seed_relays.txt contains at least 150 relays, ten of them onion services over ws', () => {
    const onions = seeds.relays.filter(({ network }) => network === 'tor');
    console.log(
      `${seeds.relays.length} seed relays, ${onions.length} onion, ${priority.relays.length} priority`,
    );
    expect(seeds.relays.length).toBeGreaterThanOrEqual(150);
    expect(onions.length).toBeGreaterThanOrEqual(10);
    expect(onions.filter(({ url }) => !url.startsWith('ws://'))).toEqual([]);
  });

  test('priority_relays.txt contains about 20 relays, all of them seeds', () => {
    const known = new Set<string>(seeds.relays.map(({ url }) => url));
    expect(priority.relays.filter(({ url }) => !known.has(url))).toEqual([]);
    expect(priority.relays.length).toBeGreaterThanOrEqual(15);
    expect(priority.relays.length).toBeLessThanOrEqual(30);
  });
});
