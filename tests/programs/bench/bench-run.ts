import { createVerifier, type Verifier } from '../../../src/nostr/verify.ts';
import { cpuOf } from './cpu.ts';
import { Pipeline } from './pipeline.ts';
import { ReferenceArchive, referenceSql } from './reference.ts';
import { type BenchRelays, startRelays } from './relays.ts';
import { type BenchServer, startServer } from './server.ts';

/** How much is measured. */
export interface Size {
  readonly mode: 'quick' | 'full' | 'growth';
  readonly rounds: number;
  /** A comparison begins no further round after this. */
  readonly mostSeconds: number;
  /** Events of a round, of ours and of the reference, which is slower. */
  readonly events: number;
  readonly referenceEvents: number;
  /** Events of the archive that the API answers from. */
  readonly archived: number;
}

export const SIZES: Record<Size['mode'], Size> = {
  quick: {
    mode: 'quick',
    rounds: 3,
    mostSeconds: 4,
    events: 2000,
    referenceEvents: 700,
    archived: 10_000,
  },
  full: {
    mode: 'full',
    rounds: 5,
    mostSeconds: Number.POSITIVE_INFINITY,
    events: 20_000,
    referenceEvents: 4000,
    archived: 5_000_000,
  },
  growth: {
    mode: 'growth',
    rounds: 5,
    mostSeconds: Number.POSITIVE_INFINITY,
    events: 20_000,
    referenceEvents: 4000,
    archived: 5_000_000,
  },
};

/** What all rows share: started when the first row asks for it. */
export class Bench {
  readonly size: Size;
  readonly verifier: Verifier;
  readonly server: BenchServer;
  readonly relays: BenchRelays;
  readonly pipeline: Pipeline;
  readonly reference: ReferenceArchive;

  private constructor(parts: Omit<Bench, 'cpu' | 'stop'>) {
    this.size = parts.size;
    this.verifier = parts.verifier;
    this.server = parts.server;
    this.relays = parts.relays;
    this.pipeline = parts.pipeline;
    this.reference = parts.reference;
  }

  /** @param undo gets what ends that which was started, in this order, whatever fails later */
  static async start(size: Size, undo: (() => Promise<void>)[]): Promise<Bench> {
    const server = await startServer();
    undo.push(() => server.stop());
    const relays = await startRelays();
    undo.push(() => relays.stop());
    const pipeline = await Pipeline.start(server, 'ours');
    undo.push(() => pipeline.close());
    const reference = await ReferenceArchive.open(await server.create('reference', referenceSql()));
    undo.push(() => reference.close());
    const verifier = await createVerifier();
    return new Bench({ size, verifier, server, relays, pipeline, reference });
  }

  /** CPU seconds of the pipeline (this process), the relays and the database so far. */
  cpu(): Cpu {
    const own = process.cpuUsage();
    return {
      pipeline: (own.user + own.system) / 1e6,
      relays: cpuOf(this.relays.pid) ?? 0,
      database: cpuOf(this.server.pid) ?? 0,
    };
  }
}

export interface Cpu {
  readonly pipeline: number;
  readonly relays: number;
  readonly database: number;
}

/** Adds up what the work of several rounds cost, for one row of the result. */
export class CpuCount {
  #seconds = { pipeline: 0, relays: 0, database: 0 };
  #events = 0;
  readonly #bench: Bench;

  constructor(bench: Bench) {
    this.#bench = bench;
  }

  async of<T>(events: number, work: () => Promise<T>): Promise<T> {
    const before = this.#bench.cpu();
    const result = await work();
    const after = this.#bench.cpu();
    this.#events += events;
    this.#seconds = {
      pipeline: this.#seconds.pipeline + after.pipeline - before.pipeline,
      relays: this.#seconds.relays + after.relays - before.relays,
      database: this.#seconds.database + after.database - before.database,
    };
    return result;
  }

  /** Microseconds of CPU an event. */
  get details(): Record<string, number> {
    const each = (seconds: number) => Math.round((seconds / this.#events) * 1e6);
    return {
      'CPU of the pipeline, µs an event': each(this.#seconds.pipeline),
      'CPU of the database, µs an event': each(this.#seconds.database),
      'CPU of the relays, µs an event': each(this.#seconds.relays),
    };
  }
}
