/** The figures of the archive: what each is called, where it comes from, and how it is shown. */
import { askList, askPages } from '../api.js';
import { h, pathOf } from '../dom.js';
import { kindText } from '../kinds.js';
import { bar, empty, table } from '../parts.js';
import { plotOf } from '../plots.js';
import { countText, line, shareText, shortHex, time, utcText } from '../text.js';
import { daysByKind } from './days-by-kind.js';
import { retentionTable } from './retention.js';

/** @typedef {import('../types.d.ts').Child} Child */

/**
 * @typedef {object} Figure
 * @property {string} id
 * @property {string} name
 * @property {string} [note]
 * @property {string} sql
 * @property {string} csv
 * @property {string} [width] a class: half
 * @property {(days: number) => Promise<Child>} content
 */

const DAY = 86_400;
const ROWS = 20;
const NOTHING = 'Nothing is counted yet: the refresher counts what is stored.';
const dayText = (/** @type {number} */ second) => utcText(second).slice(0, 10);
const secondOf = (/** @type {string} */ day) => Date.parse(day) / 1000;
const sinceDay = (/** @type {number} */ days) => dayText(Date.now() / 1000 - days * DAY);

/**
 * All rows of a figure, in the order of time.
 *
 * @template Row
 * @param {string} path
 * @param {number} pages
 * @returns {Promise<Row[]>}
 */
async function inTime(path, pages) {
  /** @type {{ rows: Row[] }} */
  const { rows } = await askPages(path, pages);
  return rows.reverse();
}

/** @param {number} days */
async function activeUsers(days) {
  /** @type {{ grain: string, start: string, users: number, new_users: number }[]} */
  const all = await inTime(
    pathOf('/v1/stats/active-users', { since: sinceDay(days), limit: 1000 }),
    4,
  );
  const grain = days > 100 ? 'week' : 'day';
  const rows = all.filter((row) => row.grain === grain);
  if (rows.length === 0) return empty(NOTHING);
  return plotOf({
    label: `Active users by ${grain}`,
    x: rows.map(({ start }) => secondOf(start)),
    series: [
      { name: `users of the ${grain}`, values: rows.map(({ users }) => users) },
      { name: 'new ones', values: rows.map((row) => row.new_users) },
    ],
    xText: dayText,
    yText: countText,
  });
}

async function replication() {
  /** @type {import('../types.d.ts').ListAnswer<{ relays: number, events: number, share: number }>} */
  const { data } = await askList('/v1/stats/replication?limit=1000');
  if (data.length === 0) return empty(NOTHING);
  return plotOf({
    label: 'Share of events by the number of relays that hold them',
    x: data.map(({ relays }) => relays),
    series: [{ name: 'of all events', values: data.map(({ share }) => share) }],
    ...{ bars: true, isTime: false, yText: shareText },
    xText: (relays) => `${relays} ${relays === 1 ? 'relay' : 'relays'}`,
  });
}

async function cover() {
  /** @typedef {{ rank: number, relay_url: string, cumulative_share: number | null, new_events: number }} Row */
  /** @type {import('../types.d.ts').ListAnswer<Row>} */
  const { data } = await askList('/v1/stats/relay-cover?limit=1000');
  if (data.length === 0) return empty('Not counted yet: it is every six hours.');
  const plot = plotOf({
    label: 'Share of the archive that the first relays hold together',
    x: data.map(({ rank }) => rank),
    series: [{ name: 'of the archive', values: data.map((row) => row.cumulative_share) }],
    ...{ isTime: false, yText: shareText },
    xText: (rank) => `${rank} ${rank === 1 ? 'relay' : 'relays'}`,
  });
  const first = table(
    'The first relays of the cover',
    [
      { label: 'Relay', class: 'url', cell: (row) => relayLink(row.relay_url) },
      { label: 'Adds', number: true, cell: (row) => countText(row.new_events) },
      { label: 'Together', number: true, cell: (row) => shareText(row.cumulative_share) },
    ],
    data.slice(0, 10),
  );
  return [plot, first];
}

