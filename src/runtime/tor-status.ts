import { connect } from 'node:net';
import type { TorConfig } from '../config/load.ts';
import { torHasCircuits } from '../network/tor.ts';
import type { HealthStatus } from '../telemetry/health.ts';
import type { Logger } from '../telemetry/logger.ts';

const CONNECT_TIMEOUT_MS = 2000;
/** Every service tests its circuits this often, in milliseconds, whether or not it visits onion relays. */
const TEST_MS = 60_000;
/** The same while there was none. */
const TEST_AGAIN_MS = 5000;
const LONGEST_TEST_MS = 20_000;
/** Relays that need Tor are skipped for this long after it had no circuit, in milliseconds. */
const NO_CIRCUIT_MS = 30_000;

/** Whether the Tor proxy answers and has a circuit: for `/health`, the log and the choice of relays. */
export class TorStatus {
  readonly #config: TorConfig | null;
  readonly #log: Logger;
  #shown: HealthStatus['tor'];
  /** When Tor last had no circuit for a relay; null since it has one. */
  #noCircuitAt: number | null = null;
  #wasChecked = false;
  /** When the circuits were last tested, in `performance.now()` milliseconds. */
  #testedAt = Number.NEGATIVE_INFINITY;
  #isTesting = false;

  constructor(config: TorConfig | null, log: Logger) {
    this.#config = config;
    this.#log = log;
    this.#shown = config ? 'down' : 'off';
  }

  /** What `/health` shows. */
  get shown(): HealthStatus['tor'] {
    return this.#shown;
  }

  /** Whether relays that need Tor should be skipped now. */
  get isDown(): boolean {
    if (this.#wasChecked && this.#shown === 'down') return true;
    return this.#noCircuitAt !== null && performance.now() - this.#noCircuitAt < NO_CIRCUIT_MS;
  }

  /** Notes whether Tor had a circuit when a relay was contacted. */
  noteCircuit(works: boolean): void {
    this.#noCircuitAt = works ? null : performance.now();
  }

  /** Connects to the proxy, tests from time to time whether it has circuits, and logs a change. Never rejects. */
  async check(signal: AbortSignal): Promise<void> {
    const proxy = await this.#proxy();
    if (proxy === 'up') void this.#testCircuits(signal);
    // A proxy that was restarted has new circuits.
    if (this.#shown === 'down' && proxy === 'up') this.#noCircuitAt = null;
    const now = proxy === 'up' && this.#noCircuitAt !== null ? 'no_circuit' : proxy;
    this.#wasChecked = true;
    if (now === this.#shown) return;
    this.#shown = now;
    if (now === 'down') this.#log.error('tor is down');
    else if (now === 'no_circuit') this.#log.error('tor is up and has no circuit');
    else this.#log.info(`tor is ${now}`);
  }

  async #testCircuits(signal: AbortSignal): Promise<void> {
    const everyMs = this.#noCircuitAt === null ? TEST_MS : TEST_AGAIN_MS;
    if (!this.#config || this.#isTesting || performance.now() - this.#testedAt < everyMs) return;
    this.#isTesting = true;
    const works = await torHasCircuits(this.#config, LONGEST_TEST_MS, signal);
    this.#testedAt = performance.now();
    this.#isTesting = false;
    if (!signal.aborted) this.noteCircuit(works);
  }

  #proxy(): Promise<'up' | 'down' | 'off'> {
    if (!this.#config) return Promise.resolve('off');
    const { host, port } = this.#config;
    return new Promise((resolve) => {
      const socket = connect({ host, port, timeout: CONNECT_TIMEOUT_MS });
      const finish = (state: 'up' | 'down') => {
        socket.destroy();
        resolve(state);
      };
      socket.once('connect', () => finish('up'));
      socket.once('timeout', () => finish('down'));
      socket.once('error', () => finish('down'));
    });
  }
}
