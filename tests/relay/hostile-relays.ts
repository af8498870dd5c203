/** Relays that each have one fault, beside good events, and what a visit to each has to come to. */
import { deflateRawSync } from 'node:zlib';
import type { VisitOutcome } from '../../src/database/bigbrotr.ts';
import type { EventFilter } from '../../src/nostr/filter.ts';
import {
  type Forgery,
  forge,
  forgedEvents,
  signedEvent,
  signedEvents,
} from '../fixtures/events.ts';
import { acceptance, OPCODE, rawFrame, startRawServer } from '../network/raw-server.ts';
import type { Garbage } from './frames.ts';
import { HTML_PAGE } from './http.ts';
import {
  closed,
  endless,
  noEose,
  nth,
  type Quirk,
  type ScriptedRelay,
  type ScriptedRelayOptions,
  startScriptedRelay,
  unanswered,
} from './scripted-relay.ts';

export interface Expected {
  readonly outcome: VisitOutcome;
  /** What the report gives as reason. */
  readonly detail?: RegExp;
  /** Reasons for which something is refused, and no others. */
  readonly invalid?: readonly string[];
  /** How many of the good events reach the archive: all unless told. */
  readonly stored?: 'all' | 'some' | 'none';
  /** A visit that is cut off after so long, in milliseconds; far longer than it takes unless told. */
  readonly visitMs?: number;
}

export interface Hostile {
  readonly name: string;
  readonly expected: Expected;
  /** Every event is wanted unless told. */
  readonly filter?: EventFilter;
  start(): Promise<RunningHostile>;
}

export interface RunningHostile {
  readonly url: string;
  /** How often the fault has happened. */
  happened(): number;
  /** Connections to where it tried to send us. */
  strayed(): number;
  stop(): Promise<void>;
}

const NOW = Math.floor(Date.now() / 1000);
const WINDOW = { from: NOW - 100_000, to: NOW - 1000 };
/** What each of them holds, newest first. */
export const GOOD = signedEvents(60, { ...WINDOW, seed: 1 });
const [NEWEST = signedEvent({ created_at: NOW })] = GOOD;

type Fired = string | ((relay: ScriptedRelay) => number);

/** @param fired the name in `relay.fired` that shows the fault, or how often it has happened. */
function relay(
  name: string,
  expected: Expected,
  fired: Fired,
  options: ScriptedRelayOptions,
  filter: EventFilter = {},
): Hostile {
  const start = async () => {
    const started = await startScriptedRelay({ events: GOOD, ...options });
    return {
      url: started.url,
      happened: () => (typeof fired === 'string' ? (started.fired[fired] ?? 0) : fired(started)),
      strayed: () => 0,
      stop: () => started.stop(),
    };
  };
  return { name, expected, filter, start };
}

const quirk = (name: string, expected: Expected, fired: Fired, value: Quirk) =>
  relay(name, expected, fired, { quirk: value });

const garbage = (piece: Extract<Garbage, string>, expected: Expected) =>
  quirk(`sends garbage first: ${piece}`, expected, 'garbage', { garbage: [piece] });

/** Puts these on top of the first page alone: on top of each they would be a relay that ignores `until`. */
const onTop = (name: string, reason: string, ...events: readonly unknown[]) =>
  relay(`shows ${name}`, { outcome: 'complete', invalid: [reason] }, 'inject', {
    onRequest: nth(1, { inject: events }),
  });

/** Holds forged events among the good ones. */
function among(how: Forgery, reason: string): Hostile {
  const forged = forgedEvents(600, { ...WINDOW, seed: 2, how, authors: 2 });
  const ids = new Set(forged.map(({ id }) => id));
  const shown = ({ events, requests }: ScriptedRelay) =>
    requests.length > 0 ? events.filter(({ id }) => ids.has(id)).length : 0;
  const detail = /^\d+ of \d+ events were refused, forged or malformed$/;
  const expected = { outcome: 'complete', detail, invalid: [reason] } as const;
  return relay(`holds ten times as many forged events: ${how}`, expected, shown, {
    events: [...GOOD, ...forged],
  });
}

