/** One event, as text; the relays that hold it, and what refers to it. */
import { ask, askList, askPages } from '../api.js';
import { append, h, pathOf } from '../dom.js';
import { kindText } from '../kinds.js';
import { empty, facts, panel, table } from '../parts.js';
import { counted, countText, line, time, visible } from '../text.js';
import { eventTable } from './event-table.js';

/** @typedef {import('../types.d.ts').Event} Event */

export const title = 'Event';
const HEX = /^[0-9a-f]{64}$/;
/** Characters of the content that are shown at once: a browser takes long for more. */
const SHOWN = 20_000;
const TAGS_SHOWN = 100;
const REFERENCES = 20;

/**
 * @param {HTMLElement} main
 * @param {URL} url
 */
export async function show(main, url) {
  const id = url.searchParams.get('id') ?? '';
  if (id === '')
    return append(main, empty('No event is named. ', h('a', { href: '/events' }, 'Events')));
  const path = `/v1/events/${encodeURIComponent(id)}`;
  /** @type {import('../types.d.ts').Answer<Event>} */
  const { data: event } = await ask(path);
  document.title = `Event ${event.id.slice(0, 8)} · Bigbrotr`;
  append(main, [
    h(
      'div',
      { class: 'head' },
      h('h1', null, `Kind ${kindText(event.kind)}`),
      h('p', { class: 'mono' }, event.id),
    ),
    panel('Event', async () => eventFacts(event), { class: 'half' }),
    panel('Relays that hold it', () => relays(path), { class: 'half' }),
    panel('Content, as text', async () => content(event.content)),
    panel(`Tags (${countText(event.tags.length)})`, async () => tagTable(event.tags)),
    panel('What refers to it', () => references(path)),
    panel('As signed', async () =>
      h('details', null, h('summary', null, 'JSON'), longText(JSON.stringify(event, null, 2))),
    ),
  ]);
}

/** @param {Event} event */
function eventFacts({ id, pubkey, created_at: at, kind, sig }) {
  const mono = (/** @type {string} */ text) => h('span', { class: 'mono' }, text);
  return facts([
    ['Id', mono(id)],
    ['Author', h('a', { href: pathOf('/author', { pubkey }), class: 'mono' }, pubkey)],
    ['Created, as it says', time(at)],
    ['Kind', h('a', { href: pathOf('/events', { kinds: kind }) }, kindText(kind))],
    ['Signature', mono(sig)],
  ]);
}

/** @param {string} text */
function content(text) {
  return text === '' ? empty('It has no content.') : longText(text);
}

/**
 * A text of any length in parts.
 *
 * @param {string} text
 */
function longText(text) {
  const shown = h(
    'pre',
    { class: 'content', dir: 'auto', tabindex: '0' },
    visible(text.slice(0, SHOWN)),
  );
  let length = SHOWN;
  if (text.length <= SHOWN) return shown;
  const button = h('button', { type: 'button' });
  const label = () =>
    `Show more: ${countText(Math.max(0, text.length - length))} characters are left`;
  button.textContent = label();
  button.addEventListener('click', () => {
    shown.append(document.createTextNode(visible(text.slice(length, length + SHOWN))));
    length += SHOWN;
    button.textContent = label();
    button.hidden = length >= text.length;
  });
  return [shown, button];
}

/** @param {readonly (readonly string[])[]} tags */
function tagTable(tags) {
  if (tags.length === 0) return empty('It has no tags.');
  const rows = tags.slice(0, TAGS_SHOWN);
  return [
    table(
      'Tags',
      [
        { label: 'Name', cell: ([name]) => line(name, 40) },
        { label: 'Value', class: 'wide', cell: (tag) => tagValue(tag) },
        {
          label: 'Further',
          class: 'wide',
          cell: ([, , ...rest]) =>
            rest.length > 0 ? rest.slice(0, 8).map((text) => [line(text, 120), ' ']) : '',
        },
      ],
      rows,
    ),
    tags.length > rows.length &&
      h(
        'p',
        { class: 'note' },
        `${countText(tags.length - rows.length)} more are in the JSON below.`,
      ),
  ];
}

/** Ids and keys lead to their pages here; nothing else leads anywhere. @param {readonly string[]} tag */
function tagValue([name, value = '']) {
  const target = {
    e: '/event?id=',
    E: '/event?id=',
    q: '/event?id=',
    p: '/author?pubkey=',
    P: '/author?pubkey=',
  }[name ?? ''];
  if (target && HEX.test(value)) return h('a', { href: `${target}${value}`, class: 'mono' }, value);
  return line(value, 300);
}

/** @param {string} path */
async function relays(path) {
  /** @type {{ rows: import('../types.d.ts').RelayOfEvent[], isWhole: boolean }} */
  const { rows, isWhole } = await askPages(`${path}/relays?limit=1000`, 2);
  if (rows.length === 0) return empty('No relay is known to hold it any more.');
  return [
    table(
      'Relays that hold it',
      [
        {
          label: 'Relay',
          class: 'url',
          cell: ({ url }) => h('a', { href: pathOf('/relay', { url }) }, line(url, 90)),
        },
        { label: 'First seen there', cell: ({ seen_at: at }) => time(at) },
      ],
      rows,
    ),
    h('p', { class: 'note' }, `${counted(rows.length, 'relay')}${isWhole ? '' : ' and more'}`),
  ];
}

/** @param {string} path */
async function references(path) {
  const place = h('div', null);
  const more = h('button', { type: 'button', hidden: true }, 'Show more');
  let next = `${path}/references?limit=${REFERENCES}`;
  const load = async () => {
    /** @type {import('../types.d.ts').ListAnswer<Event>} */
    const { data, next_cursor: cursor } = await askList(next);
    if (data.length > 0) append(place, eventTable('What refers to it', data));
    else if (place.childNodes.length === 0)
      append(place, empty('No archived event refers to it by e, q or a.'));
    more.hidden = cursor === null;
    next = `${path}/references?limit=${REFERENCES}&cursor=${encodeURIComponent(cursor ?? '')}`;
  };
  more.addEventListener('click', () => void load());
  await load();
  return [place, more];
}
