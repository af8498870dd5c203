/** What was typed into the search: goes to the page of it, where it is clear what is meant. */
import { ApiError, ask } from '../api.js';
import { append, h, pathOf } from '../dom.js';
import { empty } from '../parts.js';
import { line } from '../text.js';

export const title = 'Search';

/**
 * @param {HTMLElement} main
 * @param {URL} url
 */
export async function show(main, url) {
  const text = (url.searchParams.get('q') ?? '').trim().replace(/^nostr:/i, '');
  const target = await targetOf(text);
  if (target) return location.replace(target);
  append(main, [
    h('h1', null, 'Search'),
    empty(
      'Nothing is found by ',
      line(text || 'nothing', 100),
      '. An event is found by its id (hex, note1…, nevent1…), an author by the key (hex, npub1…, nprofile1…), a relay by a part of its URL. ',
      h('a', { href: '/events' }, 'Events can be filtered'),
      ' by kind, author, tag and time.',
    ),
  ]);
}

/**
 * The page that a text means; null: none.
 *
 * @param {string} text
 * @returns {Promise<string | null>}
 */
async function targetOf(text) {
  if (/^(note|nevent)1/i.test(text)) return pathOf('/event', { id: text.toLowerCase() });
  if (/^(npub|nprofile)1/i.test(text)) return pathOf('/author', { pubkey: text.toLowerCase() });
  if (/^[0-9a-f]{64}$/i.test(text)) {
    const isEvent = await isKnown(`/v1/events/${text.toLowerCase()}`);
    return isEvent
      ? pathOf('/event', { id: text.toLowerCase() })
      : pathOf('/author', { pubkey: text.toLowerCase() });
  }
  if (/^wss?:\/\/[^\s]+$/i.test(text) && (await isKnown(`/v1/relays/${encodeURIComponent(text)}`)))
    return pathOf('/relay', { url: text });
  return /^[^\s]{2,255}$/.test(text)
    ? pathOf('/relays', { search: text.replace(/^wss?:\/\//i, '') })
    : null;
}

/** @param {string} path */
async function isKnown(path) {
  try {
    await ask(path);
    return true;
  } catch (error) {
    if (error instanceof ApiError) return false;
    throw error;
  }
}
