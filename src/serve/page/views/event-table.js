/** A table of events. */
import { h, pathOf } from '../dom.js';
import { kindText } from '../kinds.js';
import { table } from '../parts.js';
import { line, shortHex, time } from '../text.js';

/** @typedef {import('../types.d.ts').Event} Event */

/**
 * @param {string} caption
 * @param {readonly Event[]} events
 */
export function eventTable(caption, events) {
  return table(
    caption,
    [
      {
        label: 'Event',
        class: 'tight',
        cell: ({ id }) => h('a', { href: pathOf('/event', { id }), class: 'mono' }, shortHex(id)),
      },
      { label: 'Created', class: 'tight', cell: ({ created_at: at }) => time(at, { short: true }) },
      { label: 'Kind', class: 'tight', cell: ({ kind }) => kindText(kind) },
      {
        label: 'Author',
        class: 'tight',
        cell: ({ pubkey }) =>
          h('a', { href: pathOf('/author', { pubkey }), class: 'mono' }, shortHex(pubkey)),
      },
      { label: 'Content, as text', class: 'wide', cell: ({ content }) => line(content, 220) },
    ],
    events,
  );
}
