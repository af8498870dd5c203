import type { PageEnd } from '../../src/relay-client/subscription.ts';
import type { PageRequest, PageTally } from '../../src/sync/paging/pager.ts';
import type { Presence } from '../../src/sync/paging/tally.ts';
import { type Random, seededRandom } from '../fixtures/random.ts';

export interface ModelEvent {
  readonly id: string;
  readonly createdAt: number;
  /** Whether its signature holds. Forged ones are stored and sent like any other. */
  readonly valid: boolean;
  /**
   * What happens instead of sending it: the connection is lost where its turn comes; or every request whose window
   * holds it is refused, or not answered.
   */
  readonly poison?: 'disconnect' | 'closed' | 'silence';
  /** Whether it is ephemeral or expired: it is stored, and need not be. */
  readonly transient?: boolean;
}

/** Chances, from 0 to 1, for each REQ unless told. */
export interface ModelFaults {
  /** EOSE and nothing else. */
  readonly empty?: number;
  /** EOSE after some of the page. */
  readonly early?: number;
  /** EOSE after some of the page, which goes on after it. */
  readonly late?: number;
  /** The events, and no EOSE. */
  readonly timeout?: number;
  readonly closed?: number;
  /** The connection is lost somewhere in the page. */
  readonly disconnect?: number;
  /** For each event sent: once more. */
  readonly repeat?: number;
  /** One more event whose time lies outside the window that was asked for. */
  readonly above?: number;
  readonly below?: number;
  /** A transient event inside the window is passed on with the answer, before or after the events that are stored. */
  readonly pass?: number;
  /** Maximum number of `forged` events on top of the page, inside the window and above the cap. */
  readonly inject?: number;
}

export interface ModelRelayOptions {
  readonly events: readonly ModelEvent[];
  /** What `inject` takes from. */
  readonly forged?: readonly ModelEvent[];
  /** Most events in a page. */
  readonly cap?: number;
  /** Shuffled: any events of the window, in any order. */
  readonly order?: 'newest-first' | 'oldest-first' | 'shuffled';
  readonly ignores?: readonly ('since' | 'until' | 'limit')[];
  /** Bounds of a filter that it takes as exclusive. */
  readonly exclusive?: readonly ('since' | 'until')[];
  /** A REQ with a larger limit is CLOSED. */
  readonly refusesLimitAbove?: number;
  /** So is one with a longer window, in seconds, or, as a number below 0, with none: a filter without `since`. */
  readonly refusesWindow?: number;
  /** What happens instead of an answer to a REQ that only looks whether something is there, or is still the same. */
  readonly atProbe?: 'closed' | 'silence' | 'disconnect';
  /** Of its events, each REQ is shown this share, drawn anew for each. */
  readonly serves?: number;
  /** How many servers there are behind its name, each with other events; some events are on all of them. */
  readonly servers?: number;
  /** Whether the end of a page says `finish` or `more`, truly. */
  readonly nip67?: boolean;
  readonly faults?: ModelFaults;
  /** How many false answers (`empty`, `early`, `late`) may follow each other. No bound unless told. */
  readonly falseInARow?: number;
  readonly seed?: number;
}

/** A relay without sockets: answers a page request by filling the tally. The same seed gives the same answers. */
export class ModelRelay {
  /** Pages asked, and events sent. */
  pages = 0;
  sent = 0;
  readonly requests: PageRequest[] = [];
  /** What the latest page sent after its EOSE. */
  late: readonly ModelEvent[] = [];
  /** How often each fault has happened, and pages that were cut. */
  readonly fired: Record<string, number> = {};
  /**
   * Whether it sent part of a window so that it looked like an orderly and complete page: fewer events than any
   * relay's cap, by chance newest-first, though it is no such relay. Nobody can tell that from a complete answer.
   */
  lookedComplete = false;
  readonly #options: ModelRelayOptions;
  readonly #random: Random;
  #events: ModelEvent[];
  #falseInARow = 0;
  #server = 0;
  /** Ids of transient events that were shown over this connection. */
  #transient = new Set<string>();

  constructor(options: ModelRelayOptions) {
    this.#options = options;
    this.#random = seededRandom(options.seed ?? 0);
    this.#events = [...options.events].sort(newestFirst);
  }

  get events(): readonly ModelEvent[] {
    return this.#events;
  }

  add(events: readonly ModelEvent[]): void {
    if (events.length > 0) this.#events = [...this.#events, ...events].sort(newestFirst);
  }

  remove(test: (event: ModelEvent) => boolean): void {
    this.#events = this.#events.filter((event) => !test(event));
  }

  /** A connection reaches the next server behind its name. */
  connect(): void {
    this.#server += 1;
    this.#transient.clear();
  }

