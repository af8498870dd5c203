/** An author: profile and relay list as text, figures, and the latest events. */
import { ask, askList } from '../api.js';
import { append, h, pathOf } from '../dom.js';
import { empty, facts, panel, table } from '../parts.js';
import { countText, line, time } from '../text.js';
import { eventTable } from './event-table.js';

/** @typedef {import('../types.d.ts').Author} Author */
/** @typedef {import('../types.d.ts').Event} Event */

export const title = 'Author';
const FIELDS = ['name', 'display_name', 'about', 'nip05', 'lud16', 'website', 'picture'];
const EVENTS = 20;

/**
 * @param {HTMLElement} main
 * @param {URL} url
 */
export function show(main, url) {
  const key = url.searchParams.get('pubkey') ?? '';
  if (key === '')
    return append(
      main,
      empty('No author is named. ', h('a', { href: '/figures#authors' }, 'Authors')),
    );
  const path = `/v1/authors/${encodeURIComponent(key)}`;
  const author = /** @type {Promise<import('../types.d.ts').Answer<Author>>} */ (ask(path));
  document.title = `Author ${key.slice(0, 12)} · Bigbrotr`;
  append(main, [
    h('div', { class: 'head' }, h('h1', null, 'Author'), h('p', { class: 'mono' }, line(key, 100))),
    panel('Profile, as text', async () => profile((await author).data.profile), { class: 'third' }),
    panel('Figures', async () => figures((await author).data), { class: 'third' }),
    panel('Relays that it names (NIP-65)', async () => relayList((await author).data.relay_list), {
      class: 'third',
    }),
    panel('Latest events', () => latest(key), {
      note: h('a', { href: pathOf('/events', { authors: key }) }, 'All of them'),
    }),
  ]);
}

/** @param {Event | null} event */
function profile(event) {
  const fields = objectOf(event?.content ?? '');
  const rows = FIELDS.flatMap((name) =>
    typeof fields[name] === 'string'
      ? [/** @type {const} */ ([name, line(fields[name], 600)])]
      : [],
  );
  if (!event || rows.length === 0) return empty('No profile is archived that can be read.');
  return [
    facts([...rows, ['Since', time(event.created_at)]]),
    h('p', { class: 'note' }, h('a', { href: pathOf('/event', { id: event.id }) }, 'The event')),
  ];
}

/**
 * @param {string} text
 * @returns {Record<string, unknown>}
 */
function objectOf(text) {
  try {
    const value = JSON.parse(text);
    return value !== null && typeof value === 'object' ? value : {};
  } catch {
    return {};
  }
}

/** @param {Author} author */
function figures({
  pubkey,
  figures: { events, kinds, first_event_at: first, last_event_at: last, follows, followers },
}) {
  const path = `/v1/authors/${pubkey}`;
  return facts([
    ['Key', h('span', { class: 'mono' }, pubkey)],
    ['Events', h('a', { href: pathOf('/events', { authors: pubkey }) }, countText(events))],
    ['Kinds', countText(kinds)],
    ['First event', time(first)],
    ['Latest event', time(last)],
    ['Follows', h('a', { href: `${path}/follows?format=csv` }, countText(follows), ' (CSV)')],
    ['Followers', h('a', { href: `${path}/followers?format=csv` }, countText(followers), ' (CSV)')],
  ]);
}

/** @param {Event | null} event */
function relayList(event) {
  const tags = event?.tags.filter(([name, url]) => name === 'r' && url) ?? [];
  if (tags.length === 0) return empty('No relay list is archived.');
  return table(
    'Relays that it names',
    [
      {
        label: 'Relay',
        class: 'url',
        cell: ([, url = '']) =>
          /^wss?:\/\//i.test(url)
            ? h('a', { href: pathOf('/relay', { url }) }, line(url, 90))
            : line(url, 90),
      },
      { label: 'For', cell: ([, , marker]) => (marker ? line(marker, 20) : 'reading and writing') },
    ],
    tags.slice(0, 50),
  );
}

/** @param {string} key */
async function latest(key) {
  /** @type {import('../types.d.ts').ListAnswer<Event>} */
  const { data } = await askList(pathOf('/v1/events', { authors: key, limit: EVENTS }));
  return data.length === 0
    ? empty('No event of this author is archived.')
    : eventTable('Latest events', data);
}
