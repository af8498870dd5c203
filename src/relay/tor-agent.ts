import type { ClientRequest } from 'node:http';
import type { Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { SocksProxyAgent } from 'socks-proxy-agent';
import { connectThroughTor, type TorProxy } from './tor.ts';
import type { RelayUrl } from './url.ts';

type ConnectOptions = Parameters<SocksProxyAgent['connect']>[1];

/**
 * The way of one WebSocket through Tor, as an agent: names are resolved at the proxy (`socks5h`), TLS is inside the
 * tunnel. The handshake is our own, since the library keeps to itself what the proxy answered, which tells Tor's
 * failures from those of a relay.
 */
export class TorAgent extends SocksProxyAgent {
  readonly #url: RelayUrl;
  readonly #proxy: TorProxy;
  readonly #timeoutMs: number;
  readonly #ended: AbortSignal;

  /** @param timeoutMs longest wait for the proxy's answer, in milliseconds */
  constructor(url: RelayUrl, proxy: TorProxy, timeoutMs: number, ended: AbortSignal) {
    super(`socks5h://${proxy.host.includes(':') ? `[${proxy.host}]` : proxy.host}:${proxy.port}`);
    this.#url = url;
    this.#proxy = proxy;
    this.#timeoutMs = timeoutMs;
    this.#ended = ended;
  }

  /** @throws TorError */
  override async connect(_request: ClientRequest, options: ConnectOptions): Promise<Socket> {
    const { hostname: host } = new URL(this.#url);
    const destination = { host, port: Number(options.port), user: this.#url };
    const socket = await connectThroughTor(this.#proxy, destination, this.#timeoutMs, this.#ended);
    return options.secureEndpoint ? connectTls({ socket, host, servername: host }) : socket;
  }
}