/** Answers the handshake by sending us elsewhere. */
function redirecting(status: number): Hostile {
  const start = async () => {
    const elsewhere = await startRawServer(() => {});
    const location = `ws://127.0.0.1:${elsewhere.port}/`;
    const started = await startScriptedRelay({
      events: GOOD,
      upgrade: { status, headers: { location } },
    });
    return {
      url: started.url,
      happened: () => started.fired.upgrade ?? 0,
      strayed: () => elsewhere.total,
      stop: async () => {
        await Promise.all([started.stop(), elsewhere.close()]);
      },
    };
  };
  const expected = failed(new RegExp(`^http_${status}$`), 'none');
  return { name: `redirects the handshake with ${status}`, expected, start };
}

/** 60 KB that inflate to 60 MB, as a compressed frame (RFC 7692: the first reserved bit) that nobody agreed on. */
function deflateBomb(): Hostile {
  const bomb = deflateRawSync(Buffer.alloc(60 << 20, ' '), { level: 9 });
  const start = async () => {
    let sent = 0;
    const server = await startRawServer(async (socket) => {
      socket.write(await acceptance(socket));
      socket.write(rawFrame(bomb, { opcode: 0x40 | OPCODE.text }), () => {
        sent += 1;
      });
    });
    return {
      url: `ws://127.0.0.1:${server.port}`,
      happened: () => sent,
      strayed: () => 0,
      stop: () => server.close(),
    };
  };
  const expected = failed(/^disconnected: Invalid WebSocket frame: RSV1/, 'none');
  return { name: 'sends a deflate bomb', expected, start };
}

function failed(
  detail: RegExp,
  stored: Expected['stored'] = 'all',
  ...invalid: string[]
): Expected {
  return { outcome: 'failed', detail, stored, invalid };
}

const TIMEOUT = /^timeout$/;
const NO_FRAME = /^disconnected: Invalid WebSocket frame/;
const complete = (...invalid: string[]): Expected => ({ outcome: 'complete', invalid });

const newer = { ...NEWEST, created_at: NEWEST.created_at + 1 };
const nested = (depth: number): unknown => {
  let value: unknown = 'x';
  for (let level = 0; level < depth; level += 1) value = [value];
  return value;
};
/** Fresh ones for each page, all inside the window that is asked for. */
const brokenEvents: Quirk['inject'] = ({ filters: [filter] }) =>
  Array.from({ length: 19_000 }, (_, index) => ({
    ...NEWEST,
    id: index.toString(16).padStart(64, '0'),
    created_at: Math.max((filter?.until ?? NOW) - index, filter?.since ?? 0),
  }));

