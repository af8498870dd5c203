/** Strips of time: how much of it is proven, and when a relay was up. Colours never stand alone: a table follows. */
import { h, svg } from './dom.js';
import { shareText, utcText } from './text.js';

/** @typedef {import('./types.d.ts').Stretch} Stretch */
/** @typedef {import('./types.d.ts').StateInterval} StateInterval */

const WIDTH = 1000;
const DAY = 86_400;
const DAYS = 90;

/**
 * A small strip of equal parts of time, each as high as its share is proven.
 *
 * @param {readonly (number | null)[]} shares
 */
export function partsStrip(shares) {
  const bars = shares.map((share, place) =>
    share === null || share === 0
      ? null
      : svg('rect', {
          ...{ class: 'covered', x: place, width: 1.02 },
          ...{ y: 1 - share, height: share },
        }),
  );
  const wanted = shares.filter((share) => share !== null);
  const mean = wanted.reduce((sum, share) => sum + share, 0) / Math.max(wanted.length, 1);
  return svg(
    'svg',
    {
      ...{ class: 'strip small', viewBox: `0 0 ${shares.length} 1`, preserveAspectRatio: 'none' },
      ...{ role: 'img', 'aria-label': `Proven by time: ${shareText(mean)}` },
    },
    ...bars,
  );
}

/**
 * Stretches of `created_at`, from one second to another. What is narrow is widened, so that a hole of a second shows.
 *
 * @param {readonly Stretch[]} stretches
 * @param {{ since: number, until: number }} span Unix seconds
 */
export function coverageStrip(stretches, { since, until }) {
  const scale = WIDTH / Math.max(until - since, 1);
  const order = { covered: 0, gap: 1, hole: 2 };
  const shown = stretches
    .filter((one) => one.until >= since && one.since <= until)
    .sort((a, b) => order[a.state] - order[b.state]);
  const bars = shown.map((one) => {
    const from = Math.max(one.since, since);
    const length = Math.min(one.until, until) - from + 1;
    const least = one.state === 'covered' ? 0.4 : 2.5;
    return svg(
      'rect',
      {
        ...{ class: one.state, y: 0, height: 1 },
        ...{ x: (from - since) * scale, width: Math.max(length * scale, least) },
      },
      svg('title', null, `${one.state} ${utcText(one.since)} to ${utcText(one.until)} UTC`),
    );
  });
  const count = (/** @type {string} */ state) => shown.filter((one) => one.state === state).length;
  const label = `${count('covered')} proven stretches, ${count('gap')} gaps, ${count('hole')} holes from ${utcText(since)} to ${utcText(until)} UTC`;
  return h('figure', { class: 'figure' }, [
    svg(
      'svg',
      {
        ...{ class: 'strip', viewBox: `0 0 ${WIDTH} 1`, preserveAspectRatio: 'none' },
        ...{ role: 'img', 'aria-label': label },
      },
      ...bars,
    ),
    h('div', { class: 'axis' }, [
      h('span', null, utcText(since).slice(0, 16)),
      h('span', null, utcText(until).slice(0, 16)),
    ]),
    keyOf([
      ['covered', 'proven complete'],
      ['gap', 'gap: not read yet'],
      ['hole', 'hole: cannot be proven'],
      ['unknown', 'not wanted'],
    ]),
  ]);
}

/**
 * The last 90 days of a relay: a bar for each UTC day, as high as the part of the known time in which it was up.
 *
 * @param {readonly StateInterval[]} intervals
 * @param {number} now Unix seconds
 */
export function uptimeStrip(intervals, now) {
  const first = Math.floor(now / DAY) - DAYS + 1;
  const days = Array.from({ length: DAYS }, (_, place) => {
    const since = (first + place) * DAY;
    const until = Math.min(since + DAY, now);
    const length = (/** @type {string} */ state) =>
      intervals
        .filter((one) => one.state === state)
        .reduce(
          (sum, { from_at, to_at }) =>
            sum + Math.max(0, Math.min(to_at ?? now, until) - Math.max(from_at, since)),
          0,
        );
    return { since, up: length('up'), down: length('down') };
  });
  const bars = days.flatMap(({ since, up, down }, place) => {
    if (up + down === 0) return [];
    const share = up / (up + down);
    const title = `${utcText(since).slice(0, 10)}: up ${shareText(share)} of the known time`;
    const rect = (
      /** @type {string} */ state,
      /** @type {number} */ y,
      /** @type {number} */ part,
    ) => svg('rect', { class: state, x: place + 0.08, width: 0.84, y, height: part });
    return svg(
      'g',
      null,
      svg('title', null, title),
      rect('down', 0, 1 - share),
      rect('up', 1 - share, share),
    );
  });
  const known = days.filter(({ up, down }) => up + down > 0).length;
  return h('figure', { class: 'figure' }, [
    svg(
      'svg',
      {
        ...{ class: 'strip', viewBox: `0 0 ${DAYS} 1`, preserveAspectRatio: 'none' },
        ...{ role: 'img', 'aria-label': `State by day: ${known} of ${DAYS} days are known` },
      },
      ...bars,
    ),
    h('div', { class: 'axis' }, [h('span', null, `${DAYS} days ago`), h('span', null, 'today')]),
    keyOf([
      ['up', 'up'],
      ['down', 'down'],
      ['unknown', 'not known'],
    ]),
  ]);
}

/** @param {readonly (readonly [kind: string, text: string])[]} entries */
function keyOf(entries) {
  return h(
    'figcaption',
    { class: 'key' },
    entries.map(([kind, text]) => h('span', null, h('i', { class: kind }), text)),
  );
}
