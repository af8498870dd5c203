import { type Environment, type ExplainConfig, loadExplainConfig } from '../config/load.ts';
import { type DescribedRow, explainRelay } from '../database/descriptions.ts';
import { BlocklistError, readBlocklist } from '../network/blocklist.ts';
import { parseSeedList, readSeedFile, SeedListError } from '../network/seed-list.ts';
import type { RelayUrl } from '../network/url.ts';
import { CommandError } from '../runtime/failure.ts';
import { QUICK_PATIENCE, readArchive } from './read-archive.ts';
import { jsonOf, screenOf } from './screen.ts';

const USAGE = 'npm run explain -- wss://relay.example.com (--json: for programs)';

interface ExplainArguments {
  readonly url: RelayUrl;
  readonly json: boolean;
}

/** @throws CommandError */
export function parseExplainArguments(args: readonly string[]): ExplainArguments {
  const given = args.filter((argument) => argument !== '--json');
  const [text] = given;
  if (given.length !== 1 || text === undefined || text.startsWith('-'))
    throw new CommandError(`Name one relay: ${USAGE}.`);
  const { relays, invalid } = parseSeedList(text);
  const [relay] = relays;
  if (!relay)
    throw new CommandError(
      `${JSON.stringify(text)} names no relay (${invalid[0]?.reason ?? 'it is empty'}): ${USAGE}.`,
    );
  return { url: relay.url, json: args.includes('--json') };
}

/**
 * Prints everything about one relay: what the archive knows, and what the lists of this machine say.
 *
 * @returns the exit code: 1 when the archive does not know the relay
 * @throws CommandError, ConfigError, DatabaseError
 */
export async function explainLocalRelay(
  env: Environment,
  args: readonly string[],
  print: (text: string) => void,
): Promise<number> {
  const { url, json } = parseExplainArguments(args);
  const config = loadExplainConfig(env);
  const known = await readArchive(
    env,
    (archive) => archive.read((query) => explainRelay(query, url, config)),
    { patience: QUICK_PATIENCE },
  );
  const isKnown = known.some(({ name, value }) => name === 'status' && value === 'known');
  const rows = withLists(known, await listsOf(url, config));
  print(json ? jsonOf({ url, known: isKnown, rows }) : screenOf(rows));
  return isKnown ? 0 : 1;
}

interface Lists {
  readonly isBlocked: boolean;
  readonly rows: readonly DescribedRow[];
}

/** What the lists of this machine say of a relay. */
async function listsOf(url: RelayUrl, config: ExplainConfig): Promise<Lists> {
  const row = (name: string, value: string): DescribedRow => ({
    ...{ section: 'lists', name, value, unit: 'text' },
  });
  const { isBlocked, text } = await blockedBy(url, config.blocklistPath);
  return {
    isBlocked,
    rows: [
      row('blocklist', text),
      row('priority list', await isIn(url, config.priorityRelaysPath)),
      row('seed list', await isIn(url, config.seedRelaysPath)),
    ],
  };
}

async function blockedBy(
  url: RelayUrl,
  path: string | null,
): Promise<{ isBlocked: boolean; text: string }> {
  if (path === null)
    return { isBlocked: false, text: 'there is none (RELAY_BLOCKLIST_PATH is not set)' };
  try {
    const isBlocked = (await readBlocklist(path)).blocks(url);
    return { isBlocked, text: `${isBlocked ? 'blocked: it is never contacted' : 'no'} (${path})` };
  } catch (error) {
    if (!(error instanceof BlocklistError)) throw error;
    return { isBlocked: false, text: error.message };
  }
}

async function isIn(url: RelayUrl, path: string): Promise<string> {
  try {
    const { relays } = await readSeedFile(path);
    return `${relays.some((relay) => relay.url === url) ? 'yes' : 'no'} (${path})`;
  } catch (error) {
    if (!(error instanceof SeedListError)) throw error;
    return error.problem === 'empty' ? `no (${path})` : error.message;
  }
}

/** The rows of the lists come after those that say what the relay is. A blocked relay has no next check and no next visit. */
function withLists(known: readonly DescribedRow[], { isBlocked, rows }: Lists): DescribedRow[] {
  const first = known.filter(({ section }) => section === 'relay');
  const rest = known.filter(({ section }) => section !== 'relay');
  const blocked = rest.map(
    (row): DescribedRow =>
      row.name === 'next check' || row.name === 'next visit'
        ? { ...row, value: 'none: it is on the blocklist', unit: 'text' }
        : row,
  );
  return [...first, ...rows, ...(isBlocked ? blocked : rest)];
}