export const HOSTILE: readonly Hostile[] = [
  // Time
  quirk('never sends EOSE', failed(TIMEOUT), 'silence', noEose),
  quirk('never answers', failed(TIMEOUT, 'none'), 'silence', unanswered),
  quirk('drips a frame byte by byte', failed(TIMEOUT, 'none'), 'drip', {
    drip: { bytes: 5000, everyMs: 50 },
  }),
  relay(
    'drips its events',
    { outcome: 'failed', detail: TIMEOUT, stored: 'some', visitMs: 24_000 },
    ({ eventsSent }) => eventsSent,
    { quirk: { betweenMs: 700, end: 'silence' } },
  ),
  relay('is half-open before the upgrade', failed(TIMEOUT, 'none'), 'upgrade', {
    upgrade: 'silent',
  }),
  quirk('is half-open after it', failed(TIMEOUT, 'some'), 'freeze', { after: 10, end: 'freeze' }),
  relay('resets the upgrade', failed(/^reset$/, 'none'), 'upgrade', { upgrade: 'reset' }),
  relay('is a web page', failed(/^http_200$/, 'none'), 'upgrade', {
    upgrade: { status: 200, body: HTML_PAGE },
  }),
  ...[301, 302, 307, 308].map(redirecting),
  quirk('cuts every connection', failed(/^disconnected: /, 'some'), 'disconnect', {
    after: 10,
    end: 'disconnect',
  }),
  quirk('closes every REQ', failed(/^closed: error: no$/, 'none'), 'closed', closed('error: no')),
  relay('wants AUTH again and again', failed(/^auth_required: /, 'none'), 'auth', {
    auth: { loop: true },
  }),
  // Size
  quirk('sends a frame of 9 MB', failed(/^oversized: Max payload size/, 'none'), 'garbage', {
    garbage: [{ hugeBytes: 9 << 20 }],
  }),
  deflateBomb(),
  relay(
    'compresses though nobody asked',
    failed(/^protocol$/, 'none'),
    ({ bytes, connections }) => connections.total - bytes.received,
    { deflate: 'force' },
  ),
  // Where much else goes on, the time of a page is over before so much has been looked at.
  quirk('streams for ever, CLOSE or not', failed(/^overflow: |^timeout$/), 'endless', endless),
  quirk('floods with NOTICE', failed(/^garbled: more than 5000/, 'none'), 'notices', {
    notices: 20_000,
  }),
  quirk(
    'floods with broken events, each another',
    failed(/^forged: too many forged or broken events$/, 'all', 'id_mismatch'),
    'inject',
    { inject: brokenEvents },
  ),
  onTop('a million tags', 'too_many_elements', { ...newer, tags: Array(1_000_000).fill([]) }),
  onTop('150,000 tags', 'too_large', { ...newer, tags: Array(150_000).fill(['t']) }),
  onTop('5 MB of content', 'too_large', { ...newer, content: 'x'.repeat(5 << 20) }),
  // Nonsense
  garbage('not-json', complete('not_json')),
  garbage('cut-json', complete('not_json')),
  garbage('not-an-array', complete('not_a_message')),
  garbage('empty-array', complete('not_a_message')),
  garbage('unknown-verb', complete('not_a_message')),
  garbage('wrong-types', complete('not_a_message')),
  garbage('event-null', complete('not_object')),
  garbage('event-without-fields', complete('id')),
  garbage('proto', complete('id')),
  garbage('deep-json', complete('not_object')),
  garbage('binary', complete('binary_frame')),
  garbage('invalid-utf8', failed(NO_FRAME, 'none')),
  garbage('compressed-unasked', failed(NO_FRAME, 'none')),
  garbage('reserved-opcode', failed(NO_FRAME, 'none')),
  onTop('tags that are nested deeply', 'tags', { ...newer, tags: nested(2000) }),
  // Lies
  quirk(
    'names another subscription for its events',
    failed(/^garbled: /, 'none', 'wrong_subscription'),
    'wrongSubscription',
    { wrongSubscription: 'events' },
  ),
  quirk(
    'names another subscription at the end',
    failed(TIMEOUT, 'all', 'wrong_subscription'),
    'wrongSubscription',
    { wrongSubscription: 'end' },
  ),
  quirk(
    'names another subscription always',
    failed(TIMEOUT, 'none', 'wrong_subscription'),
    'wrongSubscription',
    { wrongSubscription: 'all' },
  ),
  among('signature', 'bad_signature'),
  among('id', 'id_mismatch'),
  among('content', 'id_mismatch'),
  onTop('a good event under a forged signature first', 'bad_signature', forge(NEWEST, 'signature')),
  onTop('a good event with changed content first', 'id_mismatch', forge(NEWEST, 'content')),
  onTop('a good event with a broken tag first', 'tags', { ...NEWEST, tags: [[1]] }),
  ...[1e21, 1.5, -1, 2 ** 39, '1'].map((created_at) =>
    onTop(`created_at ${created_at}`, 'created_at', { ...NEWEST, created_at }),
  ),
  ...[65_536, 1.5, -1, '1'].map((kind) => onTop(`kind ${kind}`, 'kind', { ...NEWEST, kind })),
  relay(
    'shows events that were not asked for',
    { ...complete('filter_mismatch'), stored: 'none' },
    'ignore',
    { quirk: { ignore: ['kinds'] } },
    { kinds: [7] },
  ),
];
