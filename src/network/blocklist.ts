import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { parseRelayUrl, type RelayUrl } from './url.ts';

/** Interval at which those that hold a blocklist read it again, in milliseconds. */
export const READ_AGAIN_MS = 10_000;

/** Relays that are never contacted, at the request of their operators. */
export interface Blocklist {
  blocks(url: RelayUrl): boolean;
  readonly size: number;
  /** What is blocked, as one text: two lists with the same one block the same. */
  readonly key: string;
}

/** The blocklist cannot be read. No relay is contacted without it. */
export class BlocklistError extends Error {
  override readonly name = 'BlocklistError';
}

/**
 * Reads a blocklist, one entry a line: a URL blocks that relay, a bare host name every relay of that host, whatever the
 * scheme, port and path. `#` begins a comment.
 *
 * @param path a file, or a directory whose files `*.txt` are read; null when there is no list: nothing is blocked then
 * @throws BlocklistError when it cannot be read, or a line is neither: a typo must not unblock a relay
 */
export async function readBlocklist(path: string | null): Promise<Blocklist> {
  if (path === null) return blocklistOf([]);
  try {
    const files = (await stat(path)).isDirectory() ? await listFiles(path) : [path];
    return blocklistOf(await Promise.all(files.map(readEntries)));
  } catch (error) {
    if (error instanceof BlocklistError) throw error;
    throw new BlocklistError(
      `The blocklist ${path} cannot be read (${(error as NodeJS.ErrnoException).code}): check RELAY_BLOCKLIST_PATH.`,
    );
  }
}

async function listFiles(directory: string): Promise<string[]> {
  const names = await readdir(directory);
  const files = names.filter((name) => name.endsWith('.txt') && !name.startsWith('.')).sort();
  return files.map((name) => join(directory, name));
}

/** @throws BlocklistError, and the error of the file system */
async function readEntries(path: string): Promise<Entries> {
  const text = await readFile(path, 'utf8');
  // A file that is mounted into a container stays the old one when an editor puts a new one in its place.
  if ((await stat(path)).nlink === 0)
    throw new BlocklistError(
      `The blocklist ${path} was replaced outside of this container, which still has the old file: restart the service, or let RELAY_BLOCKLIST_PATH name a directory.`,
    );
  return parseEntries(text, path);
}

interface Entries {
  readonly urls: readonly string[];
  readonly hosts: readonly string[];
}

function blocklistOf(lists: readonly Entries[]): Blocklist {
  const urls = new Set(lists.flatMap((list) => list.urls));
  const hosts = new Set(lists.flatMap((list) => list.hosts));
  return {
    size: urls.size + hosts.size,
    key: [...urls, ...hosts].sort().join(' '),
    blocks: (url) => urls.has(url) || hosts.has(new URL(url).hostname),
  };
}

/** @throws BlocklistError naming the first line that is neither a relay URL nor a host name */
export function parseBlocklist(text: string, path: string): Blocklist {
  return blocklistOf([parseEntries(text, path)]);
}

function parseEntries(text: string, path: string): Entries {
  const urls: string[] = [];
  const hosts: string[] = [];
  for (const [index, raw] of text.split(/\r?\n/).entries()) {
    const line = raw.replace(/(^|\s)#.*$/, '').trim();
    if (line === '') continue;
    const isUrl = line.includes('://');
    const parsed = parseRelayUrl(isUrl ? line : `wss://${line}`);
    if (!parsed.ok)
      throw new BlocklistError(
        `Line ${index + 1} of the blocklist ${path} is no relay: ${parsed.reason}.`,
      );
    if (isUrl) urls.push(parsed.url);
    else hosts.push(new URL(parsed.url).hostname);
  }
  return { urls, hosts };
}
