/** Events that match a NIP-01 filter, which the address of the page has. */
import { askList } from '../api.js';
import { append, h, pathOf } from '../dom.js';
import { empty, pager, panel } from '../parts.js';
import { eventTable } from './event-table.js';

export const title = 'Events';
const ROWS = 50;
const LISTS = ['ids', 'authors', 'kinds'];
const TIMES = ['since', 'until'];
const TAGS = ['e', 'p', 't', 'a', 'd', 'r'];

/**
 * @param {HTMLElement} main
 * @param {URL} url
 */
export function show(main, url) {
  append(main, [
    h(
      'div',
      { class: 'head' },
      h('h1', null, 'Events'),
      h(
        'p',
        null,
        'By a NIP-01 filter, newest first. Everything that an event says is shown as text.',
      ),
    ),
    panel('Filter', async () => filterForm(url.searchParams)),
    panel('Events found', () => list(url)),
  ]);
}

/** @param {URL} url */
async function list(url) {
  const asked = url.searchParams;
  const path = questionOf(asked);
  /** @type {import('../types.d.ts').ListAnswer<import('../types.d.ts').Event>} */
  const { data, next_cursor: next, meta } = await askList(path);
  const partial = meta.partial && h('p', { class: 'note' }, meta.partial);
  if (data.length === 0) return [empty('No archived event matches.'), partial];
  const plain = new URL(path, url);
  plain.searchParams.delete('cursor');
  return [
    eventTable('Events found', data),
    partial,
    pager(url, next, data.length),
    h(
      'p',
      { class: 'note' },
      h('a', { href: `${plain.pathname}${plain.search}` }, 'This question to the API'),
    ),
  ];
}

/** The question to the API. @param {URLSearchParams} asked */
function questionOf(asked) {
  const parameters = new URLSearchParams();
  for (const name of LISTS) {
    const value = asked
      .get(name)
      ?.trim()
      .replace(/[\s,]+/g, ',');
    if (value) parameters.set(name, value);
  }
  for (const name of TIMES) {
    const second = secondOf(asked.get(name));
    if (second !== null) parameters.set(name, String(second));
  }
  for (const [name, value] of asked)
    if (/^tag\.[A-Za-z]$/.test(name) && value) parameters.append(name, value);
  const cursor = asked.get('cursor');
  if (cursor) parameters.set('cursor', cursor);
  parameters.set('limit', String(ROWS));
  return `/v1/events?${parameters}`;
}

/** A time in UTC, or Unix seconds. @param {string | null} text */
function secondOf(text) {
  if (!text) return null;
  if (/^\d{1,12}$/.test(text)) return text;
  const ms = Date.parse(`${text.trim().replace(' ', 'T')}${text.includes(':') ? 'Z' : 'T00:00Z'}`);
  return Number.isNaN(ms) ? text : Math.floor(ms / 1000);
}

/** @param {URLSearchParams} asked */
function filterForm(asked) {
  const field = (
    /** @type {string} */ name,
    /** @type {string} */ label,
    /** @type {Record<string, unknown>} */ more = {},
  ) =>
    h(
      'label',
      { class: more.class },
      label,
      h('input', {
        autocomplete: 'off',
        spellcheck: 'false',
        name,
        value: asked.get(name),
        ...more,
        class: null,
      }),
    );
  const hasTags = TAGS.some((letter) => asked.get(`tag.${letter}`));
  return h('form', { class: 'filter', action: '/events', onsubmit: leaveOutEmpty }, [
    field('authors', 'Authors: hex, npub', { class: 'wide' }),
    field('kinds', 'Kinds', { placeholder: '1, 30023' }),
    field('since', 'Since, UTC', { placeholder: '2024-01-31 12:00' }),
    field('until', 'Until, UTC', { placeholder: '2024-12-31' }),
    field('ids', 'Ids: hex, note, nevent', { class: 'wide' }),
    h(
      'details',
      { open: hasTags, class: 'wide' },
      h('summary', null, 'Tags'),
      h(
        'div',
        { class: 'filter' },
        TAGS.map((letter) => field(`tag.${letter}`, `Tag ${letter}`)),
      ),
    ),
    h(
      'div',
      { class: 'buttons' },
      h('button', { type: 'submit' }, 'Search'),
      asked.size > 0 && h('a', { href: '/events' }, 'Clear'),
      h('a', { href: pathOf('/events', { kinds: 1 }) }, 'Notes'),
      h('a', { href: pathOf('/events', { kinds: 30023 }) }, 'Articles'),
    ),
  ]);
}

/** Fields without a value do not become a part of the address. @param {SubmitEvent} event */
function leaveOutEmpty(event) {
  if (!(event.target instanceof HTMLFormElement)) return;
  for (const field of event.target.elements)
    if (field instanceof HTMLInputElement && field.value === '') field.disabled = true;
}
