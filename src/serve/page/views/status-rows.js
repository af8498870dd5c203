/** Rows of the status: found by their names, and shown by their units. */
import { bytesText, countText, millisecondsText, shareText, shortCount } from '../text.js';

/** @typedef {import('../types.d.ts').StatusRow} StatusRow */

/**
 * @param {readonly StatusRow[]} rows
 * @param {string} section
 */
export function rowsOf(rows, section) {
  return rows.filter((row) => row.section === section);
}

/**
 * @param {readonly StatusRow[]} rows
 * @param {string} section
 * @param {string} name
 */
export function textOf(rows, section, name) {
  return rows.find((row) => row.section === section && row.name === name)?.value;
}

/**
 * @param {readonly StatusRow[]} rows
 * @param {string} section
 * @param {string} name
 * @returns {number | null}
 */
export function numberOf(rows, section, name) {
  const value = textOf(rows, section, name);
  return value === undefined || Number.isNaN(Number(value)) ? null : Number(value);
}

/**
 * A value by its unit.
 *
 * @param {string} value
 * @param {StatusRow['unit']} unit
 */
export function unitText(value, unit) {
  const amount = Number(value);
  if (Number.isNaN(amount)) return value;
  switch (unit) {
    case 'bytes':
      return bytesText(amount);
    case 'share':
      return shareText(amount);
    case 'milliseconds':
      return millisecondsText(amount);
    case 'estimate':
      return `about ${shortCount(amount)}`;
    case 'count':
      return countText(amount);
    default:
      return value;
  }
}
