import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { BlocklistError, parseBlocklist, readBlocklist } from '../../src/relay/blocklist.ts';
import { relayUrl } from '../support/relays.ts';

const ONION = 'oxtrdevav64z64yb7x6rjg4ntzqjhedm5b5zjqulugknhzr46ny2qbad.onion';
const blocks = (list: string, url: string) => parseBlocklist(list, 'list').blocks(relayUrl(url));

describe('a URL in the list', () => {
  test.each<[boolean, string, string]>([
    [true, 'wss://relay.example.com', 'wss://relay.example.com'],
    [true, 'WSS://Relay.Example.com.:443/', 'wss://relay.example.com'],
    [true, 'wss://relay.example.com/inbox', 'wss://relay.example.com/inbox'],
    [true, 'ws://127.0.0.1:7777', 'ws://127.0.0.1:7777'],
    [false, 'wss://relay.example.com', 'wss://relay.example.com/inbox'],
    [false, 'wss://relay.example.com/inbox', 'wss://relay.example.com'],
    [false, 'wss://relay.example.com', 'ws://relay.example.com'],
    [false, 'wss://relay.example.com', 'wss://relay.example.com:8443'],
    [false, 'wss://relay.example.com', 'wss://other.example.com'],
  ])('blocks that relay: %s %s %s', (expected, line, url) => {
    expect(blocks(line, url)).toBe(expected);
  });
});

describe('a host name in the list', () => {
  test.each<[boolean, string, string]>([
    [true, 'relay.example.com', 'wss://relay.example.com'],
    [true, 'Relay.Example.COM.', 'wss://relay.example.com'],
    [true, 'relay.example.com', 'ws://relay.example.com:8080/inbox?x=1'],
    [true, 'bücher.example', 'wss://xn--bcher-kva.example'],
    [true, '203.0.113.7', 'ws://203.0.113.7:7777'],
    [true, '[2001:db8::7]', 'ws://[2001:db8:0::7]:7777'],
    [true, ONION, `ws://${ONION}`],
    [false, 'example.com', 'wss://relay.example.com'],
    [false, 'relay.example.com', 'wss://example.com'],
    [false, 'relay.example.com', 'wss://relay.example.com.evil.example'],
  ])('blocks every relay of that host: %s %s %s', (expected, line, url) => {
    expect(blocks(line, url)).toBe(expected);
  });
});

describe('the list', () => {
  test('may hold comments, blank lines, repeats and any line ends', () => {
    const list = parseBlocklist(
      '\ufeff# asked by mail on 2026-02-01\r\n\r\n  one.example.com   # and their other one:\r\n\twss://two.example.com/a#b\nwss://two.example.com/a\n#wss://three.example.com',
      'list',
    );
    expect(list.size).toBe(2);
    expect(list.blocks(relayUrl('ws://one.example.com:99'))).toBe(true);
    expect(list.blocks(relayUrl('wss://two.example.com/a'))).toBe(true);
    expect(list.blocks(relayUrl('wss://three.example.com'))).toBe(false);
  });

  test.each([
    'https://relay.example.com',
    'wss://',
    'relay example com',
    '*.example.com',
    'user@relay.example.com',
    'relay.example.com, other.example.com',
    `${'a'.repeat(2000)}.example.com`,
  ])('refuses a line that is no relay, and names it: %s', (line) => {
    const parse = () => parseBlocklist(`one.example.com\n\n${line}\n`, 'my list');
    expect(parse).toThrow(BlocklistError);
    expect(parse).toThrow(/^Line 3 of the blocklist my list is no relay: .+\.$/);
  });
});

describe('the file of the list', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'bigbrotr-blocklist-'));
  });
  afterEach(() => rm(folder, { recursive: true }));

  test('is read anew each time', async () => {
    const path = join(folder, 'blocklist.txt');
    const url = relayUrl('wss://relay.example.com');
    await writeFile(path, '');
    expect((await readBlocklist(path)).blocks(url)).toBe(false);
    await writeFile(path, 'relay.example.com\n');
    expect((await readBlocklist(path)).blocks(url)).toBe(true);
  });

  test('need not be: then nothing is blocked', async () => {
    const list = await readBlocklist(null);
    expect(list.size).toBe(0);
    expect(list.blocks(relayUrl('wss://relay.example.com'))).toBe(false);
  });

  test('must be readable where it is named: a wish is not lost to a mistake', async () => {
    for (const path of [join(folder, 'absent.txt'), folder]) {
      await expect(readBlocklist(path)).rejects.toThrow(BlocklistError);
      await expect(readBlocklist(path)).rejects.toThrow(
        /cannot be read \((ENOENT|EISDIR)\): check RELAY_BLOCKLIST_PATH\.$/,
      );
    }
  });
});
