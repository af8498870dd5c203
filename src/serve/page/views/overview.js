/** The first screen: is it working, what is it doing, how much is there, how complete, what fails, what is not proven. */
import { ask, askPages } from '../api.js';
import { append, h, pathOf } from '../dom.js';
import { kindText } from '../kinds.js';
import { badge, bar, empty, facts, panel, problem, table, tile } from '../parts.js';
import { countText, line, shareText, shortCount, spanText, time } from '../text.js';
import { daysByKind } from './days-by-kind.js';
import { numberOf, rowsOf, textOf, unitText } from './status-rows.js';

/** @typedef {import('../types.d.ts').Status} Status */
/** @typedef {import('../types.d.ts').StatusRow} StatusRow */
/** @typedef {import('../types.d.ts').Coverage} Coverage */
/** @typedef {import('../types.d.ts').Totals} Totals */

export const title = 'Overview';
const REFRESH_MS = 30_000;
const DAYS_SHOWN = 30;

/** @param {HTMLElement} main */
export async function show(main) {
  const verdict = h('div', null);
  const figures = h('div', null);
  const details = h('div', { class: 'details' });
  append(main, [
    h('h1', { class: 'hidden' }, 'How the archive stands'),
    verdict,
    figures,
    panel('Events a day by kind', () => daysByKind(DAYS_SHOWN), {
      note: h('a', { href: '/figures' }, 'All figures'),
    }),
    panel('How complete it is', completeness, { class: 'half' }),
    panel('Kinds', kinds, { class: 'half', note: h('a', { href: '/figures#kinds' }, 'All kinds') }),
  ]);
  const place = details;
  append(main, place);
  await refresh();
  setInterval(() => {
    if (!document.hidden) void refresh();
  }, REFRESH_MS);

  async function refresh() {
    try {
      const [status, totals, coverage] = await Promise.all([
        /** @type {Promise<import('../types.d.ts').Answer<Status>>} */ (ask('/v1/status')),
        /** @type {Promise<import('../types.d.ts').Answer<Totals>>} */ (ask('/v1/stats/events')),
        /** @type {Promise<import('../types.d.ts').Answer<Coverage>>} */ (ask('/v1/coverage')),
      ]);
      verdict.replaceChildren(verdictOf(status.data, status.meta.as_of));
      figures.replaceChildren(tiles(status.data.rows, totals.data, coverage.data));
      showSections(details, status.data.rows);
    } catch (error) {
      verdict.replaceChildren(problem(error, () => void refresh()));
    }
  }
}

/**
 * @param {Status} status
 * @param {number} asOf
 */
function verdictOf({ works, problems, rows }, asOf) {
  const disk = textOf(rows, 'disk', 'warning');
  const failed = rowsOf(rows, 'backups').filter(({ value }) => value.startsWith('failed'));
  const warnings = [
    ...(disk ? [disk] : []),
    ...failed.map(({ name, value }) => `${name}: ${value}`),
  ];
  const kind = works ? (warnings.length > 0 ? 'warn' : 'good') : 'bad';
  const words = works
    ? 'It works'
    : `${problems.length === 1 ? 'One problem' : `${problems.length} problems`}`;
  return h('section', { class: `verdict ${kind}`, 'aria-label': 'Verdict' }, [
    h('strong', null, badge(kind, words)),
    h('p', null, 'Tor ', line(textOf(rows, 'verdict', 'Tor') ?? 'not known')),
    h('p', null, 'as of ', time(asOf)),
    problems.length + warnings.length > 0 &&
      h(
        'ul',
        null,
        [...problems, ...warnings].map((text) => h('li', null, line(text, 500))),
      ),
  ]);
}

/**
 * @param {readonly StatusRow[]} rows
 * @param {Totals} totals
 * @param {Coverage} coverage
 */
function tiles(rows, totals, coverage) {
  const events = numberOf(rows, 'archive', 'events') ?? totals.event_count;
  const rate = numberOf(rows, 'archive', 'new events a day at this rate');
  const free = rowsOf(rows, 'disk').find(({ name }) => name === 'free on its disk');
  const days = textOf(rows, 'disk', 'days left at this rate');
  const up = coverage.networks.reduce((sum, network) => sum + network.up, 0);
  return h('dl', { class: 'tiles' }, [
    tile('Events', shortCount(events), `${countText(events)} archived`),
    tile('Authors', shortCount(totals.unique_pubkeys), `${countText(totals.unique_kinds)} kinds`),
    tile('New events a day', shortCount(rate), 'at the rate of the last hour'),
    tile('Relays up', countText(up), `of ${countText(coverage.known)} known`),
    tile(
      'Proven complete',
      shareText(coverage.share),
      `${countText(coverage.complete)} of ${countText(coverage.relays)} visited relays in full`,
    ),
    free &&
      days &&
      tile(
        'Disk',
        /^\d+$/.test(days) ? `${countText(Number(days))} days` : '–',
        h('span', null, rowValue(free), ' free'),
      ),
  ]);
}

