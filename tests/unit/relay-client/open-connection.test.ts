import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, vi } from 'vitest';
import { JunkLimit } from '../../../src/relay-client/junk-limit.ts';
import { OPCODE, rawFrame } from '../../network/raw-server.ts';
import { nextMessage, connectionTest as test } from '../../relay/connection-test.ts';
import { whenStill } from '../../relay/relays.ts';

vi.setConfig({ testTimeout: 20_000 }); // for a busy machine; no timeout under test is that long

describe('RelayConnection', () => {
  test('keeps a frame that arrived in one segment with the upgrade', async ({
    startRawRelay,
    open,
  }) => {
    const server = await startRawRelay(rawFrame('["AUTH","challenge"]'));
    const connection = await open(`ws://127.0.0.1:${server.port}`);
    await sleep(20); // a caller may be busy before it listens
    await expect(nextMessage(connection)).resolves.toBe('["AUTH","challenge"]');
  });

  test('survives a broken frame in one segment with the upgrade', async ({
    startRawRelay,
    open,
  }) => {
    const server = await startRawRelay(rawFrame('x', { opcode: 3 }));
    const connection = await open(`ws://127.0.0.1:${server.port}`);
    connection.onMessage(() => {});
    await expect(connection.closed).resolves.toMatchObject({ code: 1006 });
    expect((await connection.closed).reason).toMatch(/invalid opcode/i);
  });

  test('closes when the relay disconnects while nothing listens', async ({ startRelay, open }) => {
    const relay = await startRelay();
    const connection = await open(relay.url);
    connection.onMessage(() => {})();
    await relay.stop();
    await expect(connection.closed).resolves.toMatchObject({ code: 1006 });
    expect(connection.isOpen).toBe(false);
    connection.send(['CLOSE', 'a']); // does nothing
    connection.close();
  });

  test('closes at the head of a frame above the limit, before buffering it', async ({
    startRawRelay,
    open,
  }) => {
    const server = await startRawRelay(
      Buffer.from([0x81, 127, 0, 0, 0, 0, 0x40, 0, 0, 0]), // announces 1 GiB
      (socket) => {
        const more = () => socket.writable && socket.write(Buffer.alloc(65_536), more);
        more();
      },
    );
    const connection = await open(`ws://127.0.0.1:${server.port}`, { maxMessageBytes: 100_000 });
    connection.onMessage(() => {});
    await expect(connection.closed).resolves.toMatchObject({
      reason: 'Max payload size exceeded',
    });
    expect(connection.bytesReceived).toBe(0);
    await vi.waitFor(() => expect(server.openSockets()).toBe(0));
  });

  test('accepts a frame as large as the limit', async ({ startRelay, open }) => {
    const relay = await startRelay();
    const connection = await open(relay.url, { maxMessageBytes: 1_000_000 });
    const message = nextMessage(connection);
    relay.say('NOTICE', 'x'.repeat(1_000_000 - '["NOTICE",""]'.length));
    expect((await message).length).toBe(1_000_000);
  });

  test('closes on a message of endless fragments', async ({ startRawRelay, open }) => {
    const fragment = rawFrame('x', { opcode: OPCODE.continuation, fin: false });
    const server = await startRawRelay(rawFrame('[', { fin: false }), (socket) => {
      const many = Buffer.concat(Array(1000).fill(fragment));
      const more = () => socket.writable && socket.write(many, more);
      more();
    });
    const connection = await open(`ws://127.0.0.1:${server.port}`);
    connection.onMessage(() => {});
    await expect(connection.closed).resolves.toMatchObject({
      reason: expect.stringMatching(/fragments/),
    });
  });

  test('answers pings, and bounds the memory for a peer that pings without reading', async ({
    startRawRelay,
    open,
  }) => {
    let answered = 0;
    const ping = rawFrame('p'.repeat(125), { opcode: OPCODE.ping });
    const server = await startRawRelay(ping, (socket) => {
      socket.once('data', (data) => {
        answered = data.length;
        socket.pause();
        const many = Buffer.concat(Array(1000).fill(ping));
        let sent = 0;
        const more = () => ++sent < 300 && socket.writable && socket.write(many, more);
        more();
      });
    });
    const connection = await open(`ws://127.0.0.1:${server.port}`);
    connection.onMessage(() => {});
    await connection.closed;
    expect(answered).toBe(2 + 4 + 125); // head, mask, payload
    expect(server.total).toBe(1);
  });

  test('closes on text that is not UTF-8; counts and drops binary frames', async ({
    startRawRelay,
    open,
  }) => {
    const server = await startRawRelay(
      Buffer.concat([
        rawFrame('abc', { opcode: OPCODE.binary }),
        rawFrame('def', { opcode: OPCODE.binary }),
        rawFrame('["EOSE","a"]'),
        rawFrame(Buffer.from([0xc3, 0x28])),
      ]),
    );
    const connection = await open(`ws://127.0.0.1:${server.port}`);
    const seen: string[] = [];
    connection.onMessage((data) => seen.push(data));
    await expect(connection.closed).resolves.toMatchObject({
      reason: expect.stringMatching(/UTF-8/),
    });
    expect(connection.binaryFrames).toBe(2);
    expect(seen).toEqual(['["EOSE","a"]']);
  });

  test('does not call a removed handler', async ({ startRelay, open }) => {
    const relay = await startRelay();
    const connection = await open(relay.url);
    const seen: string[] = [];
    const stop = connection.onMessage((data) => seen.push(data));
    stop();
    const received = nextMessage(connection);
    relay.say('NOTICE', 'x');
    await received;
    expect(seen).toEqual([]);
  });

  test('pause() stops the sender, resume() loses nothing', async ({ startRawRelay, open }) => {
    let sent = 0;
    let serverSide: Socket | undefined;
    const frame = rawFrame(`"${'x'.repeat(60_000)}"`);
    const server = await startRawRelay(Buffer.alloc(0), (socket) => {
      serverSide = socket;
      const more = () => {
        for (; sent < 500 && !socket.writableNeedDrain; sent++) socket.write(frame);
        if (sent < 500) socket.once('drain', more);
      };
      more();
    });
    const connection = await open(`ws://127.0.0.1:${server.port}`);
    let received = 0;
    connection.onMessage(() => {
      received += 1;
      if (received === 1) connection.pause();
    });
    await vi.waitFor(() => expect(received).toBeGreaterThan(0));
    await whenStill(() => sent);
    const held = { sent, received };
    await sleep(200);
    expect({ sent, received }).toEqual(held); // nothing moves
    expect(sent).toBeLessThan(500);
    expect(serverSide?.writableLength).toBeGreaterThan(0);
    connection.resume();
    await vi.waitFor(() => expect(received).toBe(500), 4000);
  });

  test('close() takes about a second when the peer never answers the close', async ({
    startRawRelay,
    open,
  }) => {
    let closeFrames = 0;
    const server = await startRawRelay(Buffer.alloc(0), (socket) => {
      socket.on('data', () => {
        closeFrames += 1;
      });
    });
    const connection = await open(`ws://127.0.0.1:${server.port}`);
    connection.pause();
    connection.close();
    connection.close();
    await connection.closed; // ws itself would wait 30 s: this test would time out
    expect(closeFrames).toBe(1);
    await vi.waitFor(() => expect(server.openSockets()).toBe(0));
  });

  test('close() takes about a second when the peer floods the connection', async ({
    startRawRelay,
    open,
  }) => {
    const frame = rawFrame(`"${'x'.repeat(60_000)}"`);
    const server = await startRawRelay(Buffer.alloc(0), (socket) => {
      const more = () => socket.writable && socket.write(frame, more);
      more();
    });
    const connection = await open(`ws://127.0.0.1:${server.port}`);
    connection.onMessage(() => {});
    await nextMessage(connection);
    connection.close();
    await connection.closed;
  });

  test("makes the relay's close reason plain text", async ({ startRawRelay, open }) => {
    const payload = Buffer.concat([
      Buffer.from([0x0f, 0xa1]),
      Buffer.from('bad\u0000 \u001b[31mred'),
    ]);
    const server = await startRawRelay(rawFrame(payload, { opcode: OPCODE.close }));
    const connection = await open(`ws://127.0.0.1:${server.port}`);
    connection.onMessage(() => {});
    const { code, reason } = await connection.closed;
    expect(code).toBe(4001);
    expect(reason).toMatch(/^bad.*red$/);
    expect(reason).not.toMatch(/\p{Cc}/u);
  });
});

