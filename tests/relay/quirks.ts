import type { NostrEvent } from '../../src/nostr/event.ts';
import { seededRandom } from '../fixtures/random.ts';
import type { Garbage } from './frames.ts';
import type { SeenRequest } from './record.ts';
import type { FilterKey, RelayFilter, Selection } from './store.ts';

/** Whether a refusal comes as CLOSED, with the subscription's id, or as NOTICE, without. */
export type Say = 'closed' | 'notice';

/**
 * How a page ends. `eose` is plain; `nip67` adds what is true, `finish` or `more` says so whether it is or not,
 * `{ eose }` puts anything there. `silence` leaves the REQ unanswered, `freeze` stops the whole connection without
 * closing it, `endless` streams until the socket is gone.
 */
export type End =
  | 'eose'
  | 'nip67'
  | 'finish'
  | 'more'
  | 'silence'
  | 'disconnect'
  | 'freeze'
  | 'endless'
  | { readonly eose: unknown }
  | { readonly closed: string }
  /** Ends the connection with a close frame (RFC 6455 section 5.5.1). */
  | { readonly close: { readonly code: number; readonly reason: string } }
  | { readonly notice: string };

/**
 * How an answer breaks off at an event that the relay cannot send: `silence` leaves that REQ unanswered, `freeze` the
 * whole connection; the others send what comes before it, and then end the connection (`disconnect`), reset it
 * (`reset`), close it as too large (`close-1009`), or send a frame that a client does not take.
 */
export const POISONS = [
  'disconnect',
  'closed',
  'silence',
  'freeze',
  'reset',
  'close-1009',
  'oversized',
  'invalid-utf8',
] as const;

/** What is odd about an answer to a REQ. Any of them can be combined; an empty one is a relay that behaves. */
export interface Quirk {
  // Which events are chosen
  /** At most this many for each filter, without a word. */
  readonly cap?: number;
  /** For filters without `limit`. */
  readonly defaultLimit?: number;
  /** A REQ with a larger `limit` is refused. */
  readonly refuseLimitAbove?: { readonly limit: number; readonly say: Say };
  /** A REQ with a filter of such a shape is refused in these words: by CLOSED unless told. */
  readonly refuseFilter?: {
    readonly when: (filter: RelayFilter) => boolean;
    readonly text: string;
    readonly say?: Say;
  };
  /** A REQ with more filters is refused in these words. */
  readonly refuseFiltersAbove?: {
    readonly most: number;
    readonly text: string;
    readonly say?: Say;
  };
  /** Number of filters of a REQ that are read; the others are silently ignored. */
  readonly readsFilters?: { readonly which: 'first' | 'last'; readonly most: number };
  /** The `limit` of the first filter is taken for the limit of the whole REQ. */
  readonly limitsAll?: boolean;
  /** Parts of the filter that the relay does not know. */
  readonly ignore?: readonly FilterKey[];
  /** Which of too many events are kept: the oldest where the order is oldest-first, else the newest. */
  readonly select?: Selection;

  /** Of the events that match, each REQ is shown this share, drawn anew for each, or those that are named. */
  readonly serves?: number | ((event: NostrEvent, request: SeenRequest) => boolean);

  // How they are sent
  readonly order?: 'newest-first' | 'oldest-first' | 'shuffled';
  /** For `shuffled` and `random`: another seed, another order. */
  readonly seed?: number;
  /** Every so-many-th event is sent twice in a row; 1 repeats all. */
  readonly repeatEvery?: number;
  /** Put on top of the page whatever the filter says: forged ones, ones outside the window, ones that are no events. */
  readonly inject?: readonly unknown[] | ((request: SeenRequest) => readonly unknown[]);
  /** Changes each event on its way out. */
  readonly alter?: (event: Record<string, unknown>, index: number) => unknown;
  /** Sends events, the end or both under another subscription's id. */
  readonly wrongSubscription?: 'events' | 'end' | 'all';

  // What comes before and between
  /** Before anything is answered. */
  readonly delayMs?: number;
  /** Between one event and the next. */
  readonly betweenMs?: number;
  /** How many events of a page come at once, before `betweenMs` applies; 0 unless told. */
  readonly slowAfter?: number;
  readonly garbage?: readonly Garbage[];
  /** Number of NOTICEs that are sent first. */
  readonly notices?: number;
  /** First a frame that announces this many bytes and brings them one by one. */
  readonly drip?: { readonly bytes: number; readonly everyMs: number };

  // The end
  /** The end is sent after this number of events, wanted or not. */
  readonly after?: number;
  /** EOSE is sent after this number of events; the others follow it, CLOSE or not. */
  readonly eoseAfter?: number;
  /** A REQ whose answer would hold such an event breaks off there. */
  readonly poison?: {
    readonly createdAt: readonly number[];
    readonly how: (typeof POISONS)[number];
  };
  /** Bounds of a filter that are taken as exclusive. */
  readonly exclusive?: readonly ('since' | 'until')[];
  /** `eose` unless told. */
  readonly end?: End;
  /** The connection is closed once the answer has come to its end. */
  readonly closesAfterEnd?: boolean;
  /** The connection is cut after this number of events, over all its REQs. */
  readonly disconnectAfter?: number;
  /** CLOSE does not stop the page that is being sent. */
  readonly ignoreClose?: boolean;
  /** New events are not pushed after the end. */
  readonly deaf?: boolean;
}

