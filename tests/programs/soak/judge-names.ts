/** Holds what the finder made of names against the model: what was named, by whom, and what is there. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Names, Target } from './names.ts';
import type { Places } from './places.ts';
import type { Servers } from './servers.ts';
import type { Tally } from './tally.ts';
import { letHoursPassForNames } from './time.ts';

/** What the finder is compared with. */
export interface NamesModel {
  readonly names: Names;
  /** Everything that is named, once. */
  readonly targets: readonly Target[];
  readonly places: Places;
  /** Relays of the seed list. */
  readonly seeds: readonly string[];
}

/** What the archive says of one name. */
interface Named {
  readonly url: string;
  readonly times: number;
  readonly firstAt: number;
  readonly firstEvent: string | null;
  readonly firstAuthor: string | null;
  readonly lastAt: number;
  /** In hex; `''` for the list. */
  readonly authors: readonly string[];
  readonly wasTried: boolean;
  readonly reason: string | null;
  readonly hasAnswered: boolean;
}

interface Standing {
  readonly named: ReadonlyMap<string, Named>;
  /** URLs in `relays`. */
  readonly relays: ReadonlySet<string>;
  /** Ids of archived events. */
  readonly archived: ReadonlySet<string>;
  /** Rows of the journal with new events that the finder has not read. */
  readonly queued: number;
}

const LOOK_EVERY_MS = 1000;
const UNREAD = `from journal j, journal_readers r
  where r.name = 'finder' and (j.xid, j.batch_id) > (r.xid, r.batch_id) and j.event_keys <> '{}'`;

/**
 * Waits until every archived event is read and every name was asked that can be. What is still missing after so long is
 * for the judgement.
 */
export async function namesRead(
  servers: Servers,
  { targets }: NamesModel,
  timeoutMs: number,
): Promise<void> {
  const reachable = targets.filter(({ place }) => place === 'no relay').map(({ url }) => url);
  const deadline = performance.now() + timeoutMs;
  while (performance.now() < deadline) {
    const [row] = await servers.query<{ left: number }>(
      `select (select count(*) ${UNREAD})::int
            + (select count(*) from named_relays where url = any ($1) and reason is null)::int as left`,
      [reachable],
    );
    if (row?.left === 0) return;
    await letHoursPassForNames(servers);
    await sleep(LOOK_EVERY_MS);
  }
}

export interface NamesTotals {
  readonly events: number;
  readonly names: number;
  readonly namings: number;
  readonly hidden: number;
  readonly found: number;
  readonly inVain: number;
}

/** Compares every name with its model. @param told how often the finder has told of each relay that it found */
export async function judgeNames(
  ask: Servers['query'],
  model: NamesModel,
  told: ReadonlyMap<string, number>,
  tally: Tally,
): Promise<NamesTotals> {
  const standing = await standingOf(ask);
  const { named, relays, queued } = standing;
  if (queued > 0) tally.fail(`the finder has left ${queued} batches of events unread`);
  const wanted = model.targets.filter(({ place }) => place !== 'forbidden');
  const urls = new Set(wanted.map(({ url }) => url));
  for (const url of named.keys())
    if (!urls.has(url)) tally.fail(`the finder remembers ${url}, which nobody may have named`);
  const hidden = wanted.filter(({ place }) => place === 'hidden').map(({ url }) => url);
  const allowed = new Set([...model.seeds, ...hidden]);
  for (const url of relays)
    if (!allowed.has(url)) tally.fail(`${url} has become a relay of the archive, and is none`);
  for (const target of wanted) judgeName(target, model, standing, tally);
  for (const [url, times] of told)
    if (times > 1) tally.fail(`the finder has found the relay ${url} ${times} times`);
  judgeForbidden(model, tally);
  const rows = [...named.values()];
  return {
    events: model.names.events,
    names: named.size,
    namings: rows.reduce((sum, { times }) => sum + times, 0),
    hidden: hidden.length,
    found: hidden.filter((url) => relays.has(url)).length,
    inVain: rows.filter(({ wasTried, hasAnswered }) => wasTried && !hasAnswered).length,
  };
}

function judgeForbidden({ places }: NamesModel, tally: Tally): void {
  const trapped = places.forbiddenConnections();
  if (trapped > 0) tally.fail(`${trapped} connections were made to where the blocklist forbids it`);
  if (places.listRequests() === 0) tally.fail('the finder never asked for its list');
}

