import { stat } from 'node:fs/promises';
import { open, type Reader, type Response } from 'maxmind';

/** Interval at which the file is checked for replacement, in milliseconds: providers publish one a week. */
const RELOAD_CHECK_MS = 10 * 60_000;

/**
 * A local database in the MaxMind format (GeoLite2, DB-IP and others), kept in memory. A replaced file is read again; if
 * the new one cannot be read, the old data stay in use.
 */
export class GeoipDatabase {
  readonly #path: string;
  #reader: Reader<Response> | null;
  #version: string;
  #checkedAt = performance.now();

  private constructor(path: string, reader: Reader<Response> | null, version: string) {
    this.#path = path;
    this.#reader = reader;
    this.#version = version;
  }

  /**
   * @param path null, or an empty file, for no database
   * @throws Error with one sentence when the file cannot be read or has another format
   */
  static async open(variable: string, path: string | null): Promise<GeoipDatabase | null> {
    if (path === null) return null;
    try {
      const version = await versionOf(path);
      if (version.startsWith('0 ')) return null;
      return new GeoipDatabase(path, await open(path), version);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw new Error(`${variable} must name a readable file in the MaxMind format: ${why}`);
    }
  }

  /** The record of an address as stored in the file, or null. Never throws. */
  get(ip: string): unknown {
    if (performance.now() - this.#checkedAt > RELOAD_CHECK_MS) void this.refresh();
    try {
      return this.#reader?.get(ip) ?? null;
    } catch {
      return null; // an IPv6 address in a database of IPv4
    }
  }

  /** Reads the file again if it was replaced. */
  async refresh(): Promise<void> {
    this.#checkedAt = performance.now();
    try {
      const version = await versionOf(this.#path);
      if (version === this.#version) return;
      this.#reader = await open(this.#path);
      this.#version = version;
    } catch {
      // Incomplete or missing: tried again at the next check.
    }
  }
}

async function versionOf(path: string): Promise<string> {
  const { size, mtimeMs, ino } = await stat(path);
  return `${size} ${mtimeMs} ${ino}`;
}
