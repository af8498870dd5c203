/** All relays: filtered and sorted by links and a form, so that each view has its own address. */
import { askList } from '../api.js';
import { append, h, pathOf } from '../dom.js';
import { badge, empty, pager, panel, table } from '../parts.js';
import { partsStrip } from '../strips.js';
import { line, millisecondsText, shareText, time } from '../text.js';

/** @typedef {import('../types.d.ts').ListedRelay} Relay */

export const title = 'Relays';
const ROWS = 100;
const PARTS = 80;
const FILTERS = [
  'search',
  'state',
  'network',
  'country',
  'software',
  'nip',
  'readable',
  'sort',
  'desc',
];
const BADGES = /** @type {const} */ ({ up: 'good', down: 'bad', unknown: 'unknown' });

/**
 * @param {HTMLElement} main
 * @param {URL} url
 */
export function show(main, url) {
  append(main, [
    h(
      'div',
      { class: 'head' },
      h('h1', null, 'Relays'),
      h(
        'p',
        null,
        'Their state, how fast they answer, and how much of each is proven to be archived.',
      ),
    ),
    panel('Filter', async () => filterForm(url.searchParams)),
    panel('Relays found', () => list(url)),
  ]);
}

/** @param {URL} url */
async function list(url) {
  const asked = url.searchParams;
  const given = Object.fromEntries(FILTERS.map((name) => [name, asked.get(name)]));
  const path = pathOf('/v1/relays', {
    ...given,
    cursor: asked.get('cursor'),
    limit: ROWS,
    strip: PARTS,
  });
  /** @type {import('../types.d.ts').ListAnswer<Relay>} */
  const { data, next_cursor: next } = await askList(path);
  if (data.length === 0)
    return empty('No relay is like that. ', h('a', { href: '/relays' }, 'All relays'));
  return [table('Relays', columns(asked), data), pager(url, next, data.length)];
}

/**
 * @param {URLSearchParams} asked
 * @returns {import('../parts.js').Column<Relay>[]}
 */
function columns(asked) {
  const sortable = (/** @type {string} */ name, /** @type {string} */ label) =>
    sortLink(asked, name, label);
  return [
    { ...sortable('url', 'Relay'), class: 'url', cell: relayCell },
    { label: 'State', cell: ({ state }) => badge(BADGES[state], state) },
    {
      ...sortable('rtt_open', 'Opens in'),
      number: true,
      cell: (relay) => millisecondsText(relay.rtt_open),
    },
    {
      ...sortable('rtt_read', 'Answers in'),
      number: true,
      cell: (relay) => millisecondsText(relay.rtt_read),
    },
    { ...sortable('share', 'Proven, over time'), cell: provenCell },
    { ...sortable('visited_at', 'Visited'), class: 'tight', cell: visitCell },
    {
      ...sortable('checked_at', 'Checked'),
      class: 'tight',
      cell: (relay) => time(relay.checked_at, { short: true }),
    },
    { label: 'Software', class: 'medium', cell: (relay) => line(softwareOf(relay), 40) },
    { label: 'Country', cell: ({ country }) => line(country, 2) },
  ];
}

/** @param {Relay} relay */
function relayCell({ url, network, priority }) {
  return [
    h('a', { href: pathOf('/relay', { url }) }, line(url, 90)),
    network !== 'clearnet' && h('span', { class: 'tag' }, network),
    priority && h('span', { class: 'tag' }, 'priority'),
  ];
}

/** @param {Relay} relay */
function provenCell({ share, strip }) {
  if (share === null) return h('span', { class: 'none' }, 'never visited');
  return h('span', { class: 'proven' }, shareText(share), strip && partsStrip(strip));
}

/** @param {Relay} relay */
function visitCell({ visited_at: at, stop_reason: reason, outcome }) {
  if (at === null) return h('span', { class: 'none' }, 'never');
  return [
    time(at, { short: true }),
    outcome !== 'complete' && h('span', { class: 'tag' }, reason ?? outcome ?? ''),
  ];
}

/** @param {Relay} relay */
function softwareOf({ software, version }) {
  const name = software?.replace(/^.*\/|\.git$/g, '');
  return name ? `${name} ${version ?? ''}`.trim() : null;
}

/**
 * A heading that sorts, the other way where the list is sorted by it.
 *
 * @param {URLSearchParams} asked
 * @param {string} name
 * @param {string} label
 */
function sortLink(asked, name, label) {
  const isSorted = (asked.get('sort') ?? 'url') === name;
  const isDescending = isSorted && asked.get('desc') === 'true';
  const parameters = new URLSearchParams(asked);
  parameters.delete('cursor');
  parameters.set('sort', name);
  if (isSorted && !isDescending) parameters.set('desc', 'true');
  else parameters.delete('desc');
  /** @type {'ascending' | 'descending'} */
  const sorted = isDescending ? 'descending' : 'ascending';
  return {
    label: h('a', { href: `?${parameters}` }, label),
    ...(isSorted && { sorted }),
  };
}

/** @param {URLSearchParams} asked */
function filterForm(asked) {
  const choice = (
    /** @type {string} */ name,
    /** @type {string} */ label,
    /** @type {string[]} */ values,
  ) =>
    h(
      'label',
      null,
      label,
      h(
        'select',
        { name },
        ['', ...values].map((value) =>
          h('option', { value, selected: (asked.get(name) ?? '') === value }, value || 'any'),
        ),
      ),
    );
  const text = (
    /** @type {string} */ name,
    /** @type {string} */ label,
    /** @type {object} */ more = {},
  ) =>
    h(
      'label',
      null,
      label,
      h('input', { name, value: asked.get(name), autocomplete: 'off', ...more }),
    );
  return h('form', { class: 'filter', action: '/relays' }, [
    text('search', 'Part of the URL', { type: 'search', maxlength: 255 }),
    choice('state', 'State', ['up', 'down', 'unknown']),
    choice('network', 'Network', ['clearnet', 'tor', 'i2p', 'loki']),
    choice('readable', 'Readable', ['true', 'false']),
    text('software', 'Software', { maxlength: 200 }),
    text('country', 'Country', { maxlength: 2, pattern: '[A-Za-z]{2}', placeholder: 'DE' }),
    text('nip', 'Supports NIP', { inputmode: 'numeric', pattern: '[0-9]{1,4}' }),
    h(
      'div',
      { class: 'buttons' },
      h('button', { type: 'submit' }, 'Filter'),
      asked.size > 0 && h('a', { href: '/relays' }, 'Clear'),
    ),
  ]);
}
