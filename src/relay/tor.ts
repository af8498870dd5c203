/**
 * The way to `.onion` relays: a SOCKS5 proxy (RFC 1928, RFC 1929), which is Tor. The name goes to the proxy as it is
 * and nobody else is asked for it.
 *
 * And whose fault it was when nothing came of it. Measured with Tor 0.4.9: an onion service that does not exist, or
 * whose host is gone, is answered with an error within seconds, by relays of the Tor network; a Tor that has no way
 * into its network says nothing at all for two minutes, whatever it is asked for. But nothing is said of a service
 * that has just died either. So after silence Tor is asked for a name that nobody has: only a Tor that works can say
 * that there is no such service.
 */
import { createHash, generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { SocksClient } from 'socks';
import { deadline } from './deadline.ts';
import { networkOf, type RelayUrl } from './url.ts';

export interface TorProxy {
  readonly host: string;
  readonly port: number;
}

/** The proxy could not be used, or did not reach the relay. `reason` is one stable word, see `connectThroughTor`. */
export class TorError extends Error {
  override readonly name = 'TorError';
  readonly reason: string;

  constructor(reason: string, message: string) {
    super(message);
    this.reason = reason;
  }
}

export interface OnionDestination {
  readonly host: string;
  readonly port: number;
  /**
   * For whom the connection is. Tor gives each SOCKS user circuits of its own (IsolateSOCKSAuth), so that relays
   * cannot be linked to each other. At most 255 bytes.
   */
  readonly user: string;
}

/**
 * What a reply to CONNECT says (RFC 1928 section 6; from 0xF0 on Tor's ExtendedErrors). Tor's general failure, 1, is
 * mostly a service that is there and has nobody behind it. What is not named here is Tor's own affair.
 */
function reasonOfReply(code: number): string {
  if (code === 4 || (code >= 0xf0 && code <= 0xf6)) return 'unreachable';
  if (code === 5) return 'refused';
  if (code === 6 || code === 0xf7) return 'timeout';
  return code === 1 ? 'proxy' : 'proxy_down';
}

/** Failures that a proxy without a way into its network cannot tell of. */
const SAID_BY_THE_NETWORK = new Set(['unreachable', 'refused']);

/** What is known of a proxy, in `performance.now()` milliseconds. */
interface Standing {
  /** When it last showed that it reaches its network. */
  workedAt: number;
  /** Until when nobody tries, because it does not. */
  downUntil: number;
  inquiry: Promise<boolean> | null;
}

const standings = new WeakMap<TorProxy, Standing>();

function standingOf(proxy: TorProxy): Standing {
  const known = standings.get(proxy);
  if (known) return known;
  const standing = { workedAt: Number.NEGATIVE_INFINITY, downUntil: 0, inquiry: null };
  standings.set(proxy, standing);
  return standing;
}

function noteWorks(standing: Standing): void {
  standing.workedAt = performance.now();
  standing.downUntil = 0;
}

/**
 * Opens a connection through the proxy.
 *
 * @param timeoutMs longest wait for the proxy's answer, in milliseconds
 * @throws TorError with reason `proxy_down` (the proxy cannot be reached, does not speak SOCKS5 or has lately been
 * found without a circuit), `unreachable`, `refused`, `timeout`, `proxy` (it failed, and did not say why) or `aborted`.
 */
export async function connectThroughTor(
  proxy: TorProxy,
  destination: OnionDestination,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<Socket> {
  const standing = standingOf(proxy);
  if (performance.now() < standing.downUntil)
    throw new TorError('proxy_down', 'Tor has no circuit, and was asked a moment ago');
  const socket = await reachProxy(proxy, timeoutMs, signal);
  const reply = readReply(socket);
  const onAbort = () => socket.destroy();
  signal.addEventListener('abort', onAbort, { once: true });
  const { host, port, user } = destination;
  try {
    await SocksClient.createConnection({
      command: 'connect',
      proxy: { ...proxy, type: 5, userId: user, password: 'relay' },
      destination: { host, port },
      existing_socket: socket,
      timeout: timeoutMs,
    });
    noteWorks(standing);
    return socket;
  } catch (error) {
    socket.destroy();
    if (signal.aborted) throw new TorError('aborted', `connecting to ${host} was stopped`);
    const reason = reply.reason(error);
    if (SAID_BY_THE_NETWORK.has(reason)) noteWorks(standing);
    throw new TorError(reason, `Tor did not reach ${host}: ${String(error)}`);
  } finally {
    reply.stop();
    signal.removeEventListener('abort', onAbort);
  }
}

/** @throws TorError */
function reachProxy(proxy: TorProxy, timeoutMs: number, signal: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: proxy.host, port: proxy.port });
    const fail = (reason: string, why: string) => {
      settle();
      socket.on('error', () => {}); // what a destroyed socket still reports is of no use
      socket.destroy();
      reject(new TorError(reason, `the Tor proxy cannot be reached: ${why}`));
    };
    const onError = (error: Error) => fail('proxy_down', error.message);
    const onAbort = () => fail('aborted', 'stopped');
    const onConnect = () => {
      settle();
      resolve(socket);
    };
    const cancel = deadline(timeoutMs, () => fail('proxy_down', `no answer in ${timeoutMs} ms`));
    const settle = () => {
      cancel();
      socket.off('connect', onConnect).off('error', onError);
      signal.removeEventListener('abort', onAbort);
    };
    socket.once('connect', onConnect).once('error', onError);
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
  });
}

