/** One relay: what is proven of it over time, when it was up, what checks found, what only it holds, and offences. */
import { ask, askList, askPages } from '../api.js';
import { append, h, pathOf } from '../dom.js';
import { badge, empty, facts, panel, table } from '../parts.js';
import { coverageStrip, uptimeStrip } from '../strips.js';
import { countText, line, millisecondsText, shareText, spanText, time } from '../text.js';

/** @typedef {import('../types.d.ts').Relay} Relay */
/** @typedef {import('../types.d.ts').Stretch} Stretch */
/** @typedef {import('../types.d.ts').Check} Check */

export const title = 'Relay';
const BADGES = /** @type {const} */ ({ up: 'good', down: 'bad', unknown: 'unknown' });
const DAY = 86_400;
/** Nothing of Nostr is older. */
const BEGAN = Date.UTC(2020, 10, 7) / 1000;
const SPANS = /** @type {const} */ ([
  ['all', 0],
  ['year', 365 * DAY],
  ['month', 30 * DAY],
  ['day', DAY],
]);
const STRETCHES_SHOWN = 200;

/**
 * @param {HTMLElement} main
 * @param {URL} url
 */
export async function show(main, url) {
  const name = url.searchParams.get('url') ?? '';
  const path = `/v1/relays/${encodeURIComponent(name)}`;
  if (name === '')
    return append(main, empty('No relay is named. ', h('a', { href: '/relays' }, 'All relays')));
  /** @type {import('../types.d.ts').Answer<Relay>} */
  const { data: relay } = await ask(path);
  document.title = `${relay.url} · Bigbrotr`;
  append(main, [
    h('div', { class: 'head' }, [
      h('h1', null, line(relay.url, 255)),
      badge(BADGES[relay.state], relay.state),
      relay.network !== 'clearnet' && h('span', { class: 'tag' }, relay.network),
      relay.priority && h('span', { class: 'tag' }, 'priority'),
    ]),
    panel('What is archived of it', () => coverage(path, url), {
      note: spanChoices(url),
      id: 'coverage',
    }),
    panel('State in the last 90 days', () => uptime(path), { id: 'uptime' }),
    panel('Visits', async () => visitFacts(relay), { class: 'half' }),
    panel('Events', () => figures(path), { class: 'half' }),
    panel('Software and place', async () => placeFacts(relay), { class: 'half' }),
    panel('What it sent that was refused', () => offences(path), { class: 'half', id: 'offences' }),
    panel('Latest checks', () => checks(path), {
      id: 'checks',
      note: h('a', { href: `${path}/checks?format=csv` }, 'All checks as CSV'),
    }),
  ]);
}

/** @param {URL} url */
function spanChoices(url) {
  const chosen = url.searchParams.get('span') ?? 'all';
  return h(
    'nav',
    { class: 'choices', 'aria-label': 'Time shown' },
    SPANS.map(([span]) => {
      const href = `${pathOf('/relay', { url: url.searchParams.get('url'), span })}#coverage`;
      return h('a', { href, 'aria-current': span === chosen ? 'true' : null }, span);
    }),
  );
}

/**
 * @param {string} path
 * @param {URL} url
 */
async function coverage(path, url) {
  /** @type {{ rows: Stretch[], isWhole: boolean }} */
  const { rows, isWhole } = await askPages(`${path}/coverage?limit=1000`, 5);
  if (rows.length === 0) return empty('It was never visited, so nothing of it is proven.');
  const until = Math.floor(Date.now() / 1000);
  const length = SPANS.find(([name]) => name === url.searchParams.get('span'))?.[1];
  const since = length ? until - length : BEGAN;
  const filters = [...new Set(rows.map(({ filter }) => filter))];
  return filters.map((filter) => {
    const own = rows.filter((row) => row.filter === filter);
    const missing = own.filter(
      (row) => row.state !== 'covered' && row.until >= since && row.since <= until,
    );
    return h('div', null, [
      filters.length > 1 && h('h3', null, 'Filter ', h('code', null, line(filter, 300))),
      coverageStrip(own, { since, until }),
      missing.length === 0
        ? empty('Nothing of this time is missing.')
        : stretchTable(missing, until),
      !isWhole &&
        h('p', { class: 'note' }, 'There are more stretches than are shown here: the API has all.'),
    ]);
  });
}

/**
 * Gaps and holes, the latest first.
 *
 * @param {readonly Stretch[]} missing
 * @param {number} now
 */
function stretchTable(missing, now) {
  const rows = [...missing].reverse().slice(0, STRETCHES_SHOWN);
  const open = missing.length <= 8;
  return h('details', { open }, [
    h(
      'summary',
      null,
      `${countText(missing.length)} gaps and holes${missing.length > rows.length ? `, the latest ${rows.length} shown` : ''}`,
    ),
    table(
      'Gaps and holes',
      [
        { label: 'From', class: 'tight', cell: (row) => time(row.since) },
        {
          label: 'To',
          class: 'tight',
          cell: (row) => (row.until > now ? 'still to come' : time(row.until)),
        },
        {
          label: 'Length',
          number: true,
          cell: (row) => spanText(Math.min(row.until, now) - row.since + 1),
        },
        {
          label: 'What',
          cell: (row) => (row.state === 'hole' ? badge('bad', 'hole') : badge('warn', 'gap')),
        },
        { label: 'Reason', cell: (row) => row.reason ?? 'not read yet' },
        { label: 'Events shown', number: true, cell: (row) => countText(row.events) },
      ],
      rows,
    ),
  ]);
}

