import { stat } from 'node:fs/promises';
import { open, type Reader, type Response } from 'maxmind';

/** How often it is looked whether the file was replaced, in milliseconds: providers bring a new one each week. */
const LOOK_EVERY_MS = 10 * 60_000;

/**
 * One local database in the MaxMind format (GeoLite2, DB-IP and others), kept in memory. A file that is replaced is
 * read again; where the new one cannot be read, the old one stays in use.
 */
export class GeoipDatabase {
  readonly #path: string;
  #reader: Reader<Response> | null;
  #version: string;
  #lookedAt = performance.now();

  private constructor(path: string, reader: Reader<Response> | null, version: string) {
    this.#path = path;
    this.#reader = reader;
    this.#version = version;
  }

  /**
   * @param path null for no database, as is an empty file
   * @throws Error with one sentence when the file cannot be read or is none.
   */
  static async open(variable: string, path: string | null): Promise<GeoipDatabase | null> {
    if (path === null) return null;
    try {
      const version = await versionOf(path);
      if (version.startsWith('0 ')) return null;
      return new GeoipDatabase(path, await open(path), version);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw new Error(`${variable} is no database in the MaxMind format that can be read: ${why}`);
    }
  }

  /** The record of an address as it stands in the file, or null. Never throws. */
  get(ip: string): unknown {
    if (performance.now() - this.#lookedAt > LOOK_EVERY_MS) void this.refresh();
    try {
      return this.#reader?.get(ip) ?? null;
    } catch {
      return null; // an IPv6 address in a database of IPv4
    }
  }

  /** Reads the file again if it is another one by now. */
  async refresh(): Promise<void> {
    this.#lookedAt = performance.now();
    try {
      const version = await versionOf(this.#path);
      if (version === this.#version) return;
      this.#reader = await open(this.#path);
      this.#version = version;
    } catch {
      // Half written or gone: tried again at the next look.
    }
  }
}

async function versionOf(path: string): Promise<string> {
  const { size, mtimeMs, ino } = await stat(path);
  return `${size} ${mtimeMs} ${ino}`;
}
