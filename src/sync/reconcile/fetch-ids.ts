import type { WithheldReason } from '../../database/withheld.ts';
import { refusalOf } from '../../nostr/message.ts';
import type { PageEnd } from '../../relay-client/subscription.ts';
import { crashPoint } from '../../telemetry/crash-point.ts';
import type { Visit } from '../visit.ts';

/** Ids in one REQ: 67 bytes each, within the 64 KB that relays accept as a message by default. */
export const IDS_A_REQ = 500;
const BYTES_AN_ID = 67;
/** Characters of a REQ without its ids. */
const ENVELOPE = 64;
/** Maximum number of refused REQs by ids in one visit: one refused id among 500 is found in about 20. */
const MAX_REFUSED_REQUESTS = 100;
/** The same for a relay that has served no event by its id. */
const MAX_REFUSED_UNSERVED = 20;
/** Answers in a row without any of the requested ids, after which these count as not served. */
const EMPTY_ANSWERS = 2;
/** A refusal of the request, as opposed to an error of the relay. */
const REFUSED =
  /^\s*(?:error:\s*)?(invalid|unsupported|pow|mute)|not (allowed|served|permitted)|denied|refus/i;
/** Maximum number of answers by ids that break off in one visit: an id that breaks off the answer for 500 is found in 5 to 12. */
const MAX_BROKEN_ANSWERS = 36;
/** The same if no event is known with which to check that the relay still serves ids. */
const MAX_BROKEN_UNCHECKED = 3;
/** Maximum number of lists that broke off and wait for the search while others are requested. */
const MAX_BROKEN_LISTS = 18;
/** The search may take one in this many parts of the time of a visit. */
const SEARCHES_A_VISIT = 4;
/** Requests for one id alone that break off before it counts as unreadable: one may be chance. */
const ASKS_ALONE = 2;
/** Timeout in a search: this many times the slowest answer, but at least the minimum. */
const PATIENCE_TIMES = 10;
const PATIENCE_MIN_MS = 2000;

/** The result of requests by ids. */
export interface Fetched {
  /** Ids that arrived, or are already archived, with their `created_at`. */
  readonly times: Map<string, number>;
  /** Ids that were missing from answers, or at which every answer breaks off. Other ids that did not arrive are unknown. */
  readonly withheld: Map<string, WithheldReason>;
}

export function newFetched(): Fetched {
  return { times: new Map(), withheld: new Map() };
}

/** Returns an id that the relay is known to hold; null when there is none. */
export type KnownId = () => Promise<string | null>;

/**
 * Requests ids until each has arrived or was missing from two answers: one answer may be capped, or empty by chance. An id
 * at which every answer breaks off (the relay is silent, closes the connection, sends an error or an unreadable frame)
 * is found by halving, over new connections, as long as the relay serves another event by its id in between.
 *
 * @throws DatabaseError
 */
export async function fetchByIds(
  visit: Visit,
  wanted: readonly string[],
  fetched: Fetched,
  known: KnownId,
): Promise<void> {
  await new IdFetch(visit, fetched, known).run(wanted);
}

/** Requests each of a few ids by itself, once: they broke off every earlier answer. @throws DatabaseError */
export async function fetchAlone(
  visit: Visit,
  ids: readonly string[],
  fetched: Fetched,
  known: KnownId,
): Promise<void> {
  await new IdFetch(visit, fetched, known).runAlone(ids);
}

/** Asks whether a relay serves any of these events by its id. @throws DatabaseError */
export async function servesAny(visit: Visit, ids: readonly string[]): Promise<boolean> {
  return new IdFetch(visit, newFetched(), async () => null).serves(ids);
}

/** Ids of one REQ, and how often the relay has answered without any of them. */
interface Asked {
  readonly ids: readonly string[];
  readonly empty: number;
}

/** Whether the relay still serves events by id; `unchecked` where none is known that it holds. */
type Recovery = 'serves' | 'unchecked' | 'gone';

class IdFetch {
  readonly #visit: Visit;
  readonly #fetched: Fetched;
  readonly #known: KnownId;
  #open: Asked[] = [];
  /** Ids of REQs whose answer broke off. */
  #broken: (readonly string[])[] = [];
  #isOver = false;
  #served: string | null = null;

  constructor(visit: Visit, fetched: Fetched, known: KnownId) {
    this.#visit = visit;
    this.#fetched = fetched;
    this.#known = known;
  }

