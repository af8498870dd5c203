import { once } from 'node:events';
import type { AddressInfo, Server, Socket } from 'node:net';
import {
  type ConnectOptions,
  connectRelay,
  type RelayConnection,
} from '../../src/relay-client/connection.ts';
import { acceptance, type RawServer, startRawServer } from '../network/raw-server.ts';
import { type SocksProxyOptions, startSocksProxy } from '../network/socks-proxy.ts';
import { relayTest } from './relay-test.ts';
import { local, relayUrl } from './relays.ts';

/** Tests with connections to relays; connections, servers and proxies are closed after the test. */
export const connectionTest = relayTest
  /** Listens on loopback; after the test, or by `close`, the server and its sockets are closed. */
  .extend('listen', ({ onTestFinished }) => {
    return async (server: Server) => {
      const sockets = new Set<Socket>();
      server.on('connection', (socket: Socket) => {
        sockets.add(socket);
        socket.on('error', () => {});
        socket.on('close', () => sockets.delete(socket));
      });
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      const close = async () => {
        for (const socket of sockets) socket.destroy();
        if (!server.listening) return; // closed already
        server.close();
        await once(server, 'close');
      };
      onTestFinished(close);
      return {
        port: (server.address() as AddressInfo).port,
        openSockets: () => sockets.size,
        close,
      };
    };
  })
  .extend('startRaw', ({ onTestFinished }) => {
    return async (onSocket: (socket: Socket) => unknown, options?: { tls: boolean }) => {
      const server = await startRawServer(onSocket, options);
      onTestFinished(() => server.close());
      return server;
    };
  })
  /** A server that accepts the upgrade and sends the bytes with it, in one segment. */
  .extend('startRawRelay', ({ startRaw }) => {
    return (bytes: Buffer, then: (socket: Socket) => void = () => {}): Promise<RawServer> =>
      startRaw(async (socket) => {
        socket.write(Buffer.concat([await acceptance(socket), bytes]));
        then(socket);
      });
  })
  .extend('startProxy', ({ onTestFinished }) => {
    return async (options: SocksProxyOptions = {}) => {
      const proxy = await startSocksProxy(options);
      onTestFinished(() => proxy.close());
      return proxy;
    };
  })
  .extend('open', ({ onTestFinished }) => {
    return async (url: string, options: Partial<ConnectOptions> = {}): Promise<RelayConnection> => {
      const connection = await connectRelay(relayUrl(url), local(options));
      onTestFinished(() => connection.close());
      return connection;
    };
  });

/** The next text frame of a connection. */
export function nextMessage(connection: RelayConnection): Promise<string> {
  return new Promise((resolve) => {
    const stop = connection.onMessage((data) => {
      stop();
      resolve(data);
    });
  });
}
