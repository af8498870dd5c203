/** Holds the archive against what the relays serve: every number is exact. */
import type pg from 'pg';
import type { NostrEvent } from '../../../src/nostr/event.ts';
import { isValidEvent } from '../../fixtures/events.ts';
import type { LogLine } from '../../processes/programs.ts';
import type { DemoRelay } from './relays.ts';

export interface Check {
  readonly what: string;
  readonly expected: number;
  readonly archived: number;
  readonly right: boolean;
}

/** Compares relay by relay, id by id. `log` is what the services said while they archived. */
export async function checkArchive(
  relays: readonly DemoRelay[],
  database: pg.Client,
  log: readonly LogLine[],
): Promise<Check[]> {
  const served = new Map<DemoRelay, string[]>();
  for (const relay of relays) served.set(relay, await relay.genuineIds());
  const events = new Set([...served.values()].flat());
  const checks = [await checkIds('different events', events, database, 'select id from events')];
  for (const [{ name, url }, ids] of served)
    checks.push(await checkIds(`  seen on "${name}"`, new Set(ids), database, SEEN_ON, [url]));
  return [
    ...checks,
    await checkSightings(served, database),
    await checkSignatures(events.size, database),
    ...checkRefused(relays, log),
    ...(await checkReadable(relays, database)),
  ];
}

const SEEN_ON = 'select event_id as id from events_relays where relay_url = $1';

function check(what: string, expected: number, archived: number, same = true): Check {
  return { what, expected, archived, right: same && expected === archived };
}

async function checkIds(
  what: string,
  expected: ReadonlySet<string>,
  database: pg.Client,
  sql: string,
  values: unknown[] = [],
): Promise<Check> {
  const { rows } = await database.query<{ id: Buffer }>(sql, values);
  const archived = rows.map(({ id }) => id.toString('hex'));
  return check(
    what,
    expected.size,
    archived.length,
    archived.every((id) => expected.has(id)),
  );
}

async function checkSightings(
  served: ReadonlyMap<DemoRelay, string[]>,
  database: pg.Client,
): Promise<Check> {
  const expected = [...served.values()].reduce((sum, ids) => sum + ids.length, 0);
  const { rows } = await database.query('select from sightings');
  return check('sightings in all', expected, rows.length);
}

/** Each event as it comes back from PostgreSQL, judged anew. */
async function checkSignatures(expected: number, database: pg.Client): Promise<Check> {
  const { rows } = await database.query<NostrEvent>('select * from events_hex');
  return check('events that verify when read back', expected, rows.filter(isValidEvent).length);
}

/** A request that gets no answer for a moment is sent again: then its forgeries are refused twice. */
function checkRefused(relays: readonly DemoRelay[], log: readonly LogLine[]): Check[] {
  const expected = sum(relays.map(({ forged }) => forged));
  const refused = sum(log.map(({ invalid = {} }) => invalid as Record<string, number>));
  const reasons = new Set([...Object.keys(expected), ...Object.keys(refused)]);
  return [...reasons].map((reason) => {
    const [least, count] = [expected[reason] ?? 0, refused[reason] ?? 0];
    const right = count >= least && count <= 2 * least;
    return { what: `refused: ${reason}`, expected: least, archived: count, right };
  });
}

function sum(counts: readonly Readonly<Record<string, number>>[]): Record<string, number> {
  const total: Record<string, number> = {};
  for (const one of counts)
    for (const [name, count] of Object.entries(one)) total[name] = (total[name] ?? 0) + count;
  return total;
}

async function checkReadable(relays: readonly DemoRelay[], database: pg.Client): Promise<Check[]> {
  const { rows } = await database.query<{ relay_url: string; readable: boolean }>(
    'select relay_url, readable from relay_metadata_latest',
  );
  const waiting = await database.query<{ relay_url: string }>(
    'select relay_url from relay_candidates',
  );
  const compare = (what: string, wanted: readonly DemoRelay[], found: readonly string[]) => {
    const expected = new Set(wanted.map(urlOf));
    return check(
      what,
      expected.size,
      found.length,
      found.every((url) => expected.has(url)),
    );
  };
  const urls = (of: readonly { relay_url: string }[]) => of.map(({ relay_url }) => relay_url);
  const isReadable = (relay: DemoRelay) => relay.readable;
  return [
    compare('relays known: one of a list, the others found', relays.filter(isReadable), urls(rows)),
    compare('readable relays', relays.filter(isReadable), urls(rows.filter((row) => row.readable))),
    compare(
      'names that never answered, kept as candidates',
      relays.filter((relay) => !relay.readable),
      urls(waiting.rows),
    ),
  ];
}

const urlOf = ({ url }: DemoRelay) => url;
