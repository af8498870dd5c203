import { randomUUID } from 'node:crypto';
import type { NostrEvent } from '../../src/nostr/event.ts';
import { isValidEvent } from '../fixtures/events.ts';
import { OpenSubscription } from './answer.ts';
import type { Nip77Options, Nip77Server } from './nip77.ts';
import type { OnRequest, Quirk, Say } from './quirks.ts';
import type { RelayRecord, SeenRequest } from './record.ts';
import { type EventStore, filterFault, type RelayFilter } from './store.ts';
import type { RelayWire } from './wire.ts';

export interface AuthPolicy {
  /** What needs authentication (NIP-42): both unless told. */
  readonly reads?: boolean;
  readonly writes?: boolean;
  /** When the challenge comes: on connecting (unless told), or right before the refusal. */
  readonly challenge?: 'on-connect' | 'on-demand';
  /** Who may do it once authenticated; the others are `restricted:`. All unless told. */
  readonly allow?: (pubkey: string) => boolean;
  /** Accepts every AUTH, and wants another one for every REQ. */
  readonly loop?: boolean;
  /** Answers every AUTH with OK false and this text. */
  readonly refuse?: string;
  /** Serves a client whose AUTH was refused as well: what it says is without effect. */
  readonly servesRefused?: boolean;
  /** Leaves requests unanswered until an AUTH was taken, where others refuse them: for good, or to answer them then. */
  readonly holds?: 'for-good' | 'until-auth';
  /** Takes an AUTH and never says OK to it, or says so only after this time in milliseconds. */
  readonly ok?: 'never' | { readonly afterMs: number };
}

/** What becomes of a client's EVENT: `silent` gives no OK; `refuse` and `pow` give a false one. */
export type WritePolicy =
  | 'accept'
  | 'silent'
  | { readonly refuse: string }
  | { readonly pow: number };

/** Handles a message of a type that the relay does not know itself, such as COUNT. */
export type Verb = (message: readonly unknown[], reply: Reply) => void;
/** Sends a message to the client. */
export type Reply = (...parts: readonly unknown[]) => void;

/** What a scripted relay does with messages; every part can be changed while it runs. */
export interface RelayScript {
  /** How REQs are answered unless `onRequest` says otherwise. */
  readonly quirk?: Quirk;
  /** Its quirk is laid over the usual one, for this REQ. */
  readonly onRequest?: OnRequest;
  readonly auth?: AuthPolicy;
  readonly write?: WritePolicy;
  /** Keeps events of kinds 20000 to 29999; not unless told. */
  readonly storesEphemeral?: boolean;
  /** Open subscriptions a connection; one more is refused. */
  readonly maxSubscriptions?: { readonly count: number; readonly say: Say };
  /** Longer messages are refused with a NOTICE. */
  readonly maxMessageBytes?: number;
  /** Serves NIP-77; not unless told. A change begins it anew. */
  readonly nip77?: Nip77Options | null;
  /** How messages are answered that the relay does not know itself. */
  readonly verbs?: Readonly<Record<string, Verb>>;
  /** What becomes of `search` in a filter (NIP-50): without it a filter that has one is refused. */
  readonly search?: 'matched' | 'ignored';
  /** A NOTICE on each new connection, after this time in milliseconds. */
  readonly greeting?: { readonly text: string; readonly afterMs?: number };
  /** The first message of each connection is lost. */
  readonly losesFirst?: boolean;
  /** Says nothing to messages that it does not know, where others send a NOTICE. */
  readonly silentToUnknown?: boolean;
}

/** What the sessions of one relay share. */
export interface RelayHouse {
  readonly store: EventStore;
  readonly record: RelayRecord;
  /** Host and port, for the relay tag of NIP-42. */
  readonly host: string;
  readonly script: RelayScript;
  /** Null while NIP-77 is not served. */
  readonly nip77Server: Nip77Server | null;
  /** Pushes a new event to every open subscription that it matches. */
  broadcast(event: NostrEvent): void;
}

/** One connection of a client, from the relay's side. */
export class RelaySession {
  readonly #house: RelayHouse;
  readonly #wire: RelayWire;
  readonly #connection: number;
  readonly #subscriptions = new Map<string, OpenSubscription>();
  #challenge: string | null = null;
  #pubkey: string | null = null;
  #wasRefused = false;
  /** Requests that wait for an AUTH. */
  readonly #held: (() => void)[] = [];
  #received = 0;

  constructor(house: RelayHouse, wire: RelayWire, connection: number) {
    this.#house = house;
    this.#wire = wire;
    this.#connection = connection;
    const { auth, greeting } = house.script;
    if (auth && auth.challenge !== 'on-demand') this.#sendChallenge();
    if (greeting) void this.#greet(greeting);
  }

