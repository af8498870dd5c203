import type { LookupAddress } from 'node:dns';
import { connect, isIP, type LookupFunction, type Socket } from 'node:net';

/** Delay before the next address is tried beside those that have not answered (RFC 8305 section 5), in milliseconds. */
const NEXT_ADDRESS_MS = 250;
/** Addresses tried of one name. */
const MAX_ADDRESSES = 16;
/** Errors of an address that this machine has no route to: another error says more. */
const NO_ROUTE = new Set([
  'ENETUNREACH',
  'EHOSTUNREACH',
  'EADDRNOTAVAIL',
  'EAFNOSUPPORT',
  'EINVAL',
]);

export interface DialOptions {
  readonly host: string;
  readonly port: number;
  /** Resolves names under the address guard. It is not called for address literals: those are checked by the caller. */
  readonly lookup: LookupFunction;
  /** Time there is in all, in milliseconds: every address is tried in the first half of it. */
  readonly timeoutMs: number;
  /** Ends every attempt. */
  readonly signal: AbortSignal;
  /** Opens a socket to one address; another one in tests. */
  readonly open?: (address: LookupAddress, port: number) => Socket;
}

/**
 * Opens a TCP connection to the first address of a name that answers ("Happy Eyeballs", RFC 8305). Node's own
 * `autoSelectFamily` abandons every address but the last after 250 ms, so a relay 300 ms away behind a dead address is
 * never reached. Here the attempts run side by side: a slow address keeps its time, a dead one costs 250 ms.
 *
 * @throws the error of the lookup or of the sockets, or the signal's reason
 */
export async function dial(options: DialOptions): Promise<Socket> {
  const { signal } = options;
  signal.throwIfAborted();
  const addresses = await addressesOf(options);
  signal.throwIfAborted();
  return firstToConnect(addresses, options);
}

async function addressesOf({ host, lookup, signal }: DialOptions): Promise<LookupAddress[]> {
  const family = isIP(host);
  if (family !== 0) return [{ address: host, family }];
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    lookup(host, { all: true }, (error, found) => {
      signal.removeEventListener('abort', onAbort);
      if (error) reject(error);
      else resolve(interleaved(Array.isArray(found) ? found : []));
    });
  });
}

/** Families take turns, the one that the resolver names first begins (RFC 8305 section 4). */
function interleaved(addresses: readonly LookupAddress[]): LookupAddress[] {
  const [first] = addresses;
  const ours = addresses.filter(({ family }) => family === first?.family);
  const others = addresses.filter(({ family }) => family !== first?.family);
  const mixed: LookupAddress[] = [];
  for (let i = 0; mixed.length < addresses.length; i += 1)
    mixed.push(...ours.slice(i, i + 1), ...others.slice(i, i + 1));
  return mixed.slice(0, MAX_ADDRESSES);
}

function firstToConnect(
  addresses: readonly LookupAddress[],
  { port, timeoutMs, signal, open = openSocket }: DialOptions,
): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const pending = new Set<Socket>();
    const errors: NodeJS.ErrnoException[] = [];
    const nextMs = Math.min(NEXT_ADDRESS_MS, timeoutMs / 2 / addresses.length);
    let next = 0;
    let timer: NodeJS.Timeout | undefined;
    const settle = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
      for (const socket of pending) discard(socket);
      pending.clear();
    };
    const onAbort = () => {
      settle();
      reject(signal.reason);
    };
    const onFailed = (socket: Socket, error: NodeJS.ErrnoException) => {
      if (!pending.delete(socket)) return;
      discard(socket);
      errors.push(error);
      if (next < addresses.length) attempt();
      else if (pending.size === 0) {
        settle();
        reject(joined(errors));
      }
    };
    const attempt = () => {
      clearTimeout(timer);
      const address = addresses[next];
      if (!address) return;
      next += 1;
      timer = setTimeout(attempt, nextMs);
      const socket = open(address, port);
      pending.add(socket);
      const onError = (error: Error) => onFailed(socket, error);
      socket.once('error', onError);
      socket.once('connect', () => {
        if (!pending.delete(socket)) return;
        socket.on('error', () => {}).off('error', onError); // until the caller listens
        settle();
        resolve(socket);
      });
    };
    signal.addEventListener('abort', onAbort, { once: true });
    if (addresses.length === 0) reject(joined([]));
    else attempt();
  });
}

function openSocket({ address, family }: LookupAddress, port: number): Socket {
  return connect({ host: address, family, port });
}

function discard(socket: Socket): void {
  socket.on('error', () => {}); // what a destroyed socket still reports is of no use
  socket.destroy();
}

/** One error, or all of them with the code of the one that says most. */
function joined(errors: readonly NodeJS.ErrnoException[]): Error {
  const [first] = errors;
  if (first && errors.length === 1) return first;
  const telling = errors.find(({ code = '' }) => !NO_ROUTE.has(code)) ?? first;
  return Object.assign(new AggregateError(errors), { code: telling?.code ?? 'ENOTFOUND' });
}