async function completeness() {
  /** @type {import('../types.d.ts').Answer<Coverage>} */
  const { data } = await ask('/v1/coverage');
  if (data.known === 0)
    return empty('No relay is known yet: the monitor adds the seed relays first.');
  return table(
    'Completeness by network',
    [
      {
        label: 'Network',
        cell: ({ network }) => h('a', { href: pathOf('/relays', { network }) }, network),
      },
      { label: 'Relays', number: true, cell: ({ relays }) => countText(relays) },
      { label: 'Up', number: true, cell: ({ up }) => countText(up) },
      { label: 'Visited', number: true, cell: ({ visited }) => countText(visited) },
      { label: 'Complete', number: true, cell: ({ complete }) => countText(complete) },
      { label: 'Proven, mean', cell: ({ share }) => bar(share, shareText(share)) },
    ],
    data.networks,
  );
}

async function kinds() {
  /** @type {{ rows: { kind: number, event_count: number, unique_pubkeys: number }[] }} */
  const { rows } = await askPages('/v1/stats/kinds?limit=1000', 5);
  if (rows.length === 0)
    return empty('Nothing is counted yet: the refresher counts what is stored.');
  const all = rows.reduce((sum, row) => sum + row.event_count, 0);
  const top = rows.sort((a, b) => b.event_count - a.event_count).slice(0, 8);
  return table(
    'Kinds with most events',
    [
      {
        label: 'Kind',
        cell: ({ kind }) => h('a', { href: pathOf('/events', { kinds: kind }) }, kindText(kind)),
      },
      { label: 'Events', number: true, cell: ({ event_count: count }) => countText(count) },
      { label: 'Authors', number: true, cell: ({ unique_pubkeys: count }) => countText(count) },
      {
        label: 'Share',
        cell: ({ event_count: count }) => bar(count / all, shareText(count / all)),
      },
    ],
    top,
  );
}

const SECTIONS = /** @type {const} */ ([
  ['services', 'What the services do', 'half'],
  ['coverage', 'Completeness and what is left', 'half'],
  ['failing', 'Relays that fail for longest', 'half'],
  ['not proven', 'What is not proven', 'half'],
  ['backups', 'Backup and verification', 'third'],
  ['archive', 'Archive', 'third'],
  ['disk', 'Disk', 'third'],
  ['working', 'Working now', 'third'],
  ['waiting', 'Waiting', 'third'],
  ['relays', 'Relays by state', 'third'],
  ['version', 'Version', 'third'],
]);

/**
 * Everything that `npm run status` prints, a panel for each section.
 *
 * @param {HTMLElement} place
 * @param {readonly StatusRow[]} rows
 */
function showSections(place, rows) {
  const panels = SECTIONS.flatMap(([section, name, width]) => {
    const own = rowsOf(rows, section);
    if (own.length === 0) return [];
    const isRelays = section === 'failing';
    return h('section', { class: `panel ${width}`, 'aria-label': name }, [
      h('header', null, h('h2', null, name)),
      h(
        'div',
        { class: 'body' },
        facts(
          own.map((row) => [
            isRelays
              ? h('a', { href: pathOf('/relay', { url: row.name }) }, line(row.name))
              : line(row.name),
            rowValue(row),
          ]),
        ),
      ),
    ]);
  });
  place.replaceChildren(...panels);
}

/** @param {StatusRow} row */
function rowValue({ value, unit, age }) {
  const seconds = unit === 'time' ? Date.parse(value) / 1000 : Number.NaN;
  if (!Number.isNaN(seconds)) return time(seconds);
  const isOld = typeof age === 'number' && age > 3600;
  return h('span', null, [
    unit === 'text' ? line(value, 400) : unitText(value, unit),
    isOld && h('span', { class: 'ago' }, ` as of ${spanText(age)} ago`),
  ]);
}
