/** Relays of every kind that an archive should get along with, each with what it may expect of them. */
import type { NostrEvent } from '../../../src/nostr/event.ts';
import { type Forgery, forgedEvents, signedEvent, signedEvents } from '../../fixtures/events.ts';
import type { Random } from '../../fixtures/random.ts';
import type { Nip77Options } from '../../relay/scripted-relay.ts';
import {
  closed,
  disconnects,
  empty,
  nip11Document,
  noEose,
  notice,
  type OnRequest,
  prematureEose,
  type Quirk,
  type RelayBehaviour,
  rateLimited,
  unanswered,
} from '../../relay/scripted-relay.ts';

/** What a relay is made with. */
export interface Setup {
  readonly behaviour: RelayBehaviour;
  /** Events that are to be archived. */
  readonly good: readonly NostrEvent[];
  /** Well-formed events that are to be refused. */
  readonly forged: readonly NostrEvent[];
  /** Set where it does NIP-77. */
  readonly nip77?: Nip77Options;
}

export interface Kind {
  readonly name: string;
  /** `whole`: all that it holds can be proven. `named`: some of it stays a gap, which has to be named. */
  readonly promise: 'whole' | 'named';
  /** Names in `fired` of the scripted relay that show its quirk; none for what cannot but happen. */
  readonly shows: readonly string[];
  /** Whether it may be restarted with another configuration without ceasing to be of its kind. */
  readonly mayChange: boolean;
  make(draw: Draw): Setup;
}

const DAY = 86_400;
/** Events that every relay of a soak has a part of. */
const SHARED = 2000;

/** Draws the events of one relay. The same seed gives the same ones. */
export class Draw {
  readonly random: Random;
  readonly now: number;
  readonly seed: number;
  /** Number of events sent for each requested one. */
  readonly scale: number;
  readonly #shared: readonly NostrEvent[];

  constructor(options: Pick<Draw, 'random' | 'now' | 'seed' | 'scale'>, shared: NostrEvent[]) {
    this.random = options.random;
    this.now = options.now;
    this.seed = options.seed;
    this.scale = options.scale;
    this.#shared = shared;
  }

  static sharedEvents(now: number, seed: number): NostrEvent[] {
    const history = { from: now - 30 * DAY, to: now - 600 };
    return signedEvents(SHARED, { ...history, seed, authors: 20, kinds: [1, 1, 1, 7, 0, 3] });
  }

