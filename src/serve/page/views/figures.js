/** Figures of the whole archive, each with the SQL and the CSV that it can be had by. */
import { append, h, pathOf } from '../dom.js';
import { panel } from '../parts.js';
import { FIGURES } from './figure-list.js';

export const title = 'Figures';
const RANGES = /** @type {const} */ ([
  ['30 days', 30],
  ['90 days', 90],
  ['year', 365],
  ['3 years', 1096],
]);
const DEFAULT_DAYS = 90;

/**
 * @param {HTMLElement} main
 * @param {URL} url
 */
export function show(main, url) {
  const given = Number(url.searchParams.get('days'));
  const days = RANGES.some(([, count]) => count === given) ? given : DEFAULT_DAYS;
  append(main, [
    h('div', { class: 'head' }, [
      h('h1', null, 'Figures'),
      h('p', null, 'Recounted whenever a day changes, so that each equals a full count.'),
      ranges(days),
    ]),
    FIGURES.map(({ id, name, note, sql, csv, width, content }) =>
      panel(name, async () => [await content(days), sources(sql, csv)], {
        ...{ id, note, class: width ?? '' },
      }),
    ),
  ]);
  if (url.hash) document.getElementById(url.hash.slice(1))?.scrollIntoView();
}

/** @param {number} days */
function ranges(days) {
  return h(
    'nav',
    { class: 'choices', 'aria-label': 'Time shown' },
    RANGES.map(([name, count]) =>
      h(
        'a',
        {
          href: pathOf('/figures', { days: count }),
          'aria-current': count === days ? 'true' : null,
        },
        name,
      ),
    ),
  );
}

/**
 * @param {string} sql
 * @param {string} csv
 */
function sources(sql, csv) {
  return h('div', { class: 'sources' }, [
    h('a', { href: csv }, 'CSV'),
    h(
      'details',
      null,
      h('summary', null, 'SQL'),
      h('pre', { class: 'content', tabindex: '0' }, sql),
    ),
  ]);
}
