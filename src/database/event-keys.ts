/** SQL: which events belong on a page, and by which index they are found. */

/** Which events are wanted; a list that is absent allows every value. */
export interface EventSelection {
  readonly ids?: readonly string[];
  readonly authors?: readonly string[];
  readonly kinds?: readonly number[];
  /** Both inclusive, Unix seconds. */
  readonly since?: number;
  readonly until?: number;
  /** For each letter one of these values has to be there. */
  readonly tags?: Readonly<Record<string, readonly string[]>>;
  /** One of these has to be there, each a letter, a colon and a value. */
  readonly references?: readonly string[];
}

/** Which index finds the events: that of the ids, of authors, of tags, of kinds, or of time. */
export type AccessPath = 'id' | 'author' | 'tag' | 'kind' | 'time';

/** The place of an event in the order of pages. */
export interface EventPlace {
  readonly createdAt: number;
  /** Hex. */
  readonly id: string;
}

/** Collects the values of a statement. */
export class Values {
  readonly list: unknown[] = [];

  /** @returns the parameter that stands for the value */
  add(value: unknown): string {
    this.list.push(value);
    return `$${this.list.length}`;
  }
}

const bytea = (hex: readonly string[]) => hex.map((text) => Buffer.from(text, 'hex'));

/** SQL: the conditions on an event but those that the access path has taken. */
export function eventConditions(
  values: Values,
  selection: EventSelection,
  path: AccessPath,
  after: EventPlace | null,
): string {
  const { ids, authors, kinds, since, until, tags = {}, references } = selection;
  const all = ['true'];
  if (ids && path !== 'id') all.push(`id = any (${values.add(bytea(ids))}::bytea[])`);
  if (authors && path !== 'author')
    all.push(`pubkey = any (${values.add(bytea(authors))}::bytea[])`);
  if (kinds && path !== 'kind') all.push(`kind = any (${values.add(kinds)}::integer[])`);
  if (since !== undefined) all.push(`created_at >= ${values.add(since)}::bigint`);
  if (until !== undefined) all.push(`created_at <= ${values.add(until)}::bigint`);
  for (const [letter, texts] of Object.entries(tags)) {
    const arrays = texts.map((text) => JSON.stringify([`${letter}:${text}`]));
    all.push(`tagvalues @> any (${values.add(arrays)}::jsonb[])`);
  }
  if (references) {
    const arrays = references.map((text) => JSON.stringify([text]));
    all.push(`tagvalues @> any (${values.add(arrays)}::jsonb[])`);
  }
  if (after) {
    const second = `${values.add(after.createdAt)}::bigint`;
    const id = values.add(Buffer.from(after.id, 'hex'));
    all.push(`created_at <= ${second} and (created_at < ${second} or id > ${id})`);
  }
  return all.join(' and ');
}

/** The condition that events of a selection meet, for statements on `events` other than pages. */
export function selectedWhere(selection: EventSelection): { text: string; values: unknown[] } {
  const values = new Values();
  return { text: eventConditions(values, selection, 'time', null), values: values.list };
}

const NEWEST_FIRST = 'order by created_at desc, id';

/** From this number of authors or kinds on, a second is looked for first below which none of their events is on a page. */
const MANY = 8;

/**
 * SQL: the condition that events are not older than the last of a page may be. Of each of many values the newest few are
 * read; the last of the page that they make is a bound, and of each value only what is newer than that has to be merged.
 */
function notOlder(list: string, condition: string, limit: string, count: number): string {
  return ` and created_at >= coalesce((
      select min(created_at) from (
          select e.created_at from (select distinct unnest(${list}) as value) v
          cross join lateral (
              select created_at from events where ${condition} order by created_at desc limit 2 * ${limit} / ${count} + 1
          ) e
          order by e.created_at desc limit ${limit}
      ) s
      having count(*) >= ${limit}
  ), 0)`;
}

/** Whether the keys are found by one look-up, not by one for each of several authors or kinds. */
export function isOneLookUp({ authors = [], kinds = [] }: EventSelection, path: AccessPath) {
  return !((path === 'author' && authors.length > 1) || (path === 'kind' && kinds.length > 1));
}

/**
 * SQL: the keys of the events of a page, by one index for each value where a path has several.
 *
 * @param days that are on one server, where events are on several: Citus answers several look-ups of an index only there
 */
export function keysOf(
  values: Values,
  selection: EventSelection,
  path: AccessPath,
  after: EventPlace | null,
  limit: string,
  days?: readonly number[],
): string {
  const ofDays = days ? ` and created_day = any (${values.add(days)}::integer[])` : '';
  const where = eventConditions(values, selection, path, after) + ofDays;
  const newest = (condition: string) =>
    `select event_key, created_day, created_at, id from events where ${condition} ${NEWEST_FIRST} limit ${limit}`;
  const each = (column: string, list: readonly unknown[], type: string) => {
    if (list.length === 1)
      return newest(`${column} = ${values.add(list[0])}::${type} and ${where}`);
    const wanted = `${values.add(list)}::${type}[]`;
    const condition = `${column} = v.value and ${where}`;
    const isMerged = list.length >= MANY && !days;
    const bound = isMerged ? notOlder(wanted, condition, limit, list.length) : '';
    return `select e.* from (select distinct unnest(${wanted}) as value) v
         cross join lateral (${newest(condition + bound)}) e ${NEWEST_FIRST} limit ${limit}`;
  };
  const { ids = [], authors = [], kinds = [] } = selection;
  switch (path) {
    case 'id': // events_id_index
      return newest(`id = any (${values.add(bytea(ids))}::bytea[]) and ${where}`);
    case 'author': // events_pubkey_created_at_index
      return each('pubkey', bytea(authors), 'bytea');
    case 'kind': // events_kind_created_at_index
      return each('kind', kinds, 'integer');
    case 'tag': // events_tagvalues_index, or that of time where the planner takes the tag for frequent
    case 'time': // events_created_at_id_index
      return newest(where);
  }
}
