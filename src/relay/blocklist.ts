import { readFile } from 'node:fs/promises';
import { parseRelayUrl, type RelayUrl } from './url.ts';

/** Relays that are never contacted, because their operators asked to be left out. */
export interface Blocklist {
  blocks(url: RelayUrl): boolean;
  readonly size: number;
}

/** The blocklist cannot be used. Nothing is contacted without it: the operators' wish comes first. */
export class BlocklistError extends Error {
  override readonly name = 'BlocklistError';
}

/**
 * Reads a list of relays: a URL a line blocks that relay, a bare host name every relay of that host, whatever
 * its scheme, port and path. `#` begins a comment.
 *
 * @param path null when there is no list: nothing is blocked then
 * @throws BlocklistError when it cannot be read, or a line is neither: a wish must not be lost to a typing mistake.
 */
export async function readBlocklist(path: string | null): Promise<Blocklist> {
  if (path === null) return parseBlocklist('', '');
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    throw new BlocklistError(
      `The blocklist ${path} cannot be read (${(error as NodeJS.ErrnoException).code}): check RELAY_BLOCKLIST_PATH.`,
    );
  }
  return parseBlocklist(text, path);
}

/** @throws BlocklistError naming the first line that is neither a relay URL nor a host name. */
export function parseBlocklist(text: string, path: string): Blocklist {
  const urls = new Set<string>();
  const hosts = new Set<string>();
  for (const [index, raw] of text.split(/\r?\n/).entries()) {
    const line = raw.replace(/(^|\s)#.*$/, '').trim();
    if (line === '') continue;
    const isUrl = line.includes('://');
    const parsed = parseRelayUrl(isUrl ? line : `wss://${line}`);
    if (!parsed.ok)
      throw new BlocklistError(
        `Line ${index + 1} of the blocklist ${path} is no relay: ${parsed.reason}.`,
      );
    if (isUrl) urls.add(parsed.url);
    else hosts.add(new URL(parsed.url).hostname);
  }
  return {
    size: urls.size + hosts.size,
    blocks: (url) => urls.has(url) || hosts.has(new URL(url).hostname),
  };
}
