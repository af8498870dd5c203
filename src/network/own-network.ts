/**
 * Telling failures of our own network from those of relays.
 *
 * A relay that cannot be reached looks the same whether it is dead or we are cut off. So a failure that can be ours
 * (`INCONCLUSIVE`) counts against a relay only where the parts of our network that it needed (DNS, IPv4, IPv6) are shown
 * to have worked: something else was reached after the failure, or a test of our way out succeeded then
 * (`way-out.ts`), and nothing shows an outage since the attempt began.
 *
 * A part is *up* or in an *outage*, which reaches back to when the part last worked (`part-health.ts`): failures before it
 * was noticed are ours too. While relays are dialled, or sockets
 * are open, and nothing arrives, the parts are tested every second or few: an outage is noticed also where nothing fails
 * before it is over. A world of dead relays is none: the test answers then.
 */
import type { LookupAddress } from 'node:dns';
import type { LookupFunction, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { PartHealth } from './part-health.ts';
import {
  type NetworkPart,
  partOfAddress,
  type TestAddress,
  type TestHosts,
  type WayOut,
  wayOutBy,
} from './way-out.ts';

export type { NetworkPart, TestAddress, TestHosts } from './way-out.ts';

/** `absent`: IPv6 on a machine that has shown none, while IPv4 works; `off`: not tested. */
export type PartState = 'up' | 'down' | 'absent' | 'off';
/** `down`: no name or no address outside can be reached; `degraded`: one of two address families fails. */
export type NetworkState = 'up' | 'down' | 'degraded' | 'off';

/** A message between threads: a part works, with the address that was reached, or a test of it failed. */
export interface NetworkNews {
  readonly part: NetworkPart;
  readonly works: boolean;
  readonly address: TestAddress | null;
}

export interface OwnNetworkOptions {
  readonly wayOut: WayOut;
  /** Called for each change, and every few seconds for a part that works. */
  readonly onNews?: (news: NetworkNews) => void;
  /** Milliseconds of a clock that is never set back; `performance.now` unless given. */
  readonly now?: () => number;
  /** Waits. Default: a timer. */
  readonly delay?: (ms: number) => Promise<unknown>;
}

/** Failures that can be those of a relay or of our own network. */
const INCONCLUSIVE: ReadonlySet<string> = new Set([
  ...['dns', 'unreachable', 'timeout', 'reset', 'disconnected'],
]);

/** Those of them that need not wait for anything: they can come at once. */
const QUICK_FAILURES: ReadonlySet<string> = new Set(['dns', 'unreachable']);

/** After a failure something else may be reached for this long, in milliseconds, before our way out is tested. */
const GRACE_MS = 1000;
/** While relays are dialled a part is tested when nothing was reached for this long, in milliseconds. */
const QUIET_DIALLING_MS = 1000;
/** The same while sockets are open and no relay is dialled. */
const QUIET_SOCKETS_MS = 10_000;
/** Interval of tests during an outage, in milliseconds. */
export const TEST_AGAIN_MS = 2000;
/** An address family that does not work is tested this often while the other one does and it never did, in milliseconds. */
const TEST_ABSENT_MS = 60_000;
/** After this long without one of two address families, in milliseconds, relays that have both are judged by the other. */
const ONE_FAMILY_ENOUGH_MS = 3_600_000;
/** Minimum interval of messages that a part works, in milliseconds. */
const NEWS_MS = 5000;
const TICK_MS = 500;
const MAX_ATTEMPTS = 10_000;

interface RunningTest {
  readonly startedMs: number;
  readonly ended: Promise<void>;
}

interface PartRecord {
  readonly health: PartHealth;
  newsMs: number;
  test: RunningTest | null;
  /** Failures that wait for something to be reached. */
  readonly waiting: Set<() => void>;
}

/** The latest attempt to reach a host. */
interface Attempt {
  readonly startedMs: number;
  readonly families: Set<'ipv4' | 'ipv6'>;
}

interface WatchedSocket {
  readonly part: 'ipv4' | 'ipv6';
  bytes: number;
}

const newPart = (): PartRecord => ({
  health: new PartHealth(),
  newsMs: Number.NEGATIVE_INFINITY,
  test: null,
  waiting: new Set(),
});

/** @returns null where our network is not tested */
export function ownNetworkBy(
  hosts: TestHosts | null,
  onNews?: (news: NetworkNews) => void,
): OwnNetwork | null {
  return hosts && new OwnNetwork({ wayOut: wayOutBy(hosts), ...(onNews && { onNews }) });
}

export class OwnNetwork {
  readonly #wayOut: WayOut;
  readonly #onNews: (news: NetworkNews) => void;
  readonly #now: () => number;
  readonly #delay: (ms: number) => Promise<unknown>;
  readonly #parts = { dns: newPart(), ipv4: newPart(), ipv6: newPart() };
  readonly #attempts = new Map<string, Attempt>();
  readonly #sockets = new Map<Socket, WatchedSocket>();
  readonly #returned = new Set<(part: NetworkPart) => void>();
  #dialling = 0;
  #timer: NodeJS.Timeout | null = null;

  constructor({ wayOut, onNews, now, delay }: OwnNetworkOptions) {
    this.#wayOut = wayOut;
    this.#onNews = onNews ?? (() => {});
    this.#now = now ?? (() => performance.now());
    this.#delay = delay ?? ((ms) => sleep(ms, undefined, { ref: false }));
  }

  /**
   * Dials a host, and notes what that shows of our network.
   *
   * @param reach dials with the lookup that it is given
   * @throws what `reach` throws
   */
  async watchDial(
    host: string,
    lookup: LookupFunction,
    reach: (lookup: LookupFunction) => Promise<Socket>,
  ): Promise<Socket> {
    const attempt = this.#begin(host);
    this.#dialling += 1;
    try {
      const socket = await reach((hostname, options, callback) =>
        lookup(hostname, options, (error, found, family) => {
          if (!error) this.#noteFound(attempt, found);
          callback(error, found, family);
        }),
      );
      this.#watchSocket(socket, attempt);
      return socket;
    } finally {
      this.#dialling -= 1;
    }
  }

  #begin(host: string): Attempt {
    const attempt: Attempt = { startedMs: this.#now(), families: new Set() };
    noteFamily(attempt, host);
    this.#attempts.delete(host);
    this.#attempts.set(host, attempt);
    for (const oldest of this.#attempts.keys()) {
      if (this.#attempts.size <= MAX_ATTEMPTS) break;
      this.#attempts.delete(oldest);
    }
    this.#timer ??= setInterval(() => this.tick(), TICK_MS).unref();
    return attempt;
  }

  #noteFound(attempt: Attempt, found: string | LookupAddress[]): void {
    const addresses = typeof found === 'string' ? [found] : found.map(({ address }) => address);
    for (const address of addresses) noteFamily(attempt, address);
    if (attempt.families.size > 0) this.noteWorked('dns');
  }

  #watchSocket(socket: Socket, { families }: Attempt): void {
    const { remoteAddress: host, remotePort: port } = socket;
    const part = host === undefined || isLoopback(host) ? null : partOfAddress(host);
    if (host === undefined || port === undefined || part === null) return;
    families.clear(); // what fails from here on needs this family alone
    families.add(part);
    this.noteWorked(part, { host, port });
    this.#sockets.set(socket, { part, bytes: socket.bytesRead });
    socket.once('close', () => this.#sockets.delete(socket));
  }

  /** Notes that a part was seen to work. @param address that was reached */
  noteWorked(part: NetworkPart, address: TestAddress | null = null): void {
    const record = this.#parts[part];
    const now = this.#now();
    const isBack = record.health.worked(now, address);
    for (const wake of record.waiting) wake();
    if (!isBack && now - record.newsMs < NEWS_MS) return;
    record.newsMs = now;
    this.#onNews({ part, works: true, address });
    if (isBack) for (const returned of this.#returned) returned(part);
  }

  /** Calls the handler each time that a part is back. */
  onReturned(handler: (part: NetworkPart) => void): void {
    this.#returned.add(handler);
  }

  /**
   * Attributes a failure to our network or to the relay. Waits for a test of our way out where nothing shows that it works.
   *
   * @param host of the relay, without brackets
   * @param sinceMs when what failed began, on the clock of `performance.now`; the latest attempt to reach the host unless given
   * @returns `network_down` where our network failed, else `reason`, as when the signal aborts
   */
  async attribute<Reason extends string>(
    host: string,
    reason: Reason,
    signal: AbortSignal,
    sinceMs?: number,
  ): Promise<Reason | 'network_down'> {
    const attempt = this.#attempts.get(host);
    if (!attempt || !INCONCLUSIVE.has(reason)) return reason;
    const parts = this.#needed(host, reason, attempt);
    const endedMs = this.#now();
    const isQuick = QUICK_FAILURES.has(reason);
    await Promise.all(parts.map((part) => this.#settle(part, { endedMs, isQuick }, signal)));
    if (signal.aborted) return reason;
    return this.#isOurs(parts, sinceMs ?? attempt.startedMs, endedMs) ? 'network_down' : reason;
  }

  #needed(host: string, reason: string, { families }: Attempt): NetworkPart[] {
    const isName = partOfAddress(host) === null && host !== 'localhost';
    const needed: NetworkPart[] =
      reason === 'dns' || (isName && families.size === 0) ? ['dns'] : [...families];
    return needed.filter((part) => this.#wayOut.parts.has(part));
  }

  /** Resolves when it is known whether a part worked at some time after a failure. */
  async #settle(
    part: NetworkPart,
    { endedMs, isQuick }: { readonly endedMs: number; readonly isQuick: boolean },
    signal: AbortSignal,
  ): Promise<void> {
    const record = this.#parts[part];
    const { health } = record;
    if (health.workedMs > endedMs) return;
    // What fails at once may fail in the last moment of an outage, which only a test at once shows.
    const mayWait = !isQuick || endedMs - health.workedMs < GRACE_MS;
    const isTested = record.test !== null || endedMs - health.testedMs < TEST_AGAIN_MS;
    if (health.isOut && isTested) return;
    if (!health.isOut && mayWait) await this.#grace(record);
    if (health.workedMs > endedMs || signal.aborted) return;
    await this.test(part, endedMs);
  }

  /** Shared by simultaneous failures; a relay that is reached meanwhile makes the test unnecessary. */
  async #grace({ waiting }: PartRecord): Promise<void> {
    let wake = () => {};
    const worked = new Promise<void>((resolve) => {
      wake = resolve;
    });
    waiting.add(wake);
    await Promise.race([worked, this.#delay(GRACE_MS)]);
    waiting.delete(wake);
  }

  #isOurs(parts: readonly NetworkPart[], sinceMs: number, endedMs: number): boolean {
    const out = parts.filter((part) => this.#parts[part].health.wasOut(sinceMs, endedMs));
    if (out.length < parts.length) return out.some((part) => !this.#isOneFamilyEnough(part));
    return out.length > 0;
  }

  #isOneFamilyEnough(part: NetworkPart): boolean {
    const { health } = this.#parts[part];
    return this.#isAbsent(part) || health.isOutFor(ONE_FAMILY_ENOUGH_MS, this.#now());
  }

  /** Many machines have no IPv6; one without IPv4 is a fault. */
  #isAbsent(part: NetworkPart): boolean {
    const { health } = this.#parts[part];
    const { health: ipv4 } = this.#parts.ipv4;
    return part === 'ipv6' && health.isOut && !health.wasSeen && ipv4.wasSeen && !ipv4.isOut;
  }

  /**
   * Tests a part of our network; a test that is running is shared.
   *
   * @param sinceMs the test must have begun after this; any running test will do unless given
   */
  async test(part: NetworkPart, sinceMs = Number.NEGATIVE_INFINITY): Promise<void> {
    if (!this.#wayOut.parts.has(part)) return;
    const record = this.#parts[part];
    while (record.test && record.test.startedMs < sinceMs) await record.test.ended;
    const test = record.test ?? this.#startTest(part, record);
    record.test = test;
    await test.ended;
  }

  /** Tests every part at the same time, each by a test that begins now. */
  async testAll(): Promise<void> {
    const now = this.#now();
    await Promise.all([...this.#wayOut.parts].map((part) => this.test(part, now)));
  }

  #startTest(part: NetworkPart, record: PartRecord): RunningTest {
    const { health } = record;
    const startedMs = this.#now();
    const run = async () => {
      const works = await this.#wayOut.works(part, health.known(startedMs));
      record.test = null;
      health.testedMs = this.#now();
      if (works) {
        health.passed(startedMs, health.testedMs);
        this.noteWorked(part);
      } else if (health.failed(startedMs, health.testedMs))
        this.#onNews({ part, works: false, address: null });
    };
    return { startedMs, ended: run() };
  }

  /** Twice a second while anything is under way: notes what has arrived, and tests parts of which nothing was seen. */
  tick(): void {
    for (const [socket, watched] of this.#sockets) {
      if (socket.bytesRead > watched.bytes) this.noteWorked(watched.part);
      watched.bytes = socket.bytesRead;
    }
    if (this.#dialling > 0 || this.#sockets.size > 0) {
      const quietMs = this.#dialling > 0 ? QUIET_DIALLING_MS : QUIET_SOCKETS_MS;
      for (const part of this.#partsInUse()) void this.testIfQuiet(part, quietMs);
      return;
    }
    if (this.#timer) clearInterval(this.#timer);
    this.#timer = null;
  }

  #partsInUse(): NetworkPart[] {
    if (this.#dialling > 0) return [...this.#wayOut.parts];
    return [...new Set([...this.#sockets.values()].map(({ part }) => part))];
  }

  /**
   * Tests a part of which nothing was seen for so long; one that is out is tested every two seconds, one that this machine
   * does not have every minute.
   */
  async testIfQuiet(part: NetworkPart, quietMs: number): Promise<void> {
    const { health, test } = this.#parts[part];
    if (test) return;
    const outMs = this.#isAbsent(part) ? TEST_ABSENT_MS : TEST_AGAIN_MS;
    const seenMs = Math.max(health.workedMs, health.testedMs);
    if (this.#now() - seenMs >= (health.isOut ? outMs : quietMs)) await this.test(part);
  }

  /** The state of each part; all of them are taken to work before the first test. */
  get parts(): Readonly<Record<NetworkPart, PartState>> {
    return {
      dns: this.#stateOf('dns'),
      ipv4: this.#stateOf('ipv4'),
      ipv6: this.#stateOf('ipv6'),
    };
  }

  #stateOf(part: NetworkPart): PartState {
    if (!this.#wayOut.parts.has(part)) return 'off';
    if (!this.#parts[part].health.isOut) return 'up';
    return this.#isAbsent(part) ? 'absent' : 'down';
  }

  get state(): NetworkState {
    const { dns, ipv4, ipv6 } = this.parts;
    const families = [ipv4, ipv6].filter((state) => state !== 'off');
    if (dns === 'off' && families.length === 0) return 'off';
    if (dns === 'down') return 'down';
    if (families.length > 0 && families.every((state) => state === 'down')) return 'down';
    return families.includes('down') ? 'degraded' : 'up';
  }
}

/** Loopback is no way out. */
function noteFamily({ families }: Attempt, host: string): void {
  const part = isLoopback(host) ? null : partOfAddress(host);
  if (part) families.add(part);
}

/** Whether a host is this machine itself, which no part of our network leads to. */
export function isLoopback(host: string): boolean {
  return host.startsWith('127.') || host === '::1';
}
