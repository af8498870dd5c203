import { isIP, type LookupFunction, type Socket } from 'node:net';
import { type ConnectionOptions, connect as connectTls } from 'node:tls';
import { forbiddenHost, guardedLookup } from './address.ts';
import { dial } from './dial.ts';
import type { OwnNetwork } from './own-network.ts';
import { RelayError } from './relay-error.ts';
import { socketReady } from './socket-ready.ts';
import { connectThroughTor, type TorProxy } from './tor.ts';
import { TorAgent } from './tor-agent.ts';
import { networkOf, type RelayUrl } from './url.ts';

/** How a host is reached. */
export interface TransportOptions {
  /** Deadline of all steps together, from the DNS query on, in milliseconds. */
  readonly timeoutMs: number;
  /** Whether loopback and private addresses are allowed: for test networks only. */
  readonly allowPrivate: boolean;
  /** The SOCKS5 proxy that resolves and reaches `.onion` names; null when there is none. */
  readonly torProxy: TorProxy | null;
  /** Our own network, where it is tested: what is dialled shows whether it works. */
  readonly ownNetwork?: OwnNetwork | null;
  /** Certificates trusted instead of the system's, as PEM: for tests with an authority of their own. */
  readonly ca?: string;
}

/** Options of TLS that depend on the protocol above it. */
export type TlsOptions = Pick<ConnectionOptions, 'ALPNProtocols' | 'rejectUnauthorized'>;

/** The destination of a socket. */
export interface SocketAddress {
  /** A name or an address literal, without brackets. */
  readonly host: string;
  readonly port: number;
  readonly isSecure: boolean;
}

/** The host and port that a URL names, with the default port of its scheme (`ws`, `wss`, `http` or `https`). */
export function addressOf({ protocol, hostname, port }: URL): SocketAddress {
  const isSecure = protocol === 'wss:' || protocol === 'https:';
  const host = hostname.replace(/^\[|\]$/g, '');
  return { host, port: Number(port) || (isSecure ? 443 : 80), isSecure };
}

/**
 * Opens a socket to a relay: clearnet hosts directly and only at addresses that the guard allows, `.onion` names through
 * Tor. If the scheme requires TLS, the handshake has finished and the certificate has been checked.
 *
 * @param signal ends every step
 * @param address another port or scheme on the host of the URL, after a redirect
 * @throws RelayError `forbidden` or `no_proxy`, TorError, an error of the lookup, of TCP or of TLS, or the signal's reason
 */
export async function openSocket(
  url: RelayUrl,
  options: TransportOptions,
  signal: AbortSignal,
  tls: TlsOptions = {},
  address = addressOf(new URL(url)),
): Promise<Socket> {
  const socket = await openPlainSocket(url, options, signal, address);
  if (!address.isSecure) return socket;
  const { host } = address;
  const secure = connectTls({
    ...tls,
    socket, // destroyed with the TLS socket
    host,
    servername: isIP(host) === 0 ? host : '', // RFC 6066 section 3: no server name for an address literal
    ...(options.ca !== undefined && { ca: options.ca }),
  });
  await socketReady(secure, 'secureConnect', signal);
  return secure;
}

/** `guardedLookup` checks names only: it is never called for address literals, which are checked here. */
async function openPlainSocket(
  url: RelayUrl,
  { allowPrivate, torProxy, timeoutMs, ownNetwork }: TransportOptions,
  signal: AbortSignal,
  { host, port }: SocketAddress,
): Promise<Socket> {
  const forbidden = allowPrivate ? null : forbiddenHost(url);
  if (forbidden) throw new RelayError('forbidden', `${url} is never connected to: ${forbidden}`);
  const network = networkOf(url);
  if (network === 'clearnet') {
    const guarded = guardedLookup(allowPrivate);
    const reach = (lookup: LookupFunction) => dial({ host, port, lookup, timeoutMs, signal });
    return ownNetwork ? ownNetwork.watchDial(host, guarded, reach) : reach(guarded);
  }
  if (network === 'tor' && torProxy)
    return connectThroughTor(torProxy, { host, port, user: url }, timeoutMs, signal);
  throw new RelayError('no_proxy', `${url} cannot be reached: ${missingProxy(network)}`);
}

function missingProxy(network: string): string {
  if (network === 'tor') return 'it needs Tor, set TORPROXY_HOST and TORPROXY_PORT';
  return `there is no proxy for ${network}`;
}

/** The socket of a relay's WebSocket, as options of `ws`. @throws what `openSocket` throws */
export async function webSocketTransport(
  url: RelayUrl,
  options: TransportOptions,
  signal: AbortSignal,
) {
  const socket = await openSocket(url, options, signal);
  const { torProxy } = options;
  const isThroughTor = torProxy !== null && networkOf(url) === 'tor';
  return isThroughTor
    ? { agent: new TorAgent(torProxy, socket) }
    : { createConnection: () => socket };
}