  /** Events of its own and as many that other relays hold too. */
  events(count: number, days = 30): NostrEvent[] {
    const own = Math.round((count * this.scale) / 2);
    const from = this.random.integer(0, Math.max(0, this.#shared.length - own));
    const window = { from: this.now - days * DAY, to: this.now - 60 };
    return [
      ...this.#shared.slice(from, from + own),
      ...signedEvents(own, { ...window, seed: this.seed, authors: 3 }),
    ];
  }

  /** Number of events in one second. */
  burst(count: number): NostrEvent[] {
    const second = this.now - this.random.integer(DAY, 20 * DAY);
    return signedEvents(count, { from: second, to: second, seed: this.seed + 1, authors: 3 });
  }

  forged(count: number, how: Forgery): NostrEvent[] {
    const window = { from: this.now - 25 * DAY, to: this.now - 60 };
    return forgedEvents(count, { ...window, seed: this.seed + 2, authors: 2, how });
  }
}

type Parts = Partial<Setup>;

function kind(
  name: string,
  shows: readonly string[],
  make: (draw: Draw) => Parts,
  promise: Kind['promise'] = 'whole',
): Kind {
  const whole = (draw: Draw): Setup => {
    const { behaviour = {}, good = draw.events(1200), forged = [], ...rest } = make(draw);
    return { behaviour, good, forged, ...rest };
  };
  return { name, promise, shows, mayChange: false, make: whole };
}

/** A relay whose answers differ in one way from plain ones. */
const quirk = (name: string, shows: readonly string[], value: Quirk) =>
  kind(name, shows, () => ({ behaviour: { quirk: value } }));

/** A relay that does so with every so-many-th REQ: often enough to be met, and never twice in a row for one asker. */
const sometimes = (name: string, shows: readonly string[], count: number, value: Quirk) =>
  kind(name, shows, () => {
    let met = 0; // over all its restarts, which begin to count anew
    const onRequest: OnRequest = () => {
      met += 1;
      return met % count === 0 ? value : 'answer';
    };
    return { behaviour: { quirk: { cap: 200 }, onRequest } };
  });

const nip77 = (name: string, shows: readonly string[], options: Nip77Options, cap = 200): Kind =>
  kind(`NIP-77${name}`, ['nip77', ...shows], () => ({
    behaviour: {
      quirk: { cap },
      nip11: { document: nip11Document({ supported_nips: [1, 11, 77] }) },
    },
    nip77: options,
  }));

const behaves = (name: string, shows: readonly string[], behaviour: RelayBehaviour) =>
  kind(name, shows, () => ({ behaviour }));

const changing = (one: Kind): Kind => ({ ...one, mayChange: true });

/** Contents that are hard to keep: what PostgreSQL cannot hold, what JSON escapes, what is long. */
function oddEvents(draw: Draw): NostrEvent[] {
  const contents = [
    'a\0b',
    '\ud800',
    'x\udfff',
    '\\u0000',
    '"\\\b\f\n\r\t',
    '\u{10ffff}',
    '日本 🦊',
  ];
  const templates = contents.flatMap((content, index) => {
    const created_at = draw.now - DAY - 1000 * index;
    return [
      { created_at, content: `${content} ${draw.seed}` },
      { created_at: created_at - 7, tags: [['t', content], [content], [], ['x'.repeat(300), '']] },
    ];
  });
  return [...templates, { created_at: 0, content: `the beginning ${draw.seed}` }].map((template) =>
    signedEvent(template),
  );
}

export const KINDS: readonly Kind[] = [
  // Pages
  changing(kind('behaves', [], () => ({}))),
  changing(kind('behaves, and holds much', [], (draw) => ({ good: draw.events(4000) }))),
  quirk('caps its pages at 100', ['cap'], { cap: 100 }),
  quirk('caps its pages at 30', ['cap'], { cap: 30 }),
  quirk('answers oldest first', ['oldest-first'], { order: 'oldest-first' }),
  quirk('answers oldest first, 100 at most', ['oldest-first', 'cap'], {
    ...{ order: 'oldest-first', cap: 100 },
  }),
  quirk('shuffles', ['shuffled'], { order: 'shuffled', cap: 5000, seed: 3 }),
  quirk('shuffles any 150', ['shuffled', 'cap'], { order: 'shuffled', select: 'random', cap: 150 }),
  quirk('repeats every third event', ['repeat'], { repeatEvery: 3, cap: 200 }),
  changing(quirk('ignores limit', [], { ignore: ['limit'] })),
  quirk('adds fields to events', ['alter'], { alter: (event) => ({ relay: 'x', ...event }) }),
  changing(quirk('says what is all (NIP-67)', [], { end: 'nip67' })),
  quirk('says what is all, 100 at most', ['cap'], { end: 'nip67', cap: 100 }),
  quirk('thinks before it answers', ['delay'], { delayMs: 300, cap: 300 }),
  quirk('lets its events trickle', [], { betweenMs: 1, cap: 100 }),
  changing(quirk('does not push what is new', [], { deaf: true })),
  quirk('talks much', ['notices'], { notices: 20, cap: 200 }),
  quirk('mixes in nonsense', ['garbage'], {
    ...{ cap: 300, garbage: ['not-json', 'empty-array', 'unknown-verb', 'wrong-types', 'binary'] },
  }),
  // What it holds
  kind('holds nothing at first', [], () => ({ good: [] })),
  kind('holds one event', [], (draw) => ({ good: draw.events(2).slice(0, 1) })),
  kind('holds five years', [], (draw) => ({ good: draw.events(1500, 1800) })),
  kind('holds what is hard to keep', [], (draw) => ({
    good: [...draw.events(300), ...oddEvents(draw)],
  })),
  kind('holds large events', [], (draw) => ({
    good: [
      ...draw.events(200),
      ...signedEvents(12, {
        ...{ from: draw.now - 9 * DAY, to: draw.now - DAY, seed: draw.seed + 4 },
        contentBytes: 150_000,
      }),
    ],
  })),
  kind('has forged signatures among its events', [], (draw) => ({
    forged: draw.forged(150, 'signature'),
  })),
  kind('has changed events among its events', [], (draw) => ({
    forged: draw.forged(150, 'content'),
  })),
  kind(
    'has a second that no page can hold',
    ['cap'],
    (draw) => ({
      behaviour: { quirk: { cap: 100 } },
      good: [...draw.events(600), ...draw.burst(250)],
    }),
    'named',
  ),
  // False ends and failures
  sometimes('says now and then that it has nothing', ['after'], 6, empty),
  sometimes('ends now and then too early', ['after'], 6, prematureEose(17)),
  sometimes('does not answer now and then', ['silence'], 9, unanswered),
  sometimes('forgets EOSE now and then', ['silence'], 9, noEose),
  sometimes('refuses now and then', ['closed'], 6, closed('error: busy', 5)),
  sometimes('refuses by NOTICE now and then', ['notice'], 6, notice('error: could not answer')),
  sometimes('hangs up now and then', ['disconnect'], 7, disconnects(30)),
  quirk('hangs up after 700 events', ['disconnectAfter'], { cap: 100, disconnectAfter: 700 }),
  // Limits
  behaves('refuses limits above 100', ['refuseLimitAbove'], {
    quirk: { refuseLimitAbove: { limit: 100, say: 'closed' }, cap: 100 },
  }),
  behaves('refuses limits above 100 by NOTICE', ['refuseLimitAbove'], {
    quirk: { refuseLimitAbove: { limit: 100, say: 'notice' }, cap: 100 },
  }),
  behaves('puts up with one subscription, and says so', [], {
    maxSubscriptions: { count: 1, say: 'closed' },
    nip11: { document: nip11Document({ limitation: { max_subscriptions: 1 } }) },
  }),
  behaves('puts up with two subscriptions', [], { maxSubscriptions: { count: 2, say: 'notice' } }),
  kind('limits the rate', ['closed'], () => ({
    behaviour: {
      quirk: { cap: 60 },
      onRequest: rateLimited({ requests: 6, withinMs: 4000 }),
    },
    // The rate is that of everybody together: the monitor asks too.
  })),
  // Who may come in
  behaves('wants to know who is there', ['auth'], { auth: {}, quirk: { cap: 200 } }),
  behaves('asks who is there at each refusal', ['auth'], {
    ...{ auth: { challenge: 'on-demand' }, quirk: { cap: 200 } },
  }),
  behaves('takes its time to open', [], { upgrade: { delayMs: 700 } }),
  behaves('takes no events', ['write-refused'], { write: { refuse: 'blocked: read only' } }),
  behaves('has a web page for a document', [], { nip11: { body: '<html>' }, write: 'silent' }),
  behaves('has a document without end', ['nip11-huge'], { nip11: { hugeBytes: 20 << 20 } }),
  // NIP-77
  nip77('', [], {}),
  nip77(', 300 ids at most', ['nip77-blocked'], { maxIds: 300 }),
  nip77(', in small frames', [], { frameSizeLimit: 4096 }),
  nip77(', lists cut without a word', ['nip77-cap'], { cap: 250 }),
  nip77(', breaks off in the second round', ['nip77-disconnect'], {
    ...{ frameSizeLimit: 4096, trouble: { round: 2, what: 'disconnect' } },
  }),
  nip77(' that it only says it has', ['nip77-notice'], {
    trouble: { round: 1, what: { notice: 'ERROR: bad msg: negentropy disabled' } },
  }),
  nip77(' that it never answers', ['nip77-silence'], { trouble: { round: 1, what: 'silence' } }),
];

/** Ways in which a relay that may change answers after a restart. */
export const MINDS: readonly Quirk[] = [
  {},
  { cap: 40 },
  { cap: 200, delayMs: 100 },
  { order: 'oldest-first', cap: 150 },
  { end: 'nip67', cap: 80 },
  { repeatEvery: 4 },
  { ignore: ['limit'] },
];
