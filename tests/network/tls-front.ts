import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { createServer } from 'node:tls';
import type { Certificate } from './certificates.ts';
import { listenOnLoopback } from './loopback.ts';

/** TLS in front of a plain server, so that every relay of the tests can be one with a certificate. */
export interface TlsFront {
  readonly port: number;
  /** TCP connections so far. */
  readonly total: number;
  stop(): Promise<void>;
}

/** @param port the plain server on loopback; null for one that never says a word after the handshake */
export async function startTlsFront(
  { certificate, key }: Certificate,
  port: number | null,
): Promise<TlsFront> {
  const sockets = new Set<Socket>();
  let total = 0;
  const keep = (socket: Socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket)).on('error', () => {});
  };
  const server = createServer({ cert: certificate, key }, (outside) => {
    keep(outside);
    if (port === null) return;
    const inside = connect(port, '127.0.0.1');
    keep(inside);
    outside.pipe(inside).pipe(outside);
    outside.on('close', () => inside.destroy());
    inside.on('close', () => outside.destroy());
  });
  server.on('connection', (socket: Socket) => {
    total += 1;
    keep(socket);
  });
  server.on('tlsClientError', () => {});
  const ownPort = await listenOnLoopback(server);
  return {
    port: ownPort,
    get total() {
      return total;
    },
    stop: async () => {
      if (!server.listening) return;
      server.close();
      for (const socket of sockets) socket.destroy();
      await once(server, 'close');
    },
  };
}