/** @param {number} days */
async function zaps(days) {
  /** @type {{ day: string, zaps: number, senders: number, millisats: string }[]} */
  const rows = await inTime(pathOf('/v1/stats/zaps', { since: sinceDay(days), limit: 1000 }), 2);
  if (rows.length === 0) return empty('No zap receipt of this time is counted.');
  return plotOf({
    label: 'Zaps by day',
    x: rows.map(({ day }) => secondOf(day)),
    series: [{ name: 'zaps', values: rows.map((row) => row.zaps) }],
    bars: true,
    xText: (second) => {
      const row = rows.find(({ day }) => day === dayText(second));
      const sats = row ? countText(Math.floor(Number(row.millisats) / 1000)) : '0';
      return `${dayText(second)}, ${sats} sats`;
    },
    yText: countText,
  });
}

async function kinds() {
  /** @type {{ rows: { kind: number, category: string, event_count: number, unique_pubkeys: number }[] }} */
  const { rows } = await askPages('/v1/stats/kinds?limit=1000', 10);
  if (rows.length === 0) return empty(NOTHING);
  const all = rows.reduce((sum, row) => sum + row.event_count, 0);
  const top = rows.sort((a, b) => b.event_count - a.event_count).slice(0, ROWS);
  return [
    table(
      'Kinds with most events',
      [
        {
          label: 'Kind',
          cell: ({ kind }) => h('a', { href: pathOf('/events', { kinds: kind }) }, kindText(kind)),
        },
        { label: 'Events', number: true, cell: (row) => countText(row.event_count) },
        { label: 'Authors', number: true, cell: (row) => countText(row.unique_pubkeys) },
        {
          label: 'Share',
          cell: (row) => bar(row.event_count / all, shareText(row.event_count / all)),
        },
      ],
      top,
    ),
    h('p', { class: 'note' }, `${countText(rows.length)} kinds in all.`),
  ];
}

async function authors() {
  /** @typedef {{ pubkey: string, event_count: number, unique_kinds: number, last_event_timestamp: number | null }} Row */
  /** @type {import('../types.d.ts').ListAnswer<Row>} */
  const { data } = await askList(`/v1/stats/authors?limit=${ROWS}`);
  if (data.length === 0) return empty(NOTHING);
  return table(
    'Authors with most events',
    [
      {
        label: 'Author',
        class: 'tight',
        cell: ({ pubkey }) =>
          h('a', { href: pathOf('/author', { pubkey }), class: 'mono' }, shortHex(pubkey)),
      },
      { label: 'Events', number: true, cell: (row) => countText(row.event_count) },
      { label: 'Kinds', number: true, cell: (row) => countText(row.unique_kinds) },
      {
        label: 'Latest',
        class: 'tight',
        cell: (row) => time(row.last_event_timestamp, { short: true }),
      },
    ],
    data,
  );
}

async function relayLists() {
  /** @typedef {{ relay_url: string, authors: number, readers: number, writers: number, is_known: boolean }} Row */
  /** @type {import('../types.d.ts').ListAnswer<Row>} */
  const { data } = await askList(`/v1/stats/relay-lists?limit=${ROWS}`);
  if (data.length === 0) return empty('No relay list is counted yet.');
  return table(
    'Relays that authors name',
    [
      {
        label: 'Relay',
        class: 'url',
        cell: (row) => (row.is_known ? relayLink(row.relay_url) : line(row.relay_url, 90)),
      },
      { label: 'Authors', number: true, cell: (row) => countText(row.authors) },
      { label: 'To read', number: true, cell: (row) => countText(row.readers) },
      { label: 'To write', number: true, cell: (row) => countText(row.writers) },
    ],
    data,
  );
}

async function dangling() {
  /** @typedef {{ kind: number, references: number, missing: number }} Row */
  /** @type {import('../types.d.ts').ListAnswer<Row>} */
  const { data } = await askList('/v1/stats/dangling-references?limit=1000');
  if (data.length === 0) return empty('Not counted yet: it is every six hours.');
  return table(
    'References to events that are missing',
    [
      { label: 'Kind that refers', cell: ({ kind }) => kindText(kind) },
      { label: 'References', number: true, cell: (row) => countText(row.references) },
      { label: 'Missing', number: true, cell: ({ missing }) => countText(missing) },
      {
        label: 'Share',
        cell: (row) =>
          bar(
            row.missing / Math.max(row.references, 1),
            shareText(row.missing / Math.max(row.references, 1)),
          ),
      },
    ],
    [...data].sort((a, b) => b.references - a.references).slice(0, ROWS),
  );
}