  async #greet({ text, afterMs = 0 }: { text: string; afterMs?: number }): Promise<void> {
    await this.#wire.pause(afterMs);
    this.#house.record.fire('greeting');
    this.#wire.message('NOTICE', text);
  }

  push(event: NostrEvent): void {
    for (const subscription of this.#subscriptions.values()) subscription.push(event);
  }

  receive(data: Buffer): void {
    const { record, script } = this.#house;
    record.bytes.received += data.length;
    const message = parseJson(data.toString());
    record.messages.push({ connection: this.#connection, message });
    this.#received += 1;
    if (script.losesFirst && this.#received === 1) {
      record.fire('losesFirst');
      return;
    }
    if (data.length > (script.maxMessageBytes ?? Number.POSITIVE_INFINITY)) {
      record.fire('maxMessageBytes');
      this.#wire.message(
        'NOTICE',
        `invalid: message is longer than ${script.maxMessageBytes} bytes`,
      );
    } else if (!Array.isArray(message)) {
      this.#wire.message('NOTICE', 'invalid: a message is a JSON array');
    } else {
      this.#handle(message, data.length);
    }
    record.changed();
  }

  #handle(message: readonly unknown[], bytes: number): void {
    const [type, first, ...rest] = message;
    if (type === 'REQ') this.#request(first, rest, bytes);
    else if (type === 'CLOSE') this.#close(String(first));
    else if (type === 'EVENT') this.#publish(first);
    else if (type === 'AUTH') this.#authenticate(first);
    else this.#other(String(type), message);
  }

  #other(type: string, message: readonly unknown[]): void {
    const { script, nip77Server } = this.#house;
    const reply: Reply = (...parts) => this.#wire.message(...parts);
    if (nip77Server?.receive(message, reply)) return;
    const { verbs, silentToUnknown } = script;
    const verb = verbs && Object.hasOwn(verbs, type) ? verbs[type] : undefined;
    if (verb) verb(message, reply);
    else if (silentToUnknown) this.#house.record.fire('silentToUnknown');
    else this.#wire.message('NOTICE', `error: unknown message type ${type.slice(0, 50)}`);
  }

  #request(subscription: unknown, asked: readonly unknown[], bytes: number): void {
    const filters = asked.map((filter) => this.#searched(filter));
    if (typeof subscription !== 'string' || subscription === '' || subscription.length > 64) {
      this.#house.record.fire('invalid-subscription');
      this.#wire.message('NOTICE', 'invalid: a subscription id has 1 to 64 characters');
      return;
    }
    const { record, script } = this.#house;
    const n = record.requests.length + 1;
    const request: SeenRequest = {
      ...{ n, at: performance.now(), connection: this.#connection, subscription, bytes },
      ...{ filters: filters as RelayFilter[], eventsSent: 0, end: null },
    };
    record.requests.push(request);
    const scripted = script.onRequest?.(request, n) ?? 'answer';
    const quirk = { ...script.quirk, ...(scripted === 'answer' ? {} : scripted) };
    this.#close(subscription);
    if (!this.#isRefused(request, quirk)) this.#open(request, quirk);
  }

  /** The filter without its `search`, and with the ids of what was found where it is matched. */
  #searched(filter: unknown): unknown {
    const { script, store } = this.#house;
    if (!script.search || typeof filter !== 'object' || filter === null || !('search' in filter))
      return filter;
    const { search, ...rest } = filter;
    if (script.search === 'ignored') return rest;
    const words = String(search).toLowerCase();
    const found = store.all().filter(({ content }) => content.toLowerCase().includes(words));
    return { ...rest, ids: found.map(({ id }) => id) };
  }

  #open(request: SeenRequest, quirk: Quirk): void {
    const { store, record } = this.#house;
    const subscription = new OpenSubscription(request, quirk, this.#wire, store, record);
    this.#subscriptions.set(request.subscription, subscription);
    void subscription.answer().then(() => {
      if (request.end !== 'closed') return;
      if (this.#subscriptions.get(request.subscription) === subscription)
        this.#close(request.subscription);
    });
  }

  #hold(answer: () => void): true {
    this.#house.record.fire('held');
    if (this.#house.script.auth?.holds === 'until-auth') this.#held.push(answer);
    return true;
  }

  #isRefused(request: SeenRequest, quirk: Quirk): boolean {
    const fault = request.filters.length === 0 ? 'invalid: no filter' : firstFault(request.filters);
    if (fault) return this.#refuse(request, 'invalid-filter', fault);
    if (this.#needsAuth('reads')) {
      if (this.#house.script.auth?.holds) return this.#hold(() => this.#open(request, quirk));
      return this.#refuse(request, 'auth-required', 'auth-required: who are you?');
    }
    if (this.#isRestricted()) return this.#refuse(request, 'restricted', 'restricted: not for you');
    const { maxSubscriptions: most } = this.#house.script;
    if (most && this.#subscriptions.size >= most.count) {
      return this.#refuse(request, 'maxSubscriptions', 'error: too many concurrent REQs', most.say);
    }
    const shape = quirk.refuseFilter;
    if (shape && request.filters.some(shape.when))
      return this.#refuse(request, 'refuseFilter', shape.text, shape.say);
    const many = quirk.refuseFiltersAbove;
    if (many && request.filters.length > many.most)
      return this.#refuse(request, 'refuseFiltersAbove', many.text, many.say);
    const above = quirk.refuseLimitAbove;
    if (above && request.filters.some((filter) => (filter.limit ?? 0) > above.limit)) {
      return this.#refuse(
        request,
        'refuseLimitAbove',
        `invalid: limit must be at most ${above.limit}`,
        above.say,
      );
    }
    return false;
  }

  #refuse(request: SeenRequest, name: string, text: string, say: Say = 'closed'): true {
    request.end = say;
    this.#house.record.fire(name);
    if (say === 'closed') this.#wire.message('CLOSED', request.subscription, text);
    else this.#wire.message('NOTICE', text);
    return true;
  }

  #close(name: string): void {
    this.#subscriptions.get(name)?.cancel();
    this.#subscriptions.delete(name);
  }

  #needsAuth(what: 'reads' | 'writes'): boolean {
    const { auth } = this.#house.script;
    if (!auth || auth[what] === false || (this.#pubkey !== null && !auth.loop)) return false;
    if (auth.servesRefused && this.#wasRefused) return false;
    if (auth.loop || auth.challenge === 'on-demand') this.#sendChallenge();
    return true;
  }

  #isRestricted(): boolean {
    const { auth } = this.#house.script;
    return auth !== undefined && this.#pubkey !== null && auth.allow?.(this.#pubkey) === false;
  }

  #sendChallenge(): void {
    this.#challenge = randomUUID();
    this.#wire.message('AUTH', this.#challenge);
  }

  #authenticate(value: unknown): void {
    const event = asEvent(value);
    const { refuse } = this.#house.script.auth ?? {};
    const fault = event ? (refuse ?? this.#authFault(event)) : 'invalid: not an event';
    if (event && !fault) this.#pubkey = event.pubkey;
    this.#wasRefused ||= fault !== null;
    this.#house.record.fire(fault ? 'auth-failed' : 'auth');
    void this.#confirm(event?.id ?? '', fault);
    if (!fault) for (const answer of this.#held.splice(0)) answer();
  }

  async #confirm(id: string, fault: string | null): Promise<void> {
    const { ok } = this.#house.script.auth ?? {};
    if (ok) this.#house.record.fire('ok-late');
    if (ok === 'never') return;
    if (ok) await this.#wire.pause(ok.afterMs);
    this.#wire.message('OK', id, !fault, fault ?? '');
  }

  #authFault(event: NostrEvent): string | null {
    const tag = (name: string) => event.tags.find(([key]) => key === name)?.[1] ?? '';
    if (event.kind !== 22242) return 'invalid: kind is not 22242';
    if (tag('challenge') !== this.#challenge) return 'invalid: wrong challenge';
    if (!URL.canParse(tag('relay')) || new URL(tag('relay')).host !== this.#house.host)
      return 'invalid: wrong relay';
    if (Math.abs(event.created_at - Date.now() / 1000) > 600)
      return 'invalid: created_at is not now';
    return isValidEvent(event) ? null : 'invalid: id or signature';
  }

  #publish(value: unknown): void {
    const { store, record, script } = this.#house;
    const event = asEvent(value);
    if (!event) {
      this.#wire.message('NOTICE', 'invalid: not an event');
      return;
    }
    record.published.push(event);
    if (script.write === 'silent') {
      record.fire('write-silent');
      return;
    }
    const fault = this.#writeFault(event);
    if (fault) record.fire('write-refused');
    const isKnown = store.has(event.id);
    if (!fault && !isKnown) this.#accept(event);
    this.#wire.message(
      'OK',
      event.id,
      !fault,
      fault ?? (isKnown ? 'duplicate: already have this event' : ''),
    );
  }

  #writeFault(event: NostrEvent): string | null {
    const { write = 'accept' } = this.#house.script;
    if (this.#needsAuth('writes')) return 'auth-required: who are you?';
    if (this.#isRestricted()) return 'restricted: not for you';
    if (!isValidEvent(event)) return 'invalid: id or signature';
    if (typeof write === 'string') return null;
    if ('refuse' in write) return write.refuse;
    const bits = leadingZeroBits(event.id);
    return bits < write.pow ? `pow: difficulty ${bits} is less than ${write.pow}` : null;
  }

  #accept(event: NostrEvent): void {
    const isEphemeral = event.kind >= 20_000 && event.kind < 30_000;
    if (!isEphemeral || this.#house.script.storesEphemeral) this.#house.store.add([event]);
    if (event.kind !== 22242) this.#house.broadcast(event); // NIP-42: never broadcast
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function firstFault(filters: readonly unknown[]): string | null {
  return filters.map(filterFault).find((fault) => fault !== null) ?? null;
}

/** Good enough to look into; whether it is a valid event is another question. */
function asEvent(value: unknown): NostrEvent | null {
  if (typeof value !== 'object' || value === null) return null;
  const { id, tags } = value as Partial<NostrEvent>;
  return typeof id === 'string' && Array.isArray(tags) && tags.every(Array.isArray)
    ? (value as NostrEvent)
    : null;
}

/** The proof of work in an id (NIP-13). */
function leadingZeroBits(id: string): number {
  const digit = /[^0]/.exec(id);
  if (!digit) return 4 * id.length;
  return 4 * digit.index + Math.clz32(Number.parseInt(digit[0], 16)) - 28;
}