/** Listens along: the library keeps the code of a refusal to itself. */
function readReply(socket: Socket) {
  let heard = Buffer.alloc(0);
  const listen = (chunk: Buffer) => {
    if (heard.length < 8) heard = Buffer.concat([heard, chunk.subarray(0, 8)]);
  };
  socket.on('data', listen);
  return {
    stop: () => socket.off('data', listen),
    /** Version and method; with user name and password (2) two bytes more; then version and reply. */
    reason: (error: unknown): string => {
      const code = heard[heard[1] === 2 ? 5 : 3];
      if (code !== undefined) return reasonOfReply(code);
      return /timed out/i.test(String(error)) ? 'timeout' : 'proxy_down';
    },
  };
}

/** Failures that may be those of the relay or those of Tor. */
const INCONCLUSIVE = new Set(['timeout', 'proxy', 'reset', 'disconnected', 'protocol']);
/** Tor that has worked so lately, in milliseconds, is not asked again; less than the silence that is looked into. */
const WORKS_FOR_MS = 1000;
/** A Tor without a circuit is left alone for so long, in milliseconds, so that a round does not wait for it anew with each relay. */
const DOWN_FOR_MS = 20_000;
/** The longest inquiry, in milliseconds. On the real network the answer comes within seconds. */
const MAX_INQUIRY_MS = 20_000;

export interface TorOptions {
  readonly torProxy: TorProxy | null;
  /** How long Tor may take for its answer, in milliseconds; 20,000 at most. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

/**
 * Tells Tor's failures from those of a relay.
 *
 * @param reason why something failed at this relay, in one word
 * @returns `proxy_down` where Tor is to blame, else the reason that was given. For relays of other networks, and
 * for reasons that leave no doubt, nobody is asked.
 */
export async function blame(
  url: RelayUrl,
  reason: string,
  { torProxy, timeoutMs, signal = new AbortController().signal }: TorOptions,
): Promise<string> {
  if (!torProxy || networkOf(url) !== 'tor' || !INCONCLUSIVE.has(reason)) return reason;
  const standing = standingOf(torProxy);
  const limitMs = Math.min(timeoutMs, MAX_INQUIRY_MS);
  standing.inquiry ??= works(torProxy, limitMs, signal).finally(() => {
    standing.inquiry = null;
  });
  return (await standing.inquiry) ? reason : 'proxy_down';
}

/** Whether the proxy reaches the Tor network now. True when the signal aborts: nobody is to blame then. */
async function works(proxy: TorProxy, limitMs: number, signal: AbortSignal): Promise<boolean> {
  const standing = standingOf(proxy);
  const asked = performance.now();
  try {
    await hearProxy(proxy, limitMs, signal);
    if (performance.now() - standing.workedAt < Math.min(WORKS_FOR_MS, limitMs / 2)) return true;
    const nobody = { host: unknownOnion(), port: 80, user: 'bigbrotr' };
    (await connectThroughTor(proxy, nobody, limitMs, signal)).destroy();
    return true;
  } catch (error) {
    const reason = error instanceof TorError ? error.reason : 'proxy_down';
    if (SAID_BY_THE_NETWORK.has(reason) || signal.aborted) return true;
    if (reason !== 'timeout') return false;
    if (standing.workedAt > asked) return true; // a slow answer, but another relay was reached meanwhile
    standing.downUntil = performance.now() + DOWN_FOR_MS;
    return false;
  }
}

/**
 * Resolves when the proxy answers a greeting (RFC 1928 section 3), whichever way of logging in it wants. That its port
 * can be connected to says too little: the port of a Tor that is just dying outlives the connections through it.
 *
 * @throws TorError, or another error where the connection ends or nothing is heard in time
 */
async function hearProxy(proxy: TorProxy, limitMs: number, signal: AbortSignal): Promise<void> {
  const socket = await reachProxy(proxy, limitMs, signal);
  try {
    const inTime = AbortSignal.any([signal, AbortSignal.timeout(limitMs)]);
    const ended = once(socket, 'close', { signal: inTime }).then(() => {
      throw new TorError('proxy_down', 'the Tor proxy ended the connection without a word');
    });
    socket.write(Buffer.from([5, 1, 0])); // version 5, one method: none
    await Promise.race([once(socket, 'data', { signal: inTime }), ended]);
  } finally {
    socket.on('error', () => {}).destroy();
  }
}

/** A well-formed address of version 3 that nobody has: of a key that is made here and forgotten (rend-spec-v3). */
function unknownOnion(): string {
  const { publicKey } = generateKeyPairSync('ed25519');
  const key = publicKey.export({ format: 'der', type: 'spki' }).subarray(-32);
  const version = Buffer.from([3]);
  const checksum = createHash('sha3-256')
    .update('.onion checksum')
    .update(key)
    .update(version)
    .digest();
  return `${base32(Buffer.concat([key, checksum.subarray(0, 2), version]))}.onion`;
}

/** RFC 4648 base32 in lower case, of a length that needs no padding. */
function base32(bytes: Buffer): string {
  let bits = BigInt(`0x${bytes.toString('hex')}`);
  let text = '';
  for (let left = (bytes.length * 8) / 5; left > 0; left -= 1) {
    text = 'abcdefghijklmnopqrstuvwxyz234567'[Number(bits & 31n)] + text;
    bits >>= 5n;
  }
  return text;
}
