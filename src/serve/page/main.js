/** The page: which view its path has, and what every view has around it. Links are links: each view is a page load. */
import { watchMeta } from './api.js';
import { append, byId, h } from './dom.js';
import { problem } from './parts.js';
import { counted, countText, shareText, utcText } from './text.js';
import { startTheme } from './theme.js';

/** @typedef {{ show: (main: HTMLElement, url: URL) => unknown, title: string }} View */

/** @type {Readonly<Record<string, () => Promise<View>>>} */
const VIEWS = {
  '/': () => import('./views/overview.js'),
  '/relays': () => import('./views/relays.js'),
  '/relay': () => import('./views/relay.js'),
  '/events': () => import('./views/events.js'),
  '/event': () => import('./views/event.js'),
  '/author': () => import('./views/author.js'),
  '/figures': () => import('./views/figures.js'),
  '/search': () => import('./views/search.js'),
};
/** The entry of the navigation that a view belongs to, where it is not its own. */
const PARENTS = { '/relay': '/relays', '/event': '/events', '/author': '/events' };

watchMeta(({ as_of, coverage: { relays, complete, share } }) => {
  byId('meta').replaceChildren();
  append(byId('meta'), [
    h('span', null, `Data as of ${utcText(as_of)} UTC`),
    h('span', null, `rests on ${counted(relays, 'visited relay')}`),
    h('span', null, `${countText(complete)} of them complete`),
    h('span', null, `${shareText(share)} of the wanted time proven`),
  ]);
});

startTheme(byId('theme'));
document.addEventListener('keydown', focusSearch);
markCurrent(location.pathname);
await showView(new URL(location.href));

/** @param {URL} url */
async function showView(url) {
  const main = byId('main');
  main.replaceChildren();
  try {
    const load = VIEWS[url.pathname.replace(/(.)\/$/, '$1')] ?? VIEWS['/'];
    const view = await /** @type {() => Promise<View>} */ (load)();
    document.title = `${view.title} · Bigbrotr`;
    await view.show(main, url);
  } catch (error) {
    append(
      main,
      problem(error, () => location.reload()),
    );
  }
}

/**
 * `/` goes to the search, unless something is being typed.
 *
 * @param {KeyboardEvent} event
 */
function focusSearch(event) {
  const isTyping =
    event.target instanceof Element && event.target.matches('input, select, textarea');
  if (event.key !== '/' || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  byId('search').focus();
}

/** @param {string} path */
function markCurrent(path) {
  const current = /** @type {Record<string, string>} */ (PARENTS)[path] ?? path;
  for (const link of document.querySelectorAll('.top nav a'))
    if (link.getAttribute('href') === current) link.setAttribute('aria-current', 'page');
}