function judgeName(
  { url, place }: Target,
  { names, places }: NamesModel,
  { named, relays, archived }: Standing,
  tally: Tally,
): void {
  const ever = names.namings(url);
  const stored = ever.filter(({ id }) => archived.has(id));
  const isListed = places.listed.includes(url);
  const row = named.get(url);
  if (!row) {
    if (stored.length > 0 || isListed)
      tally.fail(
        `the finder has lost ${url} (${place}), named by ${stored.length} archived events`,
      );
    return;
  }
  const wrong = (what: string) => tally.fail(`of ${url} (${place}) the finder says ${what}`);
  judgeTimes(row, stored.length, isListed, wrong);
  const strangers = row.authors.filter((one) => !ever.some(({ author }) => author === one));
  if (strangers.some((one) => one !== '' || !isListed)) wrong(`that ${strangers[0]} has named it`);
  const missing = stored.find(({ author }) => !row.authors.includes(author));
  if (missing) wrong(`nothing of ${missing.author}, who has named it in ${missing.id}`);
  judgeFirst(row, { ever, stored, isListed }, wrong);
  judgeFate(row, place, relays.has(url), wrong);
}

/** Each archived event counts once, and the list each time that it is fetched. */
function judgeTimes(
  { times }: Named,
  stored: number,
  isListed: boolean,
  wrong: (what: string) => void,
): void {
  const isRight = isListed ? times > stored : times === stored;
  if (!isRight)
    wrong(
      `that it was named ${times} times, where ${stored} archived events name it${isListed ? ' and a list' : ''}`,
    );
}

interface Namers {
  readonly ever: readonly { id: string; author: string; at: number }[];
  readonly stored: readonly { at: number }[];
  readonly isListed: boolean;
}

/** The first one may have been heard of, by reports of monitors, without being archived. */
function judgeFirst(
  { firstAt, firstEvent, firstAuthor, lastAt }: Named,
  { ever, stored, isListed }: Namers,
  wrong: (what: string) => void,
): void {
  const first = ever.find(({ id }) => id === firstEvent);
  if (firstEvent === null ? !isListed : !first) wrong(`that ${firstEvent} named it first`);
  if (first && (first.at !== firstAt || first.author !== firstAuthor))
    wrong(
      `that ${firstEvent} is of ${firstAuthor} at ${firstAt}, not of ${first.author} at ${first.at}`,
    );
  const times = stored.map(({ at }) => at);
  if (firstAt > Math.min(...times) || lastAt < Math.max(...times))
    wrong(
      `that it was named from ${firstAt} to ${lastAt} only, not from ${Math.min(...times)} to ${Math.max(...times)}`,
    );
}

function judgeFate(
  { wasTried, reason, hasAnswered }: Named,
  place: Target['place'],
  isRelay: boolean,
  wrong: (what: string) => void,
): void {
  switch (place) {
    case 'known':
      if (wasTried || hasAnswered || !isRelay) wrong('that it was asked, though it was known');
      break;
    case 'hidden':
      if (!isRelay || !hasAnswered) wrong(`that it is no relay: ${reason ?? 'it was not asked'}`);
      break;
    case 'no relay':
      if (hasAnswered || !wasTried || reason === null)
        wrong(hasAnswered ? 'that it answered' : 'that it was not asked');
      break;
    default:
      if (wasTried) wrong('that it was asked, where nothing leads there');
  }
}

async function standingOf(ask: Servers['query']): Promise<Standing> {
  const named = await ask<Named>(
    `select url, times::int, first_named_at::float as "firstAt", encode(first_event, 'hex') as "firstEvent",
            encode(first_author, 'hex') as "firstAuthor", last_named_at::float as "lastAt",
            array(select encode(author, 'hex') from unnest(authors) author) as authors,
            last_try_at is not null as "wasTried", reason, answered_at is not null as "hasAnswered"
     from named_relays`,
  );
  const relays = await ask<{ url: string }>('select url from relays');
  const events = await ask<{ id: string }>("select encode(id, 'hex') as id from events");
  const [queue] = await ask<{ n: number }>(`select count(*)::int as n ${UNREAD}`);
  return {
    named: new Map(named.map((row) => [row.url, row])),
    relays: new Set(relays.map(({ url }) => url)),
    archived: new Set(events.map(({ id }) => id)),
    queued: queue?.n ?? 0,
  };
}