  /** Sends a page: each event goes to `receive` and into the tally, as on the way into the archive. */
  answer(
    request: PageRequest,
    tally: PageTally,
    receive: (event: ModelEvent) => void = () => {},
  ): PageEnd {
    this.pages += 1;
    this.requests.push(request);
    this.late = [];
    const { refusesLimitAbove = Number.POSITIVE_INFINITY } = this.#options;
    if (request.limit > refusesLimitAbove) {
      return { type: 'closed', text: `error: limit must be at most ${refusesLimitAbove}` };
    }
    const refused = this.#refusalOf(request);
    if (refused) return refused;
    if (this.#happens('closed')) return { type: 'closed', text: 'error: could not answer' };
    const matching = this.#served(this.#matching(request));
    const poisoned = matching.find(({ poison }) => poison === 'closed' || poison === 'silence');
    if (poisoned) {
      this.#fire('poison');
      if (poisoned.poison === 'silence') return { type: 'timeout', text: 'no answer in time' };
      return { type: 'closed', text: 'error: could not read that' };
    }
    const page = this.#page(request, matching);
    const broken = page.findIndex(({ poison }) => poison === 'disconnect');
    if (broken >= 0) {
      this.#fire('poison');
      this.#send(page.slice(0, broken), tally, receive);
      return { type: 'disconnected', text: 'code 1007' };
    }
    const isCut = page.length < matching.length;
    if (isCut) this.#fire('cut');
    if (this.#happens('timeout')) {
      this.#send(page, tally, receive);
      return { type: 'timeout', text: 'no answer in time' };
    }
    if (this.#happens('disconnect')) {
      this.#send(page.slice(0, this.#random.integer(0, page.length)), tally, receive);
      return { type: 'disconnected', text: 'code 1006' };
    }
    const { falseInARow = Number.POSITIVE_INFINITY } = this.#options;
    if (page.length > 0 && this.#falseInARow < falseInARow && this.#happens('late')) {
      this.#falseInARow += 1;
      const inTime = this.#random.integer(0, page.length - 1);
      this.#send(page.slice(0, inTime), tally, receive);
      this.late = page.slice(inTime);
      if (isCut) this.#noteLooks(request, tally);
      return { type: 'eose' };
    }
    const sent = this.#falsified(page);
    const answer = this.#withJunk(request, sent, sent.length === page.length);
    this.#send(this.#withPassing(request, answer), tally, receive);
    if (this.#options.nip67 && sent.length === page.length)
      return { type: isCut ? 'more' : 'finish' };
    if (sent.length < matching.length) this.#noteLooks(request, tally);
    return { type: 'eose' };
  }

  /** A REQ of a shape or a purpose that it does not answer. */
  #refusalOf({ since, until, isProbe = false }: PageRequest): PageEnd | null {
    const { refusesWindow = Number.POSITIVE_INFINITY, atProbe } = this.#options;
    const isRefused = refusesWindow < 0 ? since === 0 : until - since > refusesWindow;
    if (isRefused) {
      this.#fire('shape');
      return { type: 'closed', text: 'error: could not read so long a time' };
    }
    if (!isProbe || !atProbe) return null;
    this.#fire('probe');
    if (atProbe === 'silence') return { type: 'timeout', text: 'no answer in time' };
    if (atProbe === 'disconnect') return { type: 'disconnected', text: 'code 1006' };
    return { type: 'closed', text: 'error: could not answer' };
  }

  /** What it shows of its events at this asking. */
  #served(events: ModelEvent[]): ModelEvent[] {
    const { serves = 1, servers = 1 } = this.#options;
    if (serves >= 1 && servers <= 1) return events;
    const served = events.filter(
      ({ id }) => isOnServer(id, this.#server, servers) && this.#random.next() < serves,
    );
    if (served.length < events.length) this.#fire(servers > 1 ? 'server' : 'serves');
    return served;
  }

  /** Newest first. */
  #matching({ since, until }: PageRequest): ModelEvent[] {
    const { ignores = [], exclusive = [] } = this.#options;
    const first = exclusive.includes('since') && since > 0 ? since + 1 : since;
    const last = exclusive.includes('until') ? until - 1 : until;
    if (first > since || last < until) this.#fire('exclusive');
    const from = ignores.includes('since') ? Number.NEGATIVE_INFINITY : first;
    const to = ignores.includes('until') ? Number.POSITIVE_INFINITY : last;
    return this.#events.slice(this.#firstAtOrBelow(to), this.#firstAtOrBelow(from - 1));
  }

