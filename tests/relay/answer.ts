import type { NostrEvent } from '../../src/nostr/event.ts';
import { seededRandom } from '../fixtures/random.ts';
import { garbageFrame } from './frames.ts';
import type { End, POISONS, Quirk } from './quirks.ts';
import type { RelayRecord, SeenRequest } from './record.ts';
import {
  answersFilter,
  type EventStore,
  type RelayFilter,
  type Selected,
  withoutKeys,
} from './store.ts';
import type { RelayWire } from './wire.ts';

/** More than a client takes as one frame. */
const OVERSIZED_BYTES = 9 * 1024 * 1024;
const SOMEONE_ELSES = 'not-your-subscription';

/** One REQ from its arrival on: the page first, live events after it. */
export class OpenSubscription {
  readonly request: SeenRequest;
  readonly #quirk: Quirk;
  readonly #wire: RelayWire;
  readonly #store: EventStore;
  readonly #record: RelayRecord;
  #cancelled = false;
  /** Live events that came while the page was being sent; null before the page was chosen, and once nothing waits. */
  #pending: NostrEvent[] | null = null;
  #isLive = false;

  constructor(
    request: SeenRequest,
    quirk: Quirk,
    wire: RelayWire,
    store: EventStore,
    record: RelayRecord,
  ) {
    this.request = request;
    this.#quirk = quirk;
    this.#wire = wire;
    this.#store = store;
    this.#record = record;
  }

