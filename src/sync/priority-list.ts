import { ConfigError } from '../config/load.ts';
import type { Bigbrotr } from '../database/bigbrotr.ts';
import { readPriorityFile, SeedListError } from '../network/seed-list.ts';
import type { Logger } from '../telemetry/logger.ts';

/** Interval at which the list is read again, in milliseconds. */
const READ_AGAIN_MS = 10_000;

/**
 * The priority list, which the priority synchronizer keeps in the archive (`relays.priority`): a changed file takes effect
 * within seconds, on every host.
 */
export class PriorityList {
  readonly #path: string;
  readonly #bigbrotr: Bigbrotr;
  readonly #log: Logger;
  #readAtMs = Number.NEGATIVE_INFINITY;
  /** The URLs that the archive has been given. */
  #given: string | null = null;
  #problem: string | null = null;

  private constructor(path: string, bigbrotr: Bigbrotr, log: Logger) {
    this.#path = path;
    this.#bigbrotr = bigbrotr;
    this.#log = log;
  }

  /** Reads the list for the first time. @throws ConfigError when it cannot be read, DatabaseError */
  static async open(path: string, bigbrotr: Bigbrotr, log: Logger): Promise<PriorityList> {
    const list = new PriorityList(path, bigbrotr, log);
    await list.#read().catch((error: unknown) => {
      throw error instanceof SeedListError ? new ConfigError([error.message]) : error;
    });
    return list;
  }

  /** Reads the list when that is due. One that cannot be read any more stays as it was. @throws DatabaseError */
  async refresh(): Promise<void> {
    if (performance.now() - this.#readAtMs < READ_AGAIN_MS) return;
    try {
      await this.#read();
      this.#problem = null;
    } catch (error) {
      if (!(error instanceof SeedListError)) throw error;
      if (this.#problem !== error.message)
        this.#log.warn({ reason: error.message }, 'priority list is unchanged');
      this.#problem = error.message;
    }
  }

  async #read(): Promise<void> {
    this.#readAtMs = performance.now();
    const { relays, invalid } = await readPriorityFile(this.#path);
    const given = relays.map(({ url }) => url).join('\n');
    if (given === this.#given) return;
    for (const { line, text, reason } of invalid)
      this.#log.warn({ line, text, reason }, 'a line of the priority list is skipped');
    if (relays.length === 0)
      this.#log.warn({ path: this.#path }, 'the priority list names no relay');
    await this.#bigbrotr.setPriorityRelays(relays);
    this.#given = given;
  }
}
