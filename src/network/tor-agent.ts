import type { Socket } from 'node:net';
import { SocksProxyAgent } from 'socks-proxy-agent';
import type { TorProxy } from './tor.ts';

/**
 * The agent of one WebSocket through Tor. `connectThroughTor` has made the SOCKS handshake before: the library does not
 * report the reply code, which distinguishes a failure of Tor from one of the relay (docs/decisions/tor.md).
 */
export class TorAgent extends SocksProxyAgent {
  readonly #socket: Socket;

  /** @param socket connected to the relay through the proxy, TLS included */
  constructor({ host, port }: TorProxy, socket: Socket) {
    super(`socks5h://${host.includes(':') ? `[${host}]` : host}:${port}`);
    this.#socket = socket;
  }

  override async connect(): Promise<Socket> {
    return this.#socket;
  }
}