  /** CLOSE, or another REQ under the same id. */
  cancel(): void {
    this.#isLive = false;
    this.#pending = null;
    if (this.#quirk.ignoreClose && this.request.end === null) this.#record.fire('ignoreClose');
    else this.#cancelled = true;
  }

  /** Pushes a new event to the client if it matches. */
  push(event: NostrEvent): void {
    if (!this.#filters().some((filter) => answersFilter(event, filter))) return;
    if (this.#isLive) this.#sendEvent(this.#store.json(event));
    else this.#pending?.push(event);
  }

  /** Sends what was asked for, as the quirk has it. */
  async answer(): Promise<void> {
    const { delayMs, notices = 0, garbage = [], drip } = this.#quirk;
    if (delayMs) await this.#delay(delayMs);
    if (notices > 0) await this.#flood(notices);
    for (const piece of garbage) {
      this.#record.fire('garbage');
      this.#wire.frame(garbageFrame(piece, this.request.subscription));
    }
    if (drip) this.#record.fire('drip');
    if (drip) await this.#wire.drip(drip.bytes, drip.everyMs);
    if (this.#goesOn()) await this.#sendPage();
  }

  async #flood(notices: number): Promise<void> {
    this.#record.fire('notices');
    for (let i = 1; i <= notices && this.#wire.isUsable; i++) {
      this.#wire.message('NOTICE', `notice ${i}`);
      await this.#wire.pace();
    }
  }

  async #delay(ms: number): Promise<void> {
    this.#record.fire('delay');
    await this.#wire.pause(ms);
  }

  #goesOn(): boolean {
    if (this.#wire.isUsable && !this.#cancelled) return true;
    this.request.end ??= this.#cancelled ? 'cancelled' : 'disconnected';
    this.#record.changed();
    return false;
  }

  #filtersRead(): readonly RelayFilter[] {
    const { filters } = this.request;
    const { readsFilters } = this.#quirk;
    if (!readsFilters || filters.length <= readsFilters.most) return filters;
    this.#record.fire('readsFilters');
    const { which, most } = readsFilters;
    return which === 'first' ? filters.slice(0, most) : filters.slice(-most);
  }

  #filters(): RelayFilter[] {
    const { ignore = [], exclusive = [] } = this.#quirk;
    return this.#filtersRead().map((filter) => {
      const { since, until } = filter;
      if (exclusive.length > 0) this.#record.fire('exclusive');
      return withoutKeys(
        {
          ...filter,
          ...(exclusive.includes('since') && since !== undefined && { since: since + 1 }),
          ...(exclusive.includes('until') && until !== undefined && { until: until - 1 }),
        },
        ignore,
      );
    });
  }

  async #sendPage(): Promise<void> {
    const { after = Number.POSITIVE_INFINITY, betweenMs, slowAfter = 0 } = this.#quirk;
    const selected = this.#select();
    this.#pending = [];
    const broken = this.#poisonedAt(selected.events);
    if (broken !== null) return this.#breakOff(selected.events.slice(0, broken));
    const page = this.#page(selected.events);
    const { eoseAfter } = this.#quirk;
    for (const [index, json] of page.entries()) {
      if (index === eoseAfter) this.#endEarly();
      if (index >= after) {
        this.#record.fire('after');
        break;
      }
      if (betweenMs && index >= slowAfter) await this.#wire.pause(betweenMs);
      if (!this.#goesOn() && !(eoseAfter !== undefined && this.#wire.isUsable)) return;
      this.#sendEvent(json);
      await this.#wire.pace();
    }
    if (this.request.end !== null && eoseAfter !== undefined) return;
    if (this.#goesOn()) await this.#finish(selected.more || page.length > after, page);
  }

  /** EOSE before the rest of the page. */
  #endEarly(): void {
    this.#record.fire('eoseAfter');
    this.request.end = 'eose';
    this.#wire.message('EOSE', this.request.subscription);
  }

  /** Where in a page the first event lies that the relay cannot send. */
  #poisonedAt(events: readonly NostrEvent[]): number | null {
    const { poison } = this.#quirk;
    const place = events.findIndex((event) => poison?.createdAt.includes(event.created_at));
    return place < 0 ? null : place;
  }

  async #breakOff(before: readonly NostrEvent[]): Promise<void> {
    this.#record.fire('poison');
    const how = this.#quirk.poison?.how ?? 'silence';
    this.request.end = how;
    if (how === 'closed')
      this.#wire.message('CLOSED', this.request.subscription, 'error: could not read that');
    else if (how === 'freeze') this.#wire.freeze();
    else if (how !== 'silence') {
      for (const json of this.#page(before)) this.#sendEvent(json);
      this.#breakConnection(how);
    }
    this.#record.changed();
  }

  #breakConnection(how: Exclude<(typeof POISONS)[number], 'closed' | 'freeze' | 'silence'>): void {
    if (how === 'disconnect') void this.#wire.cutWhenSent();
    else if (how === 'reset') this.#wire.cut();
    else if (how === 'close-1009') this.#wire.close(1009, 'message too big');
    else {
      const garbage = how === 'oversized' ? { hugeBytes: OVERSIZED_BYTES } : how;
      this.#wire.frame(garbageFrame(garbage, this.request.subscription));
    }
  }

  #select(): Selected {
    const { cap, defaultLimit, order, select } = this.#quirk;
    const filters = this.#filters();
    const selected = this.#store.select(filters, {
      ...(cap === undefined ? {} : { cap }),
      ...(defaultLimit === undefined ? {} : { defaultLimit }),
      select: select ?? (order === 'oldest-first' ? 'oldest' : 'newest'),
      random: this.#random(),
    });
    if (selected.capped) this.#record.fire('cap');
    const [{ limit = 0 } = {}] = filters;
    if (this.#quirk.limitsAll && selected.events.length > limit) {
      this.#record.fire('limitsAll');
      return { ...selected, events: selected.events.slice(0, limit), more: true };
    }
    const { serves } = this.#quirk;
    if (serves !== undefined) {
      const random = this.#random();
      const isServed = (event: NostrEvent) =>
        typeof serves === 'number' ? random.next() < serves : serves(event, this.request);
      this.#record.fire('serves');
      return { ...selected, events: selected.events.filter(isServed) };
    }
    if (filters.some((filter, i) => size(filter) < size(this.request.filters[i])))
      this.#record.fire('ignore');
    return selected;
  }

  #random() {
    return seededRandom((this.#quirk.seed ?? 0) * 1_000_003 + this.request.n);
  }

  /** The events as JSON, in the order and number that they are sent. */
  #page(events: readonly NostrEvent[]): string[] {
    const { inject = [], repeatEvery, alter } = this.#quirk;
    const texts = this.#ordered(events).map((event, index) => {
      if (!alter) return this.#store.json(event);
      this.#record.fire('alter');
      return JSON.stringify(alter({ ...event }, index));
    });
    const injected = typeof inject === 'function' ? inject(this.request) : inject;
    if (injected.length > 0) this.#record.fire('inject');
    const page = [...injected.map((item) => JSON.stringify(item)), ...texts];
    if (!repeatEvery || page.length < repeatEvery) return page;
    this.#record.fire('repeat');
    return page.flatMap((text, index) => ((index + 1) % repeatEvery === 0 ? [text, text] : [text]));
  }

  #ordered(events: readonly NostrEvent[]): readonly NostrEvent[] {
    const { order = 'newest-first' } = this.#quirk;
    if (order === 'newest-first' || events.length < 2) return events;
    this.#record.fire(order);
    return order === 'shuffled' ? this.#random().shuffle(events) : events.toReversed();
  }

  #sendEvent(json: string): void {
    const { disconnectAfter = Number.POSITIVE_INFINITY } = this.#quirk;
    if (!this.#wire.isUsable) return;
    this.#wire.eventsSent += 1;
    this.#record.eventsSent += 1;
    if (this.request.end === null) this.request.eventsSent += 1;
    this.#wire.text(`["EVENT",${JSON.stringify(this.#subscriptionFor('events'))},${json}]`);
    this.#record.changed();
    if (this.#wire.eventsSent < disconnectAfter) return;
    this.#record.fire('disconnectAfter');
    void this.#wire.cutWhenSent();
  }

  #subscriptionFor(part: 'events' | 'end'): string {
    const { wrongSubscription: wrong } = this.#quirk;
    if (wrong !== part && wrong !== 'all') return this.request.subscription;
    this.#record.fire('wrongSubscription');
    return SOMEONE_ELSES;
  }

  async #finish(more: boolean, page: readonly string[]): Promise<void> {
    const { end = 'eose', deaf, closesAfterEnd } = this.#quirk;
    if (end === 'endless') return this.#stream(page);
    this.request.end = endName(end, more);
    if (end !== 'eose' && end !== 'nip67') this.#record.fire(this.request.end);
    this.#sendEnd(end, more);
    if (closesAfterEnd) this.#wire.close(1000, '');
    this.#record.changed();
    if (isEose(end) && !deaf) this.#goLive();
  }

  #sendEnd(end: Exclude<End, 'endless'>, more: boolean): void {
    const subscription = this.#subscriptionFor('end');
    if (end === 'disconnect') void this.#wire.cutWhenSent();
    else if (end === 'freeze') this.#wire.freeze();
    else if (end === 'eose') this.#wire.message('EOSE', subscription);
    else if (end === 'nip67') this.#wire.message('EOSE', subscription, [more ? 'more' : 'finish']);
    else if (end === 'finish' || end === 'more') this.#wire.message('EOSE', subscription, [end]);
    else if (end === 'silence') return;
    else if ('eose' in end) this.#wire.message('EOSE', subscription, end.eose);
    else if ('closed' in end) this.#wire.message('CLOSED', subscription, end.closed);
    else if ('close' in end) this.#wire.close(end.close.code, end.close.reason);
    else this.#wire.message('NOTICE', end.notice);
  }

  /** The page over and over; where nothing matched, events that do not exist. */
  async #stream(page: readonly string[]): Promise<void> {
    this.#record.fire('endless');
    for (let i = 0; this.#goesOn(); i++) {
      const text =
        page.length > 0 ? page[i % page.length] : JSON.stringify({ kind: 1, content: `${i}` });
      this.#sendEvent(text as string);
      await this.#wire.pace();
    }
  }

  #goLive(): void {
    const waiting = this.#pending ?? [];
    this.#pending = null;
    if (this.#cancelled) return;
    this.#isLive = true;
    for (const event of waiting) this.#sendEvent(this.#store.json(event));
  }
}

const size = (filter: RelayFilter = {}) => Object.keys(filter).length;

function isEose(end: End): boolean {
  return (
    ['eose', 'nip67', 'finish', 'more'].includes(end as string) ||
    (typeof end === 'object' && 'eose' in end)
  );
}

function endName(end: Exclude<End, 'endless'>, more: boolean): string {
  if (end === 'nip67') return more ? 'more' : 'finish';
  if (typeof end === 'string') return end;
  return Object.keys(end)[0] ?? 'eose';
}
