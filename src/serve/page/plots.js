/** Plots over time, with `uplot`: each has a text that follows the pointer or the arrow keys, and the figures behind it. */
import { append, h } from './dom.js';
import { shortCount, utcText } from './text.js';
import { colour, watchTheme } from './theme.js';
import UPlot from './uplot.js';

const HEIGHT = 220;
const COLOURS = 7;
const YEAR = 400 * 86_400;

/**
 * @typedef {object} Series
 * @property {string} name
 * @property {readonly (number | null)[]} values
 */

/**
 * @typedef {object} Plot
 * @property {string} label what is shown, for screen readers
 * @property {readonly number[]} x Unix seconds, or whole numbers
 * @property {readonly Series[]} series
 * @property {boolean} [stacked] series are added up
 * @property {boolean} [bars]
 * @property {boolean} [isTime] whether x is time
 * @property {(x: number) => string} xText
 * @property {(y: number) => string} [yText]
 */

/**
 * Draws a plot, and again when the room for it or the colours change.
 *
 * @param {Plot} plot
 */
export function plotOf(plot) {
  const { label, x, series, xText, yText = shortCount } = plot;
  const box = h('div', { class: 'plot', role: 'img', 'aria-label': label, tabindex: '0' });
  const reading = h('p', { class: 'reading', 'aria-live': 'polite' });
  const say = (/** @type {number | null | undefined} */ place) => {
    const at = place ?? x.length - 1;
    reading.replaceChildren();
    append(reading, [
      h('b', null, xText(x[at] ?? 0)),
      series.map(({ name, values }) => h('span', null, `${name} ${yText(values[at] ?? 0)}`)),
    ]);
  };
  /** @type {UPlot | null} */
  let drawn = null;
  const draw = () => {
    drawn?.destroy();
    box.replaceChildren();
    const width = Math.max(box.clientWidth, 200);
    drawn = new UPlot(optionsOf(plot, width, say), dataOf(plot), box);
  };
  say(null);
  new ResizeObserver(() => {
    if (drawn?.width !== box.clientWidth && box.clientWidth > 0) draw();
  }).observe(box);
  watchTheme(draw);
  box.addEventListener('keydown', (event) => step(event, drawn, x.length));
  return h('div', null, [reading, box, series.length > 1 && keyOf(series)]);
}

/**
 * The arrow keys go from point to point.
 *
 * @param {KeyboardEvent} event
 * @param {UPlot | null} drawn
 * @param {number} points
 */
function step(event, drawn, points) {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!drawn || by === undefined) return;
  event.preventDefault();
  const next = Math.min(points - 1, Math.max(0, (drawn.cursor.idx ?? points - 1) + by));
  drawn.setCursor({ left: drawn.valToPos(Number(drawn.data[0][next]), 'x'), top: 10 });
}

/** @param {Plot} plot */
function dataOf({ x, series, stacked }) {
  /** @type {(number | null)[][]} */
  const columns = [];
  for (const { values } of series) {
    const below = stacked ? columns.at(-1) : undefined;
    columns.push(
      values.map((value, place) => (below ? (value ?? 0) + (below[place] ?? 0) : value)),
    );
  }
  return /** @type {import('uplot').AlignedData} */ (
    /** @type {unknown} */ ([[...x], ...columns.reverse()])
  );
}

/**
 * The last series is drawn first where they are stacked, so that each covers the one above it.
 *
 * @param {Plot} plot
 * @param {number} width
 * @param {(place: number | null | undefined) => void} say
 * @returns {import('uplot').Options}
 */
function optionsOf(
  { x, series, bars, stacked, isTime = true, xText, yText = shortCount },
  width,
  say,
) {
  const isShort = x.length < 3; // a line needs more
  const text = colour('--muted');
  const axis = {
    stroke: text,
    grid: { stroke: colour('--line'), width: 1 },
    ticks: { show: false },
  };
  const shown = series.map(({ name }, place) => {
    const stroke = colour(`--plot-${(place % COLOURS) + 1}`);
    const isFilled = bars || stacked;
    return {
      label: name,
      stroke,
      width: isFilled ? 0 : 1.8,
      ...(isFilled && { fill: stroke }),
      ...(bars && UPlot.paths.bars && { paths: UPlot.paths.bars({ size: [0.82, 60] }) }),
      points: { show: !isFilled && isShort, size: 7, fill: stroke },
    };
  });
  return {
    width,
    height: HEIGHT,
    tzDate: (seconds) => UPlot.tzDate(new Date(seconds * 1000), 'Etc/UTC'),
    legend: { show: false },
    cursor: { y: false, points: { show: !(bars || stacked) } },
    scales: {
      x: {
        time: isTime,
        ...(bars && { range: (_plot, min, max) => [min - padding(isTime), max + padding(isTime)] }),
      },
      y: { range: (_plot, _min, max) => [0, (max || 1) * 1.06] },
    },
    series: [{ label: 'x' }, ...shown.reverse()],
    axes: [
      { ...axis, values: (_plot, splits) => splits.map(isTime ? dateTick(x) : wholeTick(xText)) },
      { ...axis, size: 52, values: (_plot, splits) => splits.map(yText) },
    ],
    hooks: { setCursor: [(plot) => say(plot.cursor.idx)] },
  };
}

/**
 * Gives the text of a tick: the day, or the month where years are shown.
 *
 * @param {readonly number[]} x
 */
function dateTick(x) {
  const isLong = (x.at(-1) ?? 0) - (x[0] ?? 0) > YEAR;
  return (/** @type {number} */ second) => utcText(second).slice(...(isLong ? [0, 7] : [5, 10]));
}

/** @param {(x: number) => string} xText */
function wholeTick(xText) {
  return (/** @type {number} */ x) => (Number.isInteger(x) ? xText(x) : '');
}

/** Room for half a bar at either end. @param {boolean} isTime */
const padding = (isTime) => (isTime ? 43_200 : 0.5);

/** @param {readonly Series[]} series */
function keyOf(series) {
  return h(
    'p',
    { class: 'key' },
    series.map(({ name }, place) => {
      const mark = h('i', null);
      mark.style.background = `var(--plot-${(place % COLOURS) + 1})`;
      return h('span', null, mark, name);
    }),
  );
}
