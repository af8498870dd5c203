import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import { listenOnLoopback } from './loopback.ts';
import { CERTIFICATE, KEY } from './tls-certificate.ts';

/** A server on loopback that writes bytes as it is told: for peers that no library would be. */
export interface RawServer {
  readonly port: number;
  /** Connections so far. */
  readonly total: number;
  openSockets(): number;
  close(): Promise<void>;
}

/** Starts a TCP server, or one behind TLS with the certificate of the tests. */
export async function startRawServer(
  onSocket: (socket: Socket) => unknown,
  { tls = false } = {},
): Promise<RawServer> {
  const sockets = new Set<Socket>();
  let total = 0;
  const take = (socket: Socket) => {
    total += 1;
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => {});
    onSocket(socket);
  };
  const server = tls ? createTlsServer({ key: KEY, cert: CERTIFICATE }, take) : createServer(take);
  const port = await listenOnLoopback(server);
  return {
    port,
    get total() {
      return total;
    },
    openSockets: () => sockets.size,
    close: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

/** Reads the request for an upgrade and gives the answer that accepts it (RFC 6455, 4.2.2), to be written with more. */
export async function acceptance(socket: Socket): Promise<Buffer> {
  let request = '';
  while (!request.includes('\r\n\r\n')) {
    const [chunk] = (await once(socket, 'data')) as [Buffer];
    request += chunk.toString('latin1');
  }
  const key = /^sec-websocket-key: *(\S+)/im.exec(request)?.[1] ?? '';
  const accept = createHash('sha1').update(`${key}${GUID}`).digest('base64');
  return Buffer.from(
    `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
  );
}

export const OPCODE = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;

/** One frame as a server sends it: not masked (RFC 6455, 5.2). */
export function rawFrame(
  payload: string | Buffer,
  { opcode = OPCODE.text as number, fin = true } = {},
): Buffer {
  const body = Buffer.from(payload);
  const head = Buffer.alloc(body.length < 126 ? 2 : 4);
  if (body.length > 65_535) throw new RangeError('a raw frame of the tests holds 65,535 bytes');
  head.writeUInt8((fin ? 0x80 : 0) | opcode, 0);
  head.writeUInt8(Math.min(body.length, 126), 1);
  if (body.length >= 126) head.writeUInt16BE(body.length, 2);
  return Buffer.concat([head, body]);
}