  async run(wanted: readonly string[]): Promise<void> {
    this.#open = [...chunks(wanted, idsARequest(this.#visit))].map((ids) => ({ ids, empty: 0 }));
    this.#open.reverse();
    while (!this.#mustStop) {
      const mustSearch = this.#open.length === 0 || this.#broken.length >= MAX_BROKEN_LISTS;
      if (!mustSearch || (this.#isExhausted && this.#open.length > 0)) await this.#askNext();
      else if (this.#broken.length > 0 && !this.#isExhausted) await this.#searchNext();
      else return;
    }
  }

  async runAlone(ids: readonly string[]): Promise<void> {
    for (const id of ids) {
      if (this.#mustStop || this.#isExhausted) return;
      await this.#confirm(id, 1);
      while (this.#open.length > 0 && !this.#mustStop) await this.#askNext();
    }
  }

  async serves(ids: readonly string[]): Promise<boolean> {
    const shown = newFetched();
    await this.#request(ids, shown);
    return shown.times.size > 0;
  }

  get #mustStop(): boolean {
    return this.#isOver || this.#visit.interruption() !== null || this.#visit.isFlooded;
  }

  /** Whether this visit has used up its requests and time for the search; other ids are still requested. */
  get #isExhausted(): boolean {
    const { nip77, context } = this.#visit;
    const isLate = nip77.brokenMs > context.visitMs / SEARCHES_A_VISIT;
    return nip77.brokenAnswers >= MAX_BROKEN_ANSWERS || isLate;
  }

  async #askNext(): Promise<void> {
    const asked = this.#open.pop();
    if (!asked || (await this.#ask(asked)) === null) return;
    if (this.#isExhausted || (await this.#recover()) === 'gone') this.#isOver = true;
    else this.#broken.push(this.#missing(asked.ids));
  }

  /** Halves a list that breaks off: if the first half is answered, the id that breaks it off lies in the second. */
  async #searchNext(): Promise<void> {
    let suspects = this.#broken.pop() ?? [];
    while (suspects.length > 1) {
      if (this.#mustStop || this.#isExhausted) return;
      const [first, second] = halves(suspects);
      if ((await this.#ask({ ids: first, empty: 0 })) === null) suspects = second;
      else {
        this.#open.push({ ids: second, empty: 0 });
        if (await this.#isGone()) return;
        suspects = this.#missing(first);
      }
    }
    const [id] = suspects;
    if (id !== undefined) await this.#confirm(id, ASKS_ALONE);
  }

  /** Requests one id alone: if that breaks off again while the relay serves others, the id is unreadable. */
  async #confirm(id: string, asks: number): Promise<void> {
    for (let asked = 1; asked <= asks; asked += 1) {
      if (this.#mustStop) return;
      const end = await this.#ask({ ids: [id], empty: 0 });
      if (end === null) return;
      const isOversized = end.type === 'oversized';
      const recovery = await this.#recover();
      if (recovery === 'gone') this.#isOver = true;
      if (isOversized || (recovery === 'serves' && asked === asks))
        this.#fetched.withheld.set(id, isOversized ? 'oversized' : 'unreadable');
      if (isOversized) return;
    }
  }

  async #isGone(): Promise<boolean> {
    this.#isOver ||= (await this.#recover()) === 'gone';
    return this.#isOver;
  }

  /** Whether the relay serves events by id after an answer broke off, over another connection if necessary. */
  async #recover(): Promise<Recovery> {
    const { nip77 } = this.#visit;
    const started = performance.now();
    nip77.brokenAnswers += 1;
    const recovery = await this.#findOut();
    nip77.brokenMs += performance.now() - started;
    return recovery;
  }

  async #findOut(): Promise<Recovery> {
    const { nip77 } = this.#visit;
    if (!(await this.#reopen())) return 'gone';
    const id = this.#served ?? (await this.#known());
    if (id === null) {
      nip77.brokenUnchecked += 1;
      return nip77.brokenUnchecked > MAX_BROKEN_UNCHECKED ? 'gone' : 'unchecked';
    }
    if (await this.serves([id])) return 'serves';
    this.#visit.session.connection.close(); // perhaps only the connection hangs
    return (await this.#visit.reconnect()) && (await this.serves([id])) ? 'serves' : 'gone';
  }

  async #reopen(): Promise<boolean> {
    return this.#visit.session.connection.isOpen || (await this.#visit.reconnect());
  }

  #missing(ids: readonly string[]): string[] {
    return ids.filter((id) => !this.#fetched.times.has(id));
  }

  /** @returns how the answer broke off; null when it was complete, or all of its events arrived */
  async #ask({ ids, empty: emptyBefore }: Asked): Promise<PageEnd | null> {
    const end = await this.#request(ids, this.#fetched);
    crashPoint('during-reconcile', this.#visit.relay.url);
    const missing = this.#missing(ids);
    if (missing.length === 0) return null;
    const isEmpty = missing.length === ids.length;
    if (end.type === 'closed') return this.#takeRefusal(end, ids, missing);
    if (end.type === 'more' && !isEmpty) this.#open.push({ ids: missing, empty: 0 });
    else if (end.type === 'eose' || end.type === 'finish') {
      const empty = isEmpty ? emptyBefore + 1 : 1;
      if (empty < EMPTY_ANSWERS) this.#open.push({ ids: missing, empty });
      else for (const id of missing) this.#fetched.withheld.set(id, 'not_served');
    } else if (end.type === 'aborted' || end.type === 'more') this.#isOver = true;
    else return end;
    return null;
  }

  #takeRefusal(
    end: Extract<PageEnd, { type: 'closed' }>,
    ids: readonly string[],
    missing: readonly string[],
  ): PageEnd | null {
    const refusal = refusalOf(end.text);
    if (refusal === 'rate_limited') this.#isOver = true;
    else if (refusal === 'too_many_values' && missing.length > 1) {
      this.#visit.nip77.maxIds = Math.floor(ids.length / 2);
      this.#openHalves(missing);
    } else {
      const reason = reasonOf(end.text);
      if (reason === null) return end;
      if (missing.length > 1 && this.#mayBeRefusedAgain()) this.#openHalves(missing);
      else for (const id of missing) this.#fetched.withheld.set(id, reason);
    }
    return null;
  }

  /** Refused ids are requested in two halves, so that one refused id does not exclude the others. */
  #mayBeRefusedAgain(): boolean {
    const { nip77 } = this.#visit;
    nip77.refusedRequests += 1;
    return nip77.refusedRequests < (nip77.hasServed ? MAX_REFUSED_REQUESTS : MAX_REFUSED_UNSERVED);
  }

  #openHalves(ids: readonly string[]): void {
    for (const half of halves(ids).reverse())
      if (half.length > 0) this.#open.push({ ids: half, empty: 0 });
  }

  async #request(ids: readonly string[], { times }: Fetched): Promise<PageEnd> {
    const { nip77 } = this.#visit;
    const asked = new Set(ids);
    const add = (id: string, createdAt: number) => {
      if (!asked.has(id) || times.has(id)) return false;
      times.set(id, createdAt);
      nip77.hasServed = true;
      this.#served = id;
      return true;
    };
    if (!(await this.#reopen())) return { type: 'disconnected', text: 'not connected' };
    const started = performance.now();
    const end = await this.#visit.askOptional(
      { ids, limit: ids.length },
      { add },
      this.#patience(),
    );
    const tookMs = performance.now() - started;
    if (end.type === 'eose' || end.type === 'finish')
      nip77.slowestMs = Math.max(nip77.slowestMs, tookMs);
    else if (end.type !== 'closed') nip77.brokenMs += tookMs;
    return end;
  }

  #patience(): { idleTimeoutMs?: number } {
    const { nip77, context } = this.#visit;
    if (nip77.brokenAnswers === 0) return {};
    const enough = Math.max(PATIENCE_MIN_MS, nip77.slowestMs * PATIENCE_TIMES);
    return { idleTimeoutMs: Math.min(context.requestTimeoutMs, enough) };
  }
}

/** The reason in CLOSED for ids that did not arrive; null for an error, which says nothing about them. */
function reasonOf(text: string): WithheldReason | null {
  const refusal = refusalOf(text);
  if (refusal === 'auth_required' || refusal === 'restricted') return refusal;
  return refusal === 'blocked' || REFUSED.test(text) ? 'refused' : null;
}

/** The number of ids in a REQ, by the limits of the relay: NIP-11 `max_limit`, `max_message_length`, and learnt refusals. */
function idsARequest({ terms, policy, nip77 }: Visit): number {
  const { max_limit, max_message_length } = terms.limitation ?? {};
  const fitting = max_message_length
    ? Math.floor((max_message_length - ENVELOPE) / BYTES_AN_ID)
    : IDS_A_REQ;
  const limit = Math.min(
    max_limit || IDS_A_REQ,
    policy.current.pageLimit ?? IDS_A_REQ,
    nip77.maxIds,
  );
  return Math.max(1, Math.min(IDS_A_REQ, limit, fitting));
}

function halves(ids: readonly string[]): [string[], string[]] {
  const middle = Math.ceil(ids.length / 2);
  return [ids.slice(0, middle), ids.slice(middle)];
}

export function* chunks<T>(items: readonly T[], size: number): Generator<T[]> {
  for (let from = 0; from < items.length; from += size) yield items.slice(from, from + size);
}
