import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { BlockedRelays } from '../../../src/network/blocked-relays.ts';
import { BlocklistError, parseBlocklist, readBlocklist } from '../../../src/network/blocklist.ts';
import { BlocklistWatch } from '../../../src/network/blocklist-watch.ts';
import { relayUrl } from '../../relay/relays.ts';

const ONION = 'oxtrdevav64z64yb7x6rjg4ntzqjhedm5b5zjqulugknhzr46ny2qbad.onion';
const blocks = (list: string, url: string) => parseBlocklist(list, 'list').blocks(relayUrl(url));

describe('a URL in the blocklist', () => {
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
  ])('blocks that relay alone: %s %s %s', (expected, line, url) => {
    expect(blocks(line, url)).toBe(expected);
  });
});

describe('a host name in the blocklist', () => {
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

describe('parseBlocklist', () => {
  test('accepts comments, blank lines, duplicates and any line ends', () => {
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
  ])('refuses a line that is not a relay, with its number: %s', (line) => {
    const parse = () => parseBlocklist(`one.example.com\n\n${line}\n`, 'my list');
    expect(parse).toThrow(BlocklistError);
    expect(parse).toThrow(/^Line 3 of the blocklist my list is no relay: .+\.$/);
  });
});

describe('readBlocklist', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'bigbrotr-blocklist-'));
  });
  afterEach(() => rm(folder, { recursive: true }));

  test('reads the file again on each call', async () => {
    const path = join(folder, 'blocklist.txt');
    const url = relayUrl('wss://relay.example.com');
    await writeFile(path, '');
    expect((await readBlocklist(path)).blocks(url)).toBe(false);
    await writeFile(path, 'relay.example.com\n');
    expect((await readBlocklist(path)).blocks(url)).toBe(true);
  });

  test('blocks nothing without a path', async () => {
    const list = await readBlocklist(null);
    expect(list.size).toBe(0);
    expect(list.blocks(relayUrl('wss://relay.example.com'))).toBe(false);
  });

  test('reads every .txt file of a directory, and nothing else in it', async () => {
    expect((await readBlocklist(folder)).size).toBe(0);
    await writeFile(join(folder, 'one.txt'), 'one.example.com\ntwo.example.com\n');
    await writeFile(join(folder, 'two.txt'), 'two.example.com\nwss://three.example.com\n');
    await writeFile(join(folder, 'one.txt~'), 'no relay at all');
    await writeFile(join(folder, '.#one.txt'), 'no relay at all');
    const list = await readBlocklist(folder);
    expect(list.size).toBe(3);
    expect(list.blocks(relayUrl('ws://one.example.com'))).toBe(true);
    expect(list.blocks(relayUrl('wss://three.example.com'))).toBe(true);
    await writeFile(join(folder, 'three.txt'), 'no relay at all');
    await expect(readBlocklist(folder)).rejects.toThrow(/Line 1 of the blocklist .*three\.txt is/);
  });

  test('throws when the file cannot be read', async () => {
    const path = join(folder, 'absent.txt');
    await expect(readBlocklist(path)).rejects.toThrow(BlocklistError);
    await expect(readBlocklist(path)).rejects.toThrow(
      /cannot be read \(ENOENT\): check RELAY_BLOCKLIST_PATH\.$/,
    );
  });

  test('throws when the file no longer exists', async () => {
    const path = join(folder, 'blocklist.txt');
    await writeFile(path, 'one.example.com\n');
    const file = await open(path);
    try {
      const held = `/proc/self/fd/${file.fd}`;
      expect((await readBlocklist(held)).size).toBe(1);
      await rm(path);
      await expect(readBlocklist(held)).rejects.toThrow(/was replaced outside of this container/);
    } finally {
      await file.close();
    }
  });
});

describe('BlockedRelays', () => {
  test('logs how many entries were read, and again only after a change', async () => {
    vi.useFakeTimers({ toFake: ['performance'] });
    const folder = await mkdtemp(join(tmpdir(), 'bigbrotr-blocklist-'));
    try {
      const path = join(folder, 'blocklist.txt');
      await writeFile(path, 'one.example.com\n');
      const info = vi.fn();
      const blocked = new BlockedRelays(path, { info });
      for (let read = 0; read < 3; read += 1) {
        await blocked.read();
        vi.advanceTimersByTime(11_000);
      }
      expect(info.mock.calls).toEqual([[{ path, entries: 1 }, 'blocklist read']]);
      await writeFile(path, 'one.example.com\ntwo.example.com\n');
      await blocked.read();
      expect(info).toHaveBeenLastCalledWith({ path, entries: 2 }, 'blocklist read');
      await new BlockedRelays(null, { info }).read();
      expect(info).toHaveBeenCalledTimes(2);
    } finally {
      vi.useRealTimers();
      await rm(folder, { recursive: true });
    }
  });
});

describe('BlocklistWatch', () => {
  const [one, two] = [relayUrl('wss://one.example.com'), relayUrl('wss://two.example.com')];
  let folder: string;
  let watch: BlocklistWatch;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'bigbrotr-blocklist-'));
    watch = await BlocklistWatch.start(folder, 10);
  });
  afterEach(async () => {
    watch.close();
    await rm(folder, { recursive: true });
  });
  const block = (host: string) => writeFile(join(folder, `${host}.txt`), `${host}\n`);

  test('ends work at a relay that is blocked while it runs, and no other', async () => {
    const until = (signal: AbortSignal) =>
      new Promise((resolve) => signal.addEventListener('abort', () => resolve(signal.reason)));
    const outer = new AbortController();
    const blocked = watch.run(one, outer.signal, until);
    const other = watch.run(two, outer.signal, until);
    await block('one.example.com');
    expect(await blocked).toMatchObject({
      name: 'AbortError',
      message: `${one} was put on the blocklist`,
    });
    outer.abort('the end');
    expect(await other).toBe('the end');
  });

  test('aborts at once for a relay that is already blocked, and does not call released callbacks', async () => {
    const released = vi.fn();
    watch.onBlocked(one, released)();
    await block('one.example.com');
    await vi.waitFor(() => expect(watch.blocks(one)).toBe(true));
    const signal = await watch.run(one, new AbortController().signal, async (it) => it);
    expect(signal.aborted).toBe(true);
    expect(released).not.toHaveBeenCalled();
  });

  test('keeps the previous list while the new one cannot be read', async () => {
    await block('one.example.com');
    await vi.waitFor(() => expect(watch.blocks(one)).toBe(true));
    await writeFile(join(folder, 'typo.txt'), 'no relay at all\n');
    await writeFile(join(folder, 'one.example.com.txt'), '');
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(watch.blocks(one)).toBe(true);
    await rm(join(folder, 'typo.txt'));
    await vi.waitFor(() => expect(watch.blocks(one)).toBe(false));
  });
});
