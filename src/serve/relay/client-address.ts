import ipaddr from 'ipaddr.js';

/** Characters of a header that are read: more names than any chain of proxies has. */
const MAX_HEADER_LENGTH = 2000;
/** One customer has a network of IPv6 of this many bits, or more. */
const IPV6_BITS = 64;

/** Finds the address of a client. */
export class ClientAddresses {
  readonly #proxies: readonly [ipaddr.IPv4 | ipaddr.IPv6, number][];

  /** @param trustedProxies addresses and networks whose X-Forwarded-For is believed */
  constructor(trustedProxies: readonly string[]) {
    this.#proxies = trustedProxies.map((text) => {
      if (text.includes('/')) return ipaddr.parseCIDR(text);
      const address = ipaddr.parse(text);
      return [address, address.kind() === 'ipv6' ? 128 : 32];
    });
  }

  /**
   * The address by which a client is limited: of IPv6 its network of 64 bits.
   *
   * @param peer the other end of the connection
   * @param forwardedFor the header, which counts only where the peer is a trusted proxy
   */
  of(peer: string | undefined, forwardedFor: string | undefined): string {
    let address = parse(peer ?? '');
    const hops = (forwardedFor ?? '').slice(-MAX_HEADER_LENGTH).split(',');
    while (address && this.#isTrusted(address)) {
      const before = parse(hops.pop()?.trim() ?? '');
      if (!before) break;
      address = before;
    }
    return address ? networkOf(address) : 'unknown';
  }

  #isTrusted(address: ipaddr.IPv4 | ipaddr.IPv6): boolean {
    return this.#proxies.some(
      ([network, bits]) => network.kind() === address.kind() && address.match(network, bits),
    );
  }
}

function parse(text: string): ipaddr.IPv4 | ipaddr.IPv6 | null {
  const bare = text.replace(/^\[(.*)\](?::\d+)?$/, '$1');
  return ipaddr.isValid(bare) ? ipaddr.process(bare) : null;
}

function networkOf(address: ipaddr.IPv4 | ipaddr.IPv6): string {
  if (address.kind() === 'ipv4') return address.toString();
  return `${new ipaddr.IPv6([...(address as ipaddr.IPv6).parts.slice(0, IPV6_BITS / 16), 0, 0, 0, 0])}/${IPV6_BITS}`;
}