/** Decides for each REQ, the `n`-th of the relay counted from 1: `answer` is as the relay always does. */
export type OnRequest = (request: SeenRequest, n: number) => 'answer' | Quirk;

/** EOSE at once, although events match. */
export const empty = { after: 0, end: 'eose' } as const satisfies Quirk;
/** Refuses filters that name neither kinds nor authors nor ids. */
export const refusesBare = (text: string, say: Say = 'closed'): Quirk => ({
  refuseFilter: { when: ({ kinds, authors, ids }) => !kinds && !authors && !ids, text, say },
});
/** Refuses filters with more values than that in one list. */
export const capsValues = (most: number, text: string, say: Say = 'closed'): Quirk => ({
  refuseFilter: {
    when: (filter) =>
      Object.values(filter).some((values) => Array.isArray(values) && values.length > most),
    text,
    say,
  },
});
/** That many servers behind one name: each connection reaches the next, and each event is on one of them. */
export const onServers = (servers: number): Quirk => ({
  serves: ({ id }, { connection }) =>
    Number.parseInt(id.slice(0, 8), 16) % servers === connection % servers,
});
/** No answer at all. */
export const unanswered = { after: 0, end: 'silence' } as const satisfies Quirk;
/** The events, and no EOSE after them. */
export const noEose = { end: 'silence' } as const satisfies Quirk;
/** Streams for ever, CLOSE or not. */
export const endless = { end: 'endless', ignoreClose: true } as const satisfies Quirk;
/** Some of the page, then EOSE as though that were all. */
export const prematureEose = (after: number): Quirk => ({ after, end: 'eose' });
/** Some of the page, then the connection is gone. */
export const disconnects = (after: number): Quirk => ({ after, end: 'disconnect' });
/** Refused with CLOSED, after some events if told. */
export const closed = (reason: string, after = 0): Quirk => ({ after, end: { closed: reason } });
/** The connection is ended with this close frame. */
export const closes = (code: number, reason: string): Quirk => ({
  after: 0,
  end: { close: { code, reason } },
});
/** Answered with a NOTICE alone. */
export const notice = (text: string): Quirk => ({ after: 0, end: { notice: text } });

/** The quirk for the listed REQs, counted from 1. */
export function nth(numbers: number | readonly number[], quirk: Quirk): OnRequest {
  const listed = [numbers].flat();
  return (_request, n) => (listed.includes(n) ? quirk : 'answer');
}

/** The quirk for REQs that ask for any of these events by its id; without a list for all that ask by ids. */
export function atIds(
  events: Iterable<{ readonly id: string }> | null,
  quirk: Quirk,
  fired: { times: number } = { times: 0 },
): OnRequest {
  const odd = events === null ? null : new Set([...events].map(({ id }) => id));
  return ({ filters }) => {
    const named = filters.flatMap(({ ids }) => ids ?? []);
    if (!named.some((id) => odd === null || odd.has(id))) return 'answer';
    fired.times += 1;
    return quirk;
  };
}

/** The quirk for every so-many-th REQ. */
export function every(count: number, quirk: Quirk): OnRequest {
  return (_request, n) => (n % count === 0 ? quirk : 'answer');
}

/** The quirk for REQs picked by lot, the same ones for the same seed. */
export function sometimes(probability: number, seed: number, quirk: Quirk): OnRequest {
  const random = seededRandom(seed);
  return () => (random.next() < probability ? quirk : 'answer');
}

/** The quirk for the first REQs: a relay that recovers. */
export function first(count: number, quirk: Quirk): OnRequest {
  return (_request, n) => (n <= count ? quirk : 'answer');
}

/** The quirk for every REQ after the first ones: a relay that has had enough. */
export function afterwards(count: number, quirk: Quirk): OnRequest {
  return (_request, n) => (n > count ? quirk : 'answer');
}

/**
 * At most `requests` REQs in any `withinMs` (for ever unless told); the others are refused as `rate-limited:`.
 * A refused REQ counts too when `strict`: then only silence helps.
 */
export function rateLimited(options: {
  readonly requests: number;
  readonly withinMs?: number;
  readonly say?: Say;
  readonly strict?: boolean;
}): OnRequest {
  const { requests, withinMs = Number.POSITIVE_INFINITY, say = 'closed', strict = false } = options;
  const text = 'rate-limited: slow down';
  let counted: number[] = [];
  return ({ at }) => {
    counted = counted.filter((time) => at - time < withinMs);
    const refused = counted.length >= requests;
    if (!refused || strict) counted.push(at);
    if (!refused) return 'answer';
    return say === 'closed' ? closed(text) : notice(text);
  };
}

/** The first of several scenarios that has something to say. */
export function either(...scenarios: readonly OnRequest[]): OnRequest {
  return (request, n) => {
    const answers = scenarios.map((scenario) => scenario(request, n)); // each must see every REQ, to count
    return answers.find((answer) => answer !== 'answer') ?? 'answer';
  };
}
