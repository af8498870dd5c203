/** Parts that every page has: panels with their states, tables, tiles, lists of names and values. */
import { ApiError } from './api.js';
import { append, h } from './dom.js';
import { countText } from './text.js';

/** @typedef {import('./types.d.ts').Child} Child */

/**
 * A panel whose content comes later. While it is loading it says so; an error has a button to try again.
 *
 * @param {string} title
 * @param {() => Promise<Child>} load
 * @param {{ id?: string, class?: string, note?: Child }} [options]
 */
export function panel(title, load, { id, class: kind = '', note } = {}) {
  const body = h('div', { class: 'body' });
  const heading = h('h2', null, title);
  const element = h('section', { class: `panel ${kind}`, id, 'aria-label': title }, [
    h('header', null, heading, typeof note === 'string' ? h('p', null, note) : note),
    body,
  ]);
  void show(element, body, load);
  return element;
}

/**
 * @param {HTMLElement} element
 * @param {HTMLElement} body
 * @param {() => Promise<Child>} load
 */
async function show(element, body, load) {
  element.setAttribute('aria-busy', 'true');
  body.replaceChildren(h('p', { class: 'loading' }, 'Loading …'));
  try {
    const content = await load();
    body.replaceChildren();
    append(body, content);
  } catch (error) {
    body.replaceChildren(problem(error, () => void show(element, body, load)));
  }
  element.removeAttribute('aria-busy');
}

/**
 * What went wrong, and a button to try again.
 *
 * @param {unknown} error
 * @param {(() => void) | null} retry
 */
export function problem(error, retry) {
  if (!(error instanceof ApiError)) console.error(error);
  const text =
    error instanceof ApiError ? error.message : 'The page could not show this: a mistake of ours.';
  const isMissing = error instanceof ApiError && error.status === 404;
  return h('div', { class: isMissing ? 'empty' : 'problem', role: isMissing ? null : 'alert' }, [
    h('p', null, text),
    retry && !isMissing && h('button', { type: 'button', onclick: retry }, 'Try again'),
  ]);
}

/** @param {...Child} children what there is nothing of, and what that means */
export function empty(...children) {
  return h('p', { class: 'empty' }, ...children);
}

/**
 * A column of a table.
 *
 * @template Row
 * @typedef {object} Column
 * @property {Child} label
 * @property {(row: Row) => Child} cell
 * @property {boolean} [number] aligned to the right
 * @property {string} [class]
 * @property {'ascending' | 'descending'} [sorted]
 */

/**
 * A table that scrolls sideways where it has no room.
 *
 * @template Row
 * @param {string} caption for screen readers
 * @param {readonly Column<Row>[]} columns the first one names the row
 * @param {readonly Row[]} rows
 */
export function table(caption, columns, rows) {
  const classOf = (/** @type {Column<Row>} */ { number, class: kind = '' }) =>
    `${number ? 'number ' : ''}${kind}`.trim() || null;
  const head = columns.map((column) =>
    h(
      'th',
      { scope: 'col', class: classOf(column), 'aria-sort': column.sorted },
      h('span', null, column.label),
    ),
  );
  const body = rows.map((row) =>
    h(
      'tr',
      null,
      columns.map((column, place) =>
        place === 0
          ? h('th', { scope: 'row', class: classOf(column) }, column.cell(row))
          : h('td', { class: classOf(column) }, column.cell(row)),
      ),
    ),
  );
  return h(
    'div',
    { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': caption },
    h('table', null, [
      h('caption', { class: 'hidden' }, caption),
      h('thead', null, h('tr', null, head)),
      h('tbody', null, body),
    ]),
  );
}

/**
 * Names with values.
 *
 * @param {readonly (readonly [name: Child, value: Child] | null | false)[]} rows
 */
export function facts(rows) {
  const given = rows.filter((row) => row !== null && row !== false);
  return h(
    'dl',
    { class: 'facts' },
    given.map(([name, value]) => h('div', null, h('dt', null, name), h('dd', null, value))),
  );
}

/**
 * A large figure.
 *
 * @param {string} name
 * @param {Child} value
 * @param {Child} [hint]
 */
export function tile(name, value, hint) {
  return h('div', { class: 'tile' }, [
    h('dt', null, name),
    h('dd', null, value),
    h('dd', { class: 'hint' }, hint),
  ]);
}

/**
 * A word with a sign and a colour.
 *
 * @param {'good' | 'bad' | 'warn' | 'unknown'} kind
 * @param {string} word
 */
export function badge(kind, word) {
  return h('span', { class: `badge ${kind}` }, word);
}

/**
 * A bar of a share, with its value as text beside it.
 *
 * @param {number | null} share 0 to 1
 * @param {string} text
 */
export function bar(share, text) {
  return h('span', { class: 'bar' }, [
    h('progress', { max: '1', value: share ?? 0, 'aria-hidden': 'true' }),
    h('span', null, text),
  ]);
}

/**
 * Links to the first and the next page of a list.
 *
 * @param {URL} url of the present page
 * @param {string | null} next the cursor; null: no more
 * @param {number} rows on this page
 */
export function pager(url, next, rows) {
  const at = (/** @type {string | null} */ cursor) => {
    const parameters = new URLSearchParams(url.search);
    parameters.delete('cursor');
    if (cursor) parameters.set('cursor', cursor);
    return `${url.pathname}?${parameters}`;
  };
  return h('nav', { class: 'pager', 'aria-label': 'Pages' }, [
    h('span', null, `${countText(rows)} shown`),
    url.searchParams.has('cursor') && h('a', { href: at(null) }, 'First page'),
    next && h('a', { href: at(next), rel: 'next' }, 'Next page'),
  ]);
}