/** @param {string} path */
async function uptime(path) {
  const [{ rows }, { data }] = await Promise.all([
    /** @type {Promise<{ rows: import('../types.d.ts').StateInterval[] }>} */ (
      askPages(`${path}/uptime?limit=1000`, 3)
    ),
    /** @type {Promise<import('../types.d.ts').Answer<import('../types.d.ts').RelayFigures>>} */ (
      ask(`${path}/figures`)
    ),
  ]);
  if (rows.length === 0) return empty('It was never checked.');
  const known = data.known_90_days ?? 0;
  return [
    uptimeStrip(rows, Math.floor(Date.now() / 1000)),
    facts([
      [
        'Up, of the known time',
        `${shareText(data.up_1_day)} of the last day, ${shareText(data.up_7_days)} of 7 days, ${shareText(data.up_30_days)} of 30 days, ${shareText(data.up_90_days)} of 90 days`,
      ],
      ['Known', `${shareText(known)} of 90 days`],
      ['Went down', `${countText(data.flaps)} times in 90 days`],
    ]),
  ];
}

/** @param {Relay} relay */
function visitFacts({
  visited_at: at,
  outcome,
  stop_reason: reason,
  failing_since: failing,
  share,
  caught_up: caughtUp,
  policy,
  added_at: added,
}) {
  return facts([
    ['Latest visit', time(at)],
    ['Outcome', outcome === null ? 'none' : `${outcome}${reason ? `: ${reason}` : ''}`],
    failing !== null && ['Fails since', time(failing)],
    ['Proven', shareText(share)],
    ['Read to its end', caughtUp ? 'yes, but for holes' : 'no'],
    policy?.paused_until
      ? [
          'Paused until',
          h(
            'span',
            null,
            time(policy.paused_until),
            policy.reason ? [' ', line(policy.reason)] : null,
          ),
        ]
      : null,
    policy ? ['Asked every', millisecondsText(policy.pace_ms)] : null,
    policy?.page_limit ? ['Events a page', countText(policy.page_limit)] : null,
    policy?.nip77_reason ? ['NIP-77 not tried', line(policy.nip77_reason)] : null,
    ['Added', time(added)],
  ]);
}

/** @param {string} path */
async function figures(path) {
  /** @type {import('../types.d.ts').Answer<import('../types.d.ts').RelayFigures>} */
  const { data } = await ask(`${path}/figures`);
  return facts([
    ['Seen here', `${data.events_exact ? '' : 'about '}${countText(data.events)}`],
    [
      'Only here',
      data.only_here === null
        ? 'not counted yet'
        : `${countText(data.only_here)} events that no other relay has`,
    ],
    ['Oldest', time(data.oldest_event_at)],
    ['Newest', time(data.newest_event_at)],
    ['Withheld', `${countText(data.withheld)} listed and not served`],
    ['Quarantined', countText(data.quarantined)],
  ]);
}

/** @param {Relay} relay */
function placeFacts({
  software,
  version,
  supported_nips: nips,
  country,
  city,
  asn,
  organisation,
  tls_valid: valid,
  tls_not_after: end,
  rtt_open: open,
  rtt_read: read,
  rtt_write: write,
}) {
  const certificate =
    valid === null
      ? h('span', { class: 'none' }, 'not checked')
      : [
          valid ? badge('good', 'valid') : badge('bad', 'not valid'),
          end !== null && [' until ', time(end)],
        ];
  return facts([
    ['Software, as it claims', [line(software), ' ', line(version, 60)]],
    ['NIPs, as it claims', line(nips?.join(', '), 400)],
    ['Place', [line(city, 60), ' ', line(country, 2)]],
    ['Network', [line(organisation, 80), asn !== null && ` AS${asn}`]],
    ['Certificate', certificate],
    ['Opens, answers, accepts in', [open, read, write].map(millisecondsText).join(', ')],
  ]);
}

/** @param {string} path */
async function offences(path) {
  /** @type {import('../types.d.ts').ListAnswer<import('../types.d.ts').Offence>} */
  const { data } = await askList(`${path}/offences`);
  if (data.length === 0) return empty('Nothing: all that it sent was sound.');
  return table(
    'Offences',
    [
      { label: 'Reason', cell: ({ reason }) => reason },
      { label: 'Times', number: true, cell: ({ count }) => countText(count) },
      { label: 'First', cell: ({ first_at: at }) => time(at, { short: true }) },
      { label: 'Last', cell: ({ last_at: at }) => time(at, { short: true }) },
    ],
    data,
  );
}

/** @param {string} path */
async function checks(path) {
  /** @type {import('../types.d.ts').ListAnswer<Check>} */
  const { data } = await askList(`${path}/checks?limit=200`);
  const latest = [...new Map([...data].reverse().map((check) => [check.name, check])).values()];
  if (latest.length === 0) return empty('It was never checked.');
  return table(
    'Latest checks',
    [
      { label: 'Check', cell: ({ name }) => name },
      {
        label: 'Result',
        cell: ({ success }) => (success ? badge('good', 'passed') : badge('bad', 'failed')),
      },
      { label: 'Took', number: true, cell: ({ duration_ms: ms }) => millisecondsText(ms) },
      { label: 'When', class: 'tight', cell: ({ checked_at: at }) => time(at, { short: true }) },
      { label: 'What it found', class: 'wide', cell: (check) => found(check) },
    ],
    latest.sort((a, b) => (a.name < b.name ? -1 : 1)),
  );
}

/** @param {Check} check */
function found({ reason, data }) {
  if (reason) return line(reason, 300);
  const text = data === null || data === undefined ? '' : JSON.stringify(data);
  if (text.length <= 160) return h('code', null, line(text.replace(/^\{|\}$/g, ''), 160));
  return h(
    'details',
    null,
    h('summary', null, line(text, 90)),
    h('pre', { class: 'content', dir: 'auto', tabindex: '0' }, JSON.stringify(data, null, 2)),
  );
}
