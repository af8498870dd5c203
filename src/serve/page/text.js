/** Values as texts: numbers, bytes, times, and texts of strangers. */
import { h } from './dom.js';

const WHOLE = new Intl.NumberFormat('en');
const SHORT = new Intl.NumberFormat('en', { notation: 'compact', maximumSignificantDigits: 3 });
const UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
const DAY = 86_400;
/** Characters of a stranger's text that are shown in a line. */
const LINE = 160;

/** Characters that change the direction of what follows, or show nothing: shown by their number. Emoji need U+200D. */
const INVISIBLE = /(?![\t\n\u200c\u200d])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;

/** More marks on one character than any writing has. */
const HEAPED = /(\p{M}{6})\p{M}+/gu;

/** @param {number | null | undefined} count */
export function countText(count) {
  return count === null || count === undefined ? '–' : WHOLE.format(count);
}

/** @param {number | null | undefined} count such as 12.3M */
export function shortCount(count) {
  if (count === null || count === undefined) return '–';
  return Math.abs(count) < 10_000 ? WHOLE.format(count) : SHORT.format(count);
}

/** @param {number} bytes in powers of 1000 */
export function bytesText(bytes) {
  let [value, unit] = [bytes, 0];
  while (Math.abs(value) >= 1000 && unit < UNITS.length - 1)
    [value, unit] = [value / 1000, unit + 1];
  return `${value >= 100 || unit === 0 ? Math.round(value) : value.toPrecision(3)} ${UNITS[unit]}`;
}

/**
 * A share as percent. What is not all is never shown as 100 %, and what is not nothing never as 0 %.
 *
 * @param {number | null | undefined} share 0 to 1
 */
export function shareText(share) {
  if (share === null || share === undefined) return '–';
  const percent = share * 100;
  if (percent > 0 && percent < 0.01) return '< 0.01 %';
  if (percent > 99.99 && percent < 100) return '> 99.99 %';
  return `${percent === 0 || percent === 100 ? percent : percent.toFixed(percent < 10 || percent > 99 ? 2 : 1)} %`;
}

/** @param {number | null | undefined} ms */
export function millisecondsText(ms) {
  return ms === null || ms === undefined ? '–' : `${WHOLE.format(ms)} ms`;
}

/** @param {number} seconds Unix seconds; UTC */
export function utcText(seconds) {
  const date = new Date(seconds * 1000);
  if (Number.isNaN(date.getTime())) return `${seconds} s`;
  return date.toISOString().replace('T', ' ').replace('.000Z', '');
}

/** @param {number} seconds a length of time, roughly */
export function spanText(seconds) {
  const length = Math.abs(seconds);
  if (length < 60) return `${Math.round(length)} s`;
  if (length < 3600) return `${Math.round(length / 60)} min`;
  if (length < 2 * DAY) return `${Math.round(length / 3600)} h`;
  if (length < 730 * DAY) return `${Math.round(length / DAY)} days`;
  return `${(length / DAY / 365.25).toFixed(1)} years`;
}

/** @param {number} seconds Unix seconds */
export function agoText(seconds) {
  const age = Date.now() / 1000 - seconds;
  return age >= 0 ? `${spanText(age)} ago` : `in ${spanText(age)}`;
}

/**
 * A time in UTC with how long ago it was.
 *
 * @param {number | null | undefined} seconds Unix seconds
 * @param {{ short?: boolean }} [options] short: only how long ago, with the time as a title
 */
export function time(seconds, { short = false } = {}) {
  if (seconds === null || seconds === undefined) return h('span', { class: 'none' }, 'never');
  const utc = `${utcText(seconds)} UTC`;
  const date = new Date(seconds * 1000);
  const datetime = Number.isNaN(date.getTime()) ? null : date.toISOString();
  const ago = agoText(seconds);
  if (short) return h('time', { datetime, title: utc }, ago);
  return h('time', { datetime }, utc, h('span', { class: 'ago' }, ` ${ago}`));
}

/**
 * A number with what is counted.
 *
 * @param {number} count
 * @param {string} one
 * @param {string} [many] the plural, where it is not made by an s
 */
export function counted(count, one, many = `${one}s`) {
  return `${countText(count)} ${count === 1 ? one : many}`;
}

/**
 * A text of a stranger with its invisible characters shown by their numbers, and marks that are heaped up left out.
 *
 * @param {string} text
 */
export function visible(text) {
  return text
    .replace(HEAPED, '$1⟨…⟩')
    .replace(
      INVISIBLE,
      (character) => `⟨${(character.codePointAt(0) ?? 0).toString(16).padStart(4, '0')}⟩`,
    );
}

/**
 * A text of a stranger in one line, cut where it is long, and apart from what is around it in its direction.
 *
 * @param {string | null | undefined} text
 * @param {number} [length] characters
 */
export function line(text, length = LINE) {
  if (text === null || text === undefined || text === '') return h('span', { class: 'none' }, '–');
  const cut = text.length > length ? `${text.slice(0, length)}…` : text;
  return h('bdi', { class: 'foreign' }, visible(cut).replace(/\s+/g, ' '));
}

/** @param {string} hex an id or a key, shortened */
export function shortHex(hex) {
  return `${hex.slice(0, 8)}…${hex.slice(-4)}`;
}
