/**
 * Relay lists edited by hand: one relay a line, with comments. Invalid lines are returned with their reason and do not
 * affect the others.
 */
import { readFile } from 'node:fs/promises';
import { forbiddenHost } from './address.ts';
import { parseRelayUrl, type RelayAddress } from './url.ts';

export interface InvalidLine {
  /** Counted from 1. */
  line: number;
  text: string;
  reason: string;
}
export interface SeedList {
  /** Each relay once, in the order of the list. */
  relays: RelayAddress[];
  invalid: InvalidLine[];
  /** Number of lines that repeat a relay, whatever the spelling. */
  duplicates: number;
}

/** The relays of a list that may be connected to: the others have no place in the archive. */
export function allowedRelays(
  relays: readonly RelayAddress[],
  allowPrivate: boolean,
  onForbidden: (relay: RelayAddress, reason: string) => void,
): readonly RelayAddress[] {
  if (allowPrivate) return relays;
  return relays.filter((relay) => {
    const reason = forbiddenHost(relay.url);
    if (reason !== null) onForbidden(relay, reason);
    return reason === null;
  });
}

/**
 * Reads a list of relays from text. A `#` at the beginning of a line or after white space begins a comment. Blank lines, a
 * byte order mark and any line ends are allowed. A name without a scheme becomes a `wss://` relay, or `ws://` when it ends
 * in `.onion`: Tor encrypts by itself, and onion relays hardly ever have a certificate.
 */
export function parseSeedList(text: string): SeedList {
  const found = new Map<string, RelayAddress>();
  const invalid: InvalidLine[] = [];
  let duplicates = 0;
  for (const [index, line] of text.split(/\r\n|\n|\r/).entries()) {
    const entry = withoutComment(line);
    if (entry === '') continue;
    const parsed = parseEntry(entry);
    if (!parsed.ok) {
      invalid.push({ line: index + 1, text: shortened(entry), reason: parsed.reason });
    } else if (found.has(parsed.url)) {
      duplicates += 1;
    } else {
      found.set(parsed.url, { url: parsed.url, network: parsed.network });
    }
  }
  return { relays: [...found.values()], invalid, duplicates };
}

export type SeedListProblem = 'missing' | 'unreadable' | 'empty';

/** A relay list cannot be used; `problem` is the reason as one word. */
export class SeedListError extends Error {
  readonly problem: SeedListProblem;
  readonly path: string;

  constructor(problem: SeedListProblem, path: string, message: string) {
    super(message);
    this.name = 'SeedListError';
    this.problem = problem;
    this.path = path;
  }
}

/**
 * Reads a list of relays from a file in UTF-8.
 * @throws SeedListError when the file is missing, cannot be read or names no relay.
 */
export async function readSeedFile(path: string): Promise<SeedList> {
  const list = parseSeedList(await readText(path));
  if (list.relays.length > 0) return list;
  const [first] = list.invalid;
  const why = first ? ` (line ${first.line}, "${first.text}": ${first.reason})` : '';
  throw new SeedListError(
    'empty',
    path,
    `The relay list ${path} names no relay${why}: write one URL on each line, as wss://relay.example.`,
  );
}

/** Reads the priority list, which may name no relay. @throws SeedListError when it is missing or cannot be read */
export async function readPriorityFile(path: string): Promise<SeedList> {
  try {
    return await readSeedFile(path);
  } catch (error) {
    if (!(error instanceof SeedListError) || error.problem !== 'empty') throw error;
    return { relays: [], invalid: [], duplicates: 0 };
  }
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? String(error);
    throw code === 'ENOENT'
      ? new SeedListError(
          'missing',
          path,
          `The relay list ${path} does not exist: create it, or set its path to a file that does.`,
        )
      : new SeedListError(
          'unreadable',
          path,
          `The relay list ${path} cannot be read (${describe(code)}): set its path to a text file that this user may read.`,
        );
  }
}

function describe(code: string): string {
  if (code === 'EISDIR') return 'it is a directory';
  return code === 'EACCES' ? 'permission denied' : code;
}

function withoutComment(line: string): string {
  return line.replace(/(?:^|\s)#.*$/u, '').trim();
}

function parseEntry(entry: string): ReturnType<typeof parseRelayUrl> {
  if (entry.includes('://')) return parseRelayUrl(entry);
  const host = /^[^/?#]*/.exec(entry)?.[0] ?? '';
  if (!/[.[]/.test(host)) return { ok: false, reason: 'it is neither a URL nor a host name' };
  return parseRelayUrl(`${/\.onion\.?(?::\d+)?$/i.test(host) ? 'ws' : 'wss'}://${entry}`);
}

/** Makes a line bounded and printable for logs: a line of a wrong file may be megabytes of binary data. */
function shortened(text: string): string {
  const start = text.slice(0, 100).replace(/\p{C}/gu, '\ufffd');
  return text.length > 100 ? `${start}…` : start;
}
