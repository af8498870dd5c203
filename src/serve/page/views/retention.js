/** How many authors come back: a row for each week of first events, a column for each week after. */
import { askPages } from '../api.js';
import { h, pathOf } from '../dom.js';
import { empty } from '../parts.js';
import { countText, shareText, utcText } from '../text.js';

/** @typedef {{ cohort_week: string, age_weeks: number, users: number }} Row */

const DAY = 86_400;
const MAX_COHORTS = 26;
const MAX_WEEKS = 13;

/** @param {number} days */
export async function retentionTable(days) {
  const cohorts = Math.min(MAX_COHORTS, Math.max(8, Math.ceil(days / 7)));
  const since = utcText(Date.now() / 1000 - cohorts * 7 * DAY).slice(0, 10);
  /** @type {{ rows: Row[] }} */
  const { rows } = await askPages(pathOf('/v1/stats/retention', { since, limit: 1000 }), 3);
  if (rows.length === 0) return empty('No author of this time is counted yet.');
  const weeks = [...new Set(rows.map((row) => row.cohort_week))].sort().reverse();
  const found = new Map(rows.map((row) => [`${row.cohort_week} ${row.age_weeks}`, row.users]));
  const ages = Array.from({ length: MAX_WEEKS }, (_, age) => age);
  const head = ['Week', 'Authors', ...ages.slice(1).map((age) => `+${age}`)];
  const body = weeks.map((week) => {
    const all = found.get(`${week} 0`) ?? 0;
    const cells = ages.slice(1).map((age) => cellOf(found.get(`${week} ${age}`), all));
    return h('tr', null, h('th', { scope: 'row' }, week), h('td', null, countText(all)), cells);
  });
  const label = 'Share of authors that are active so many weeks after their first event';
  return h(
    'div',
    { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': label },
    h('table', { class: 'heat' }, [
      h('caption', { class: 'hidden' }, label),
      h(
        'thead',
        null,
        h(
          'tr',
          null,
          head.map((name) => h('th', { scope: 'col' }, name)),
        ),
      ),
      h('tbody', null, body),
    ]),
  );
}

/**
 * @param {number | undefined} users
 * @param {number} all
 */
function cellOf(users, all) {
  if (users === undefined || all === 0) return h('td', null, '');
  const share = users / all;
  const heat = share >= 0.5 ? 4 : share >= 0.25 ? 3 : share >= 0.1 ? 2 : share > 0 ? 1 : 0;
  return h('td', { 'data-heat': heat, title: countText(users) }, shareText(share));
}
