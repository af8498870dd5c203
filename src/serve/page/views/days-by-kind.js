/** Events by UTC day, those of the most frequent kinds apart. */
import { askPages } from '../api.js';
import { pathOf } from '../dom.js';
import { kindText } from '../kinds.js';
import { empty } from '../parts.js';
import { plotOf } from '../plots.js';
import { countText, utcText } from '../text.js';

const KINDS_SHOWN = 6;
const DAY = 86_400;

/** @typedef {{ day: string, event_count: number }} DayRow */
/** @typedef {{ day: string, kind: number, events: number }} KindRow */

/**
 * A plot of the latest days.
 *
 * @param {number} count days
 */
export async function daysByKind(count) {
  const today = Math.floor(Date.now() / 1000 / DAY);
  const dayText = (/** @type {number} */ day) => utcText(day * DAY).slice(0, 10);
  const range = { since: dayText(today - count + 1), until: dayText(today + 1), limit: 1000 };
  /** @type {{ rows: { kind: number, event_count: number }[] }} */
  const { rows: kinds } = await askPages('/v1/stats/kinds?limit=1000', 5);
  const top = kinds
    .sort((a, b) => b.event_count - a.event_count)
    .slice(0, KINDS_SHOWN)
    .map(({ kind }) => kind);
  const [{ rows: days }, { rows: byKind }] = await Promise.all([
    /** @type {Promise<{ rows: DayRow[] }>} */ (askPages(pathOf('/v1/stats/days', range), 2)),
    /** @type {Promise<{ rows: KindRow[] }>} */ (
      top.length === 0
        ? { rows: [] }
        : askPages(pathOf('/v1/stats/day-kinds', { ...range, kinds: top.join(',') }), 5)
    ),
  ]);
  if (days.length === 0) return empty(`Nothing of the last ${count} days is counted yet.`);
  const x = Array.from({ length: count }, (_, place) => (today - count + 1 + place) * DAY);
  const found = new Map(byKind.map(({ day, kind, events }) => [`${day} ${kind}`, events]));
  const totals = new Map(days.map(({ day, event_count: events }) => [day, events]));
  const named = x.map((second) => utcText(second).slice(0, 10));
  const series = top.map((kind) => ({
    name: kindText(kind),
    values: named.map((day) => found.get(`${day} ${kind}`) ?? 0),
  }));
  const others = named.map((day, place) => {
    const shown = series.reduce((sum, { values }) => sum + (values[place] ?? 0), 0);
    return Math.max(0, (totals.get(day) ?? 0) - shown);
  });
  return plotOf({
    label: `Events by day of the last ${count} days, by kind`,
    x,
    series: [...series, { name: 'others', values: others }],
    ...{ stacked: true, bars: true },
    xText: (second) => utcText(second).slice(0, 10),
    yText: countText,
  });
}
