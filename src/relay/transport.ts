import { isIP, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { forbiddenHost, guardedLookup } from './address.ts';
import type { ConnectOptions } from './connection.ts';
import { dial } from './dial.ts';
import { RelayError } from './relay-error.ts';
import { TorAgent } from './tor-agent.ts';
import { networkOf, type RelayUrl } from './url.ts';

/**
 * What the WebSocket of a relay runs over, as options of ws: an agent that connects through Tor, or a direct socket to an
 * address that the guard allows. @throws RelayError with reason `forbidden` or `no_proxy`, and what `dial` throws
 */
export async function transport(url: RelayUrl, options: ConnectOptions, ended: AbortSignal) {
  // The lookup guards names and is never called for address literals, so those are judged here.
  const forbidden = options.allowPrivate ? null : forbiddenHost(url);
  if (forbidden) throw new RelayError('forbidden', `${url} is never connected to: ${forbidden}`);
  const network = networkOf(url);
  if (network === 'tor') return { agent: torAgent(url, options, ended) };
  if (network !== 'clearnet') {
    throw new RelayError(
      'no_proxy',
      `${url} is on ${network}, and there is no proxy for that network`,
    );
  }
  const socket = await directSocket(url, options, ended);
  return { createConnection: () => socket };
}

function torAgent(url: RelayUrl, { torProxy, timeoutMs }: ConnectOptions, ended: AbortSignal) {
  if (torProxy) return new TorAgent(url, torProxy, timeoutMs, ended);
  throw new RelayError('no_proxy', `${url} needs Tor: set TORPROXY_HOST and TORPROXY_PORT`);
}

/** Connected by TCP; TLS has begun where the URL asks for it. An address literal has no server name to send (RFC 6066). */
async function directSocket(
  url: RelayUrl,
  { allowPrivate, timeoutMs, ca }: ConnectOptions,
  signal: AbortSignal,
): Promise<Socket> {
  const { protocol, hostname, port } = new URL(url);
  const host = hostname.replace(/^\[|\]$/g, '');
  const isSecure = protocol === 'wss:';
  const lookup = guardedLookup(allowPrivate);
  const plain = await dial({
    ...{ host, port: Number(port) || (isSecure ? 443 : 80) },
    ...{ lookup, timeoutMs, signal },
  });
  if (!isSecure) return plain;
  return connectTls({
    socket: plain, // destroyed with the TLS socket
    host,
    servername: isIP(host) === 0 ? host : '',
    ...(ca !== undefined && { ca }),
  });
}