  #firstAtOrBelow(second: number): number {
    let [low, high] = [0, this.#events.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#events[middle]?.createdAt ?? 0) <= second) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /** As many as may be sent. Those of one second come in any order. */
  #page({ limit }: PageRequest, matching: ModelEvent[]): ModelEvent[] {
    const { cap = Number.POSITIVE_INFINITY, order = 'newest-first', ignores = [] } = this.#options;
    const most = Math.min(cap, ignores.includes('limit') ? Number.POSITIVE_INFINITY : limit);
    if (order === 'shuffled') return this.#random.shuffle(matching).slice(0, most);
    const sorted = order === 'newest-first' ? matching : matching.toReversed();
    const last = sorted[most - 1]?.createdAt;
    const end = sorted.findIndex(({ createdAt }, i) => i >= most && createdAt !== last);
    const candidates = this.#random.shuffle(end < 0 ? sorted : sorted.slice(0, end));
    candidates.sort(order === 'newest-first' ? newestFirst : (a, b) => newestFirst(b, a));
    return candidates.slice(0, most);
  }

  /** A false answer, unless too many have followed each other: less than the page, as though that were all. */
  #falsified(page: ModelEvent[]): ModelEvent[] {
    const { falseInARow = Number.POSITIVE_INFINITY } = this.#options;
    const mayLie = page.length > 0 && this.#falseInARow < falseInARow;
    const kept = !mayLie
      ? page.length
      : this.#happens('empty')
        ? 0
        : this.#happens('early')
          ? this.#random.integer(1, page.length)
          : page.length;
    this.#falseInARow = kept < page.length ? this.#falseInARow + 1 : 0;
    return page.slice(0, kept);
  }

  /** Forged events inside the window come on top of a true answer; others stand on top or at the end of any. */
  #withJunk({ since, until }: PageRequest, page: ModelEvent[], isTrue: boolean): ModelEvent[] {
    const { faults = {}, forged = [], exclusive = [] } = this.#options;
    // What lies at a bound shows how the relay takes it; so a forged event there would be a false word about that.
    const edge = exclusive.length > 0 ? 1 : 0;
    const inside = forged.filter(
      ({ createdAt }) => createdAt >= since + edge && createdAt <= until - edge,
    );
    const most = isTrue ? this.#random.integer(0, Math.min(faults.inject ?? 0, inside.length)) : 0;
    const injected = this.#random.shuffle(inside).slice(0, most);
    if (most > 0) this.#fire('inject');
    const outside: ModelEvent[] = [];
    const forge = (createdAt: number) =>
      outside.push({ id: `${this.pages} ${createdAt}`, createdAt, valid: false });
    if (this.#happens('above')) forge(until + this.#random.integer(1, 5));
    if (since > 0 && this.#happens('below')) forge(since - 1);
    return this.#random.next() < 0.5
      ? [...injected, ...page, ...outside]
      : [...outside, ...injected, ...page];
  }

  /** Adds an event that was published meanwhile and is not stored: often the oldest of the page, and the last. */
  #withPassing({ since, until }: PageRequest, page: ModelEvent[]): ModelEvent[] {
    if (!this.#happens('pass')) return page;
    const createdAt = this.#random.integer(since, until);
    const passing = { id: `passing ${this.pages}`, createdAt, valid: true, transient: true };
    return this.#random.next() < 0.5 ? [passing, ...page] : [...page, passing];
  }

  #send(page: ModelEvent[], tally: PageTally, receive: (event: ModelEvent) => void): void {
    for (const [index, event] of page.entries()) {
      this.#sendOne(event, tally, receive);
      const again = this.#happens('repeat') ? page[this.#random.integer(0, index)] : undefined;
      if (again) this.#sendOne(again, tally, receive);
    }
  }

  #sendOne(event: ModelEvent, tally: PageTally, receive: (event: ModelEvent) => void): void {
    this.sent += 1;
    if (tally.add(event.id, event.createdAt, this.#presenceOf(event))) receive(event);
  }

  #presenceOf({ id, transient }: ModelEvent): Presence {
    if (!transient) return 'lasting';
    if (this.#transient.has(id)) return 'repeated';
    this.#transient.add(id);
    return 'passing';
  }

  #noteLooks({ limit }: PageRequest, { order: shown, inside }: PageTally): void {
    const { order = 'newest-first' } = this.#options;
    if (order === 'newest-first' || inside === 0 || !shown.newestFirst) return;
    if (inside < Math.min(20, limit)) this.lookedComplete = true;
  }

  #happens(fault: Exclude<keyof ModelFaults, 'inject'>): boolean {
    const chance = this.#options.faults?.[fault] ?? 0;
    if (chance === 0 || this.#random.next() >= chance) return false;
    this.#fire(fault);
    return true;
  }

  #fire(name: string): void {
    this.fired[name] = (this.fired[name] ?? 0) + 1;
  }
}

/** One event in five is on every server, each other one on one of them. */
function isOnServer(id: string, server: number, servers: number): boolean {
  if (servers <= 1) return true;
  let hash = 7;
  for (let i = 0; i < id.length; i += 1) hash = (hash * 31 + id.charCodeAt(i)) >>> 0;
  return hash % 5 === 0 || (hash >>> 3) % servers === server % servers;
}

function newestFirst(a: ModelEvent, b: ModelEvent): number {
  return b.createdAt - a.createdAt;
}
