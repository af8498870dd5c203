/**
 * Connects to `.onion` relays through Tor's SOCKS5 proxy (RFC 1928, RFC 1929), which resolves the name.
 *
 * Telling Tor failures from relay failures. Measured with Tor 0.4.9: for an onion service that does not exist, or whose
 * host is down, Tor returns an error within seconds, from relays of the Tor network. A Tor without circuits does not
 * answer at all for two minutes, whatever is requested; nor does a working Tor for a service that has just died. So on
 * timeout the proxy is probed with a random onion address: only a Tor with circuits can answer that there is no such
 * service (docs/decisions/tor.md).
 */
import { createHash, generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { SocksClient } from 'socks';
import { withDeadline } from './deadline.ts';
import { socketReady } from './socket-ready.ts';
import { networkOf, type RelayUrl } from './url.ts';

export interface TorProxy {
  readonly host: string;
  readonly port: number;
}

/** Why the relay was not reached through the proxy: one stable word, see `connectThroughTor`. */
export type TorErrorReason = 'proxy_down' | 'proxy' | 'unreachable' | 'refused' | 'timeout';

/** The proxy could not be used, or did not reach the relay. */
export class TorError extends Error {
  override readonly name = 'TorError';
  readonly reason: TorErrorReason;

  constructor(reason: TorErrorReason, message: string) {
    super(message);
    this.reason = reason;
  }
}

export interface OnionDestination {
  readonly host: string;
  readonly port: number;
  /**
   * SOCKS user name, at most 255 bytes. Tor gives each user its own circuits (IsolateSOCKSAuth), so that relays cannot
   * link our connections to each other.
   */
  readonly user: string;
}

/**
 * Reads a reply to CONNECT (RFC 1928 section 6; from 0xF0 on Tor's ExtendedErrors). Tor's general failure, 1, is mostly
 * an onion service with no listener on that port. Any other code is a failure of Tor itself.
 */
function reasonOfReply(code: number): TorErrorReason {
  if (code === 4 || (code >= 0xf0 && code <= 0xf6)) return 'unreachable';
  if (code === 5) return 'refused';
  if (code === 6 || code === 0xf7) return 'timeout';
  return code === 1 ? 'proxy' : 'proxy_down';
}

/** Replies that only the Tor network can give: the proxy has circuits. */
const PROVES_CIRCUITS: ReadonlySet<TorErrorReason> = new Set(['unreachable', 'refused']);

/** The state of a proxy; times are milliseconds of `performance.now()`. */
interface ProxyState {
  /** When it last proved that it has circuits. */
  workedAt: number;
  /** No connection is attempted before this, because it had no circuits. */
  downUntil: number;
  /** The running test, shared by all callers that wait for it. */
  test: Promise<boolean> | null;
}

const STATES = new WeakMap<TorProxy, ProxyState>();

function stateOf(proxy: TorProxy): ProxyState {
  const known = STATES.get(proxy);
  if (known) return known;
  const state = { workedAt: Number.NEGATIVE_INFINITY, downUntil: 0, test: null };
  STATES.set(proxy, state);
  return state;
}

function noteWorks(state: ProxyState): void {
  state.workedAt = performance.now();
  state.downUntil = 0;
}

/**
 * Opens a connection through the proxy.
 *
 * @param timeoutMs maximum wait for the proxy's answer, in milliseconds
 * @throws TorError with reason `proxy_down` (the proxy cannot be reached, does not speak SOCKS5 or had no circuit a
 * moment ago), `unreachable`, `refused`, `timeout` or `proxy` (a general failure); or the signal's reason
 */
export async function connectThroughTor(
  proxy: TorProxy,
  destination: OnionDestination,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<Socket> {
  const state = stateOf(proxy);
  if (performance.now() < state.downUntil)
    throw new TorError('proxy_down', 'Tor had no circuit a moment ago');
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
    noteWorks(state);
    return socket;
  } catch (error) {
    socket.destroy();
    signal.throwIfAborted();
    const reason = reply.reason(error);
    if (PROVES_CIRCUITS.has(reason)) noteWorks(state);
    throw new TorError(reason, `Tor did not reach ${host}: ${String(error)}`);
  } finally {
    reply.stop();
    signal.removeEventListener('abort', onAbort);
  }
}

/** @throws TorError `proxy_down`, or the signal's reason */
async function reachProxy(
  proxy: TorProxy,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<Socket> {
  const unreachable = (why: string) =>
    new TorError('proxy_down', `the Tor proxy cannot be reached: ${why}`);
  const timeout = unreachable(`no answer in ${timeoutMs} ms`);
  const socket = connect({ host: proxy.host, port: proxy.port });
  try {
    await withDeadline({ timeoutMs, timeout, signal }, (ended) =>
      socketReady(socket, 'connect', ended),
    );
    return socket;
  } catch (error) {
    signal.throwIfAborted();
    throw error === timeout ? timeout : unreachable(messageOf(error));
  }
}

/** Records the first bytes from the proxy: the library does not report the reply code. */
function readReply(socket: Socket) {
  let received = Buffer.alloc(0);
  const listen = (chunk: Buffer) => {
    if (received.length < 8) received = Buffer.concat([received, chunk.subarray(0, 8)]);
  };
  socket.on('data', listen);
  return {
    stop: () => socket.off('data', listen),
    /** Version and method; with user name and password (2) two bytes more; then version and reply. */
    reason: (error: unknown): TorErrorReason => {
      const code = received[received[1] === 2 ? 5 : 3];
      if (code !== undefined) return reasonOfReply(code);
      return /timed out/i.test(String(error)) ? 'timeout' : 'proxy_down';
    },
  };
}

/** Failures that can be those of the relay or those of Tor. */
const INCONCLUSIVE: ReadonlySet<string> = new Set([
  'timeout',
  'proxy',
  'reset',
  'disconnected',
  'protocol',
]);
/** A Tor that worked this recently, in milliseconds, is not tested again; shorter than any timeout that is attributed. */
const WORKS_FOR_MS = 1000;
/** No connection is attempted for this long after a failed test, in milliseconds: each relay would time out. */
const DOWN_FOR_MS = 20_000;
/** Maximum duration of a test, in milliseconds. On the real network the answer comes within seconds. */
const MAX_TEST_MS = 20_000;

export interface TorOptions {
  readonly torProxy: TorProxy | null;
  /** Maximum duration of a test of Tor, in milliseconds; 20,000 at most. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

/**
 * Attributes a failure to Tor or to the relay. Tests Tor only for onion relays and inconclusive reasons.
 *
 * @param reason why a connection or request to this relay failed
 * @returns `proxy_down` when Tor failed, else `reason`
 */
export async function attributeFailure<Reason extends string>(
  url: RelayUrl,
  reason: Reason,
  { torProxy, timeoutMs, signal = new AbortController().signal }: TorOptions,
): Promise<Reason | 'proxy_down'> {
  if (!torProxy || networkOf(url) !== 'tor' || !INCONCLUSIVE.has(reason)) return reason;
  return (await torHasCircuits(torProxy, timeoutMs, signal)) ? reason : 'proxy_down';
}

/**
 * Tests whether the proxy reaches the Tor network; a test that is running is shared with `attributeFailure`.
 *
 * @param timeoutMs longest test, in milliseconds; 20,000 at most
 */
export function torHasCircuits(
  torProxy: TorProxy,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<boolean> {
  const state = stateOf(torProxy);
  state.test ??= works(torProxy, Math.min(timeoutMs, MAX_TEST_MS), signal).finally(() => {
    state.test = null;
  });
  return state.test;
}

/** Whether the proxy reaches the Tor network now. True when the signal aborts: that is not a failure of Tor. */
async function works(proxy: TorProxy, limitMs: number, signal: AbortSignal): Promise<boolean> {
  const state = stateOf(proxy);
  const startedAt = performance.now();
  try {
    await greetProxy(proxy, limitMs, signal);
    if (performance.now() - state.workedAt < Math.min(WORKS_FOR_MS, limitMs / 2)) return true;
    const unknown = { host: randomOnion(), port: 80, user: 'bigbrotr' };
    (await connectThroughTor(proxy, unknown, limitMs, signal)).destroy();
    return true;
  } catch (error) {
    const reason = error instanceof TorError ? error.reason : 'proxy_down';
    if (PROVES_CIRCUITS.has(reason) || signal.aborted) return true;
    if (reason !== 'timeout') return false;
    if (state.workedAt > startedAt) return true; // slow, but it has reached another relay in the meantime
    state.downUntil = performance.now() + DOWN_FOR_MS;
    return false;
  }
}

/**
 * Resolves when the proxy answers a greeting (RFC 1928 section 3), whatever authentication it requires. A successful TCP
 * connection is not enough: the port of a Tor that is shutting down stays open longer than its circuits.
 *
 * @throws TorError, or another error when the connection ends or no answer arrives in time
 */
async function greetProxy(proxy: TorProxy, limitMs: number, signal: AbortSignal): Promise<void> {
  const socket = await reachProxy(proxy, limitMs, signal);
  try {
    const inTime = AbortSignal.any([signal, AbortSignal.timeout(limitMs)]);
    const ended = once(socket, 'close', { signal: inTime }).then(() => {
      throw new TorError('proxy_down', 'the Tor proxy closed the connection without an answer');
    });
    socket.write(Buffer.from([5, 1, 0])); // version 5, one method: none
    await Promise.race([once(socket, 'data', { signal: inTime }), ended]);
  } finally {
    socket.on('error', () => {}).destroy();
  }
}

/** A well-formed version 3 address of a random key, so without a service (rend-spec-v3). */
function randomOnion(): string {
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

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
