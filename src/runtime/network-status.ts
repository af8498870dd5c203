import { setTimeout as sleep } from 'node:timers/promises';
import {
  isLoopback,
  type NetworkNews,
  OwnNetwork,
  type PartState,
} from '../network/own-network.ts';
import { addressOf } from '../network/transport.ts';
import type { Network } from '../network/url.ts';
import { type NetworkPart, partOfAddress, type WayOut } from '../network/way-out.ts';
import type { HealthStatus } from '../telemetry/health.ts';
import type { Logger } from '../telemetry/logger.ts';

/** Interval at which the state of our network is read, in milliseconds. */
const LOOK_MS = 1000;
/** Parts that fail or return together do so within this time, in milliseconds. */
const TOGETHER_MS = 1000;
/** A part that works is tested when no relay was reached over it for this long, in milliseconds. */
const QUIET_MS = 60_000;
const PARTS = ['dns', 'ipv4', 'ipv6'] as const;
const UNTESTED: Parts = { dns: 'off', ipv4: 'off', ipv6: 'off' };
const NAMES: Readonly<Record<NetworkPart, string>> = { dns: 'DNS', ipv4: 'IPv4', ipv6: 'IPv6' };

type Parts = Readonly<Record<NetworkPart, PartState>>;
type Shown = Pick<HealthStatus, 'network' | 'networkParts' | 'networkReason' | 'waitsForNetwork'>;

/**
 * Whether the network of a service works: for `/health`, the log, and the choice of relays.
 *
 * A part that fails stops the choice of relays that need it immediately. What is shown and logged is the state of all parts
 * after a test of each: the first one that is seen to fail says nothing of the others.
 */
export class NetworkStatus {
  /** Null where it is not tested. */
  readonly #own: OwnNetwork | null;
  readonly #log: Logger;
  readonly #onParts: (parts: Parts) => void;
  readonly #returned = new Set<() => void>();
  /** The state when all parts were last tested together. */
  #judged: Pick<OwnNetwork, 'state' | 'parts'>;
  #judging: Promise<void> | null = null;
  #logged: string | null = null;
  #downSince = 0;
  /** Relays that the latest look-up left out because our network is down. */
  #waiting = 0;

  /** @param onParts called with the state of each part after each look */
  constructor(wayOut: WayOut | null, log: Logger, onParts: (parts: Parts) => void = () => {}) {
    this.#own = wayOut && new OwnNetwork({ wayOut, onNews: () => this.#judgeChange() });
    this.#judged = { state: this.#own?.state ?? 'off', parts: this.#own?.parts ?? UNTESTED };
    this.#log = log;
    this.#onParts = onParts;
    this.#own?.onReturned(() => {
      for (const handler of this.#returned) handler();
    });
  }

  /** For what connects to relays in this thread; null where our network is not tested. */
  get own(): OwnNetwork | null {
    return this.#own;
  }

  /** The fields of `/health`. */
  get shown(): Shown {
    if (!this.#own) return { network: 'off' };
    const { state, parts } = this.#judged;
    const reason = reasonOf(parts);
    return {
      network: state,
      networkParts: parts,
      ...(state === 'down' && this.#waiting > 0 && { waitsForNetwork: this.#waiting }),
      ...(reason !== null && { networkReason: reason }),
    };
  }

  /** Receives a message of a worker thread. During an outage a test decides, because the message may be older. */
  note({ part, works, address }: NetworkNews): void {
    const own = this.#own;
    if (!own) return;
    if (works && own.parts[part] === 'up') own.noteWorked(part, address);
    else void own.test(part);
  }

  /** Whether a relay can be reached as far as that depends on our network. Relays of Tor depend on Tor. */
  canReach({ url, network }: { readonly url: string; readonly network: Network }): boolean {
    if (!this.#own || network !== 'clearnet' || !URL.canParse(url)) return true;
    const { parts } = this.#own;
    const works = (part: NetworkPart) => parts[part] === 'up' || parts[part] === 'off';
    const { host } = addressOf(new URL(url));
    if (isLoopback(host)) return true;
    const family = partOfAddress(host);
    return family ? works(family) : works('dns') && (works('ipv4') || works('ipv6'));
  }

  /** @param relays that are due and that the latest look-up left out */
  noteWaiting(relays: number): void {
    this.#waiting = this.isDown ? relays : 0;
  }

  /** Whether no name, or no address, outside can be reached. */
  get isDown(): boolean {
    return this.#own?.state === 'down';
  }

  /** Calls the handler each time that a part of our network is back. */
  onReturned(handler: () => void): void {
    this.#returned.add(handler);
  }

  /** Resolves when no outage of all of our network, or of DNS, is known. Never rejects. */
  async whenUp(signal: AbortSignal): Promise<void> {
    while (this.isDown && !signal.aborted)
      await sleep(LOOK_MS, undefined, { signal }).catch(() => {});
  }

  /** Tests everything once. */
  async begin(): Promise<void> {
    await this.#judge(0);
  }

  /** Reads the state of our network until the signal aborts. Never rejects. */
  async watch(signal: AbortSignal): Promise<void> {
    if (!this.#own) return;
    while (!signal.aborted) {
      for (const part of PARTS) void this.#own.testIfQuiet(part, QUIET_MS);
      this.#judgeChange();
      this.#onParts(this.#judged.parts);
      await sleep(LOOK_MS, undefined, { signal }).catch(() => {});
    }
  }

  /** Judges the parts together when one of them differs from what is shown. */
  #judgeChange(): void {
    if (!this.isDown) this.#waiting = 0;
    const parts = this.#own?.parts ?? UNTESTED;
    if (PARTS.some((part) => parts[part] !== this.#judged.parts[part]))
      void this.#judge(TOGETHER_MS);
  }

  /** Tests each part after a time, and shows and logs what changed. A run that goes on is shared. */
  async #judge(afterMs: number): Promise<void> {
    const own = this.#own;
    if (!own) return;
    const run = async () => {
      await sleep(afterMs, undefined, { ref: false });
      await own.testAll();
      this.#judging = null;
      this.#judged = { state: own.state, parts: own.parts };
      this.#onParts(own.parts);
      this.#logChange();
    };
    this.#judging ??= run();
    await this.#judging;
  }

  /** Logs once when the network fails or what fails of it changes, and once when it is back. */
  #logChange(): void {
    const { state, parts } = this.#judged;
    const reason = reasonOf(parts);
    if (reason === this.#logged) return;
    const wasUp = this.#logged === null;
    if (wasUp) this.#downSince = performance.now();
    this.#logged = reason;
    const seconds = Math.round((performance.now() - this.#downSince) / 1000);
    if (reason === null) this.#log.info({ seconds }, 'network is up');
    else
      this.#log.error(
        { reason, ...parts, ...(!wasUp && { seconds }) },
        state === 'down' ? 'network is down' : 'network is degraded',
      );
  }
}

/** What does not work, as a sentence; null when nothing is down. */
function reasonOf(parts: Parts): string | null {
  const named = (state: PartState) =>
    PARTS.filter((part) => parts[part] === state).map((part) => NAMES[part]);
  const down = named('down');
  if (down.length === 0) return null;
  const up = named('up');
  const works =
    up.length > 0 ? `, while ${up.join(' and ')} ${up.length > 1 ? 'work' : 'works'}` : '';
  return `${down.join(', ')} ${down.length > 1 ? 'do' : 'does'} not work${works}: relays are not judged by it and are tried again when it is back`;
}