async function software() {
  /** @typedef {{ software: string, version: string, relay_count: number }} Row */
  /** @type {{ rows: Row[] }} */
  const { rows } = await askPages('/v1/stats/software?limit=1000', 3);
  if (rows.length === 0) return empty('No relay has said yet what it runs.');
  return table(
    'Software of relays',
    [
      { label: 'Software', class: 'wide', cell: (row) => line(row.software, 80) },
      { label: 'Version', cell: ({ version }) => line(version, 40) },
      { label: 'Relays', number: true, cell: (row) => countText(row.relay_count) },
    ],
    rows.sort((a, b) => b.relay_count - a.relay_count).slice(0, ROWS),
  );
}

/** @param {string} url */
function relayLink(url) {
  return h('a', { href: pathOf('/relay', { url }) }, line(url, 90));
}

const csv = (/** @type {string} */ name) => `/v1/stats/${name}?format=csv`;

/** @type {readonly Figure[]} */
export const FIGURES = [
  {
    ...{ id: 'days', name: 'Events a day by kind', csv: csv('day-kinds'), content: daysByKind },
    sql: "select date '1970-01-01' + day as day, kind, events, authors, content_bytes\nfrom daily_kinds order by day desc, kind desc",
  },
  {
    ...{ id: 'users', name: 'Active users', csv: csv('active-users'), content: activeUsers },
    sql: 'select grain, start, users, new_users, with_profile, with_follows, counted_at\nfrom active_users order by start desc, grain desc',
  },
  {
    ...{ id: 'retention', name: 'Retention', csv: csv('retention'), content: retentionTable },
    note: 'by the week of the first event',
    sql: 'select cohort_week, age_weeks, users\nfrom retention order by cohort_week, age_weeks',
  },
  {
    ...{ id: 'replication', name: 'Replication', csv: csv('replication'), content: replication },
    ...{ width: 'half', note: 'on how many relays events were seen' },
    sql: 'select relays, events, share from replication order by relays',
  },
  {
    ...{ id: 'zaps', name: 'Zaps', csv: csv('zaps'), content: zaps, width: 'half' },
    sql: 'select day, zaps, senders, recipients, millisats from zap_stats order by day desc',
  },
  {
    ...{ id: 'cover', name: 'Cover curve', csv: csv('relay-cover'), content: cover, width: 'half' },
    note: 'what the first relays hold together, on a sample',
    sql: 'select rank, relay_url, new_events, cumulative_share, sample_events, sample_share, as_of\nfrom relay_cover order by rank',
  },
  {
    ...{ id: 'missing', name: 'References to missing events', width: 'half' },
    ...{ csv: csv('dangling-references'), content: dangling, note: 'by tag e, on a sample' },
    sql: 'select kind, "references", missing, sample_share, as_of\nfrom dangling_references order by kind',
  },
  {
    ...{ id: 'kinds', name: 'Kinds', csv: csv('kinds'), content: kinds, width: 'half' },
    sql: 'select kind, category, event_count, unique_pubkeys from kind_counts order by kind',
  },
  {
    ...{ id: 'authors', name: 'Authors', csv: csv('authors'), content: authors, width: 'half' },
    sql: 'select pubkey, event_count, unique_kinds, first_event_timestamp, last_event_timestamp\nfrom pubkey_counts order by event_count desc, pubkey desc',
  },
  {
    ...{ id: 'relay-lists', name: 'Relays that authors name', width: 'half' },
    ...{ csv: csv('relay-lists'), content: relayLists, note: 'NIP-65' },
    sql: 'select relay_url, authors, readers, writers, is_known\nfrom relay_distribution order by authors desc, relay_url desc',
  },
  {
    ...{ id: 'software', name: 'Software of relays', csv: csv('software'), content: software },
    ...{ width: 'half', note: 'as they claim' },
    sql: 'select software, version, relay_count\nfrom relay_software_counts order by software, version',
  },
];