describe('RelayConnection above the junk limit', () => {
  const share = new JunkLimit(1024);

  const throttled = test.extend('held', async ({ startRelay, open }) => {
    const relay = await startRelay();
    const connection = await open(relay.url, { junkLimit: share });
    let received = 0;
    connection.onMessage(() => {
      received += 1;
    });
    connection.chargeJunk(100 * 1024); // for 100 s
    expect(connection.isThrottled).toBe(true);
    return { relay, connection, received: () => received };
  });

  test.for(['binary', 'pong'] as const)(
    'stops reading a flood of %s frames',
    async (kind, { startRawRelay, open }) => {
      const frame = rawFrame('x'.repeat(100), { opcode: OPCODE[kind] });
      const many = Buffer.concat(Array(1000).fill(frame));
      let sent = 0;
      const server = await startRawRelay(frame, (socket) => {
        const more = () => {
          sent += many.length;
          if (socket.writable) socket.write(many, more);
        };
        more();
      });
      const junkLimit = new JunkLimit(1024);
      const connection = await open(`ws://127.0.0.1:${server.port}`, { junkLimit });
      connection.onMessage(() => {});
      await vi.waitFor(() => expect(connection.isThrottled).toBe(true), 10_000);
      const before = await whenStill(() => sent); // TCP stops it
      expect(before).toBeLessThan(50 * 1024 * 1024);
      expect(connection.isOpen).toBe(true);
    },
  );

  throttled(
    'is not read, even after resume(), and leaves the limit when it closes',
    async ({ held }) => {
      const { relay, connection, received } = held;
      connection.pause();
      connection.resume();
      relay.say('NOTICE', 'hello');
      expect(await whenStill(received)).toBe(0);
      expect(share.waiting).toBe(1);
      connection.close();
      await connection.closed;
      expect(share.waiting).toBe(0);
    },
  );

  throttled('is not terminated as half-open by keepAlive', async ({ held }) => {
    const { connection } = held;
    connection.keepAlive(50);
    await sleep(500);
    expect(connection.isOpen).toBe(true);
  });

  test('reads again after the wait', async ({ startRelay, open }) => {
    const relay = await startRelay();
    const connection = await open(relay.url, { junkLimit: new JunkLimit(1024 * 1024) });
    connection.chargeJunk(100 * 1024);
    const read = new Promise((resolve) => connection.onMessage(resolve));
    expect(connection.isThrottled).toBe(true);
    relay.say('NOTICE', 'hello');
    expect(await read).toBe('["NOTICE","hello"]');
    expect(connection.isThrottled).toBe(false);
  });
});
