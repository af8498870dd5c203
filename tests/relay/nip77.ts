import { randomBytes } from 'node:crypto';
import type { NostrEvent } from '../../src/nostr/event.ts';
import { NegentropyResponder, type SetItem } from './negentropy-responder.ts';
import type { RelayRecord } from './record.ts';
import type { Reply } from './session.ts';
import { answersFilter, type RelayFilter } from './store.ts';

/** What comes in place of an answer. */
export type Nip77Trouble =
  | 'silence'
  | 'disconnect'
  /** The right answer, under the id of somebody else's session. */
  | 'wrong-subscription'
  /** The right answer, two times. */
  | 'twice'
  | { readonly notice: string }
  | { readonly closed: string }
  | { readonly error: string }
  /** Anything at all, in hex or not. */
  | { readonly payload: string };

export interface Nip77Options {
  /** What the relay holds, where that is not the events of its store. */
  readonly items?: readonly SetItem[];
  /** Events that it lists besides those of its store, and does not serve. */
  readonly withheld?: Iterable<NostrEvent>;
  /** Leaves out of its list what is dated later (`above`) or earlier (`below`): an index that is behind, or was begun late. */
  readonly index?: { readonly above?: number; readonly below?: number };
  /** Bytes of an answer; 500,000 unless told, as strfry has it. */
  readonly frameSizeLimit?: number;
  /** A NEG-OPEN that matches more is answered with NEG-ERR `blocked:`. */
  readonly maxIds?: number;
  /** A NEG-OPEN whose filter names more kinds is answered with NEG-ERR and this text. */
  readonly maxKinds?: { readonly count: number; readonly says: string };
  /** Reconciles only this number of newest events, silently. */
  readonly cap?: number;
  /** Answers lists of ids with Skip, as an initiator would that was put in a responder's place. */
  readonly skipsLists?: boolean;
  /** Never agrees: sends false `fingerprints`, or a number of unknown `ids` in each answer. */
  readonly endless?: 'fingerprints' | { readonly ids: number };
  /** Every NEG-OPEN is answered after this time, in milliseconds. */
  readonly openDelayMs?: number;
  /** From which answer on, 1 being that to NEG-OPEN, and what. */
  readonly trouble?: { readonly round: number; readonly what: Nip77Trouble };
}

/** What a relay has seen of NIP-77. */
export interface Nip77Record {
  /** The filters of all NEG-OPEN, in order. */
  readonly opened: readonly RelayFilter[];
  /** Sessions now open. */
  readonly open: number;
  /** Characters of the longest payload of a client. */
  readonly longest: number;
  /** Characters of all payloads, in both directions. */
  readonly characters: number;
}

/** Of a relay that does not serve NIP-77. */
export const NOT_SERVED: Nip77Record = { opened: [], open: 0, longest: 0, characters: 0 };

interface Session {
  readonly responder: NegentropyResponder;
  round: number;
}

/** What the relay lends to its NIP-77. */
interface Nip77House {
  /** What it holds, newest first. */
  readonly events: readonly NostrEvent[];
  readonly record: Pick<RelayRecord, 'fire'>;
  /** Cuts every connection. */
  dropAll(): void;
}

/** The NIP-77 of a scripted relay. What it does wrong is noted in the record of the relay, as `nip77-` and its name. */
export class Nip77Server implements Nip77Record {
  readonly opened: RelayFilter[] = [];
  longest = 0;
  characters = 0;
  readonly #house: Nip77House;
  readonly #options: Nip77Options;
  readonly #sessions = new Map<string, Session>();

  constructor(house: Nip77House, options: Nip77Options) {
    this.#house = house;
    this.#options = options;
  }

  /** Answers a message of NIP-77. @returns false for any other message */
  receive(message: readonly unknown[], reply: Reply): boolean {
    if (message[0] === 'NEG-OPEN') this.#negOpen(message, reply);
    else if (message[0] === 'NEG-MSG') this.#negMsg(message, reply);
    else if (message[0] === 'NEG-CLOSE') this.#sessions.delete(String(message[1]));
    else return false;
    return true;
  }

  /** Forgets what was seen; sessions go on. */
  forget(): void {
    this.opened.length = 0;
    this.longest = 0;
    this.characters = 0;
  }

  get open(): number {
    return this.#sessions.size;
  }

  #negOpen(message: readonly unknown[], reply: Reply): void {
    const { openDelayMs } = this.#options;
    if (!openDelayMs) {
      this.#open(message, reply);
      return;
    }
    this.#fire('openDelay');
    setTimeout(() => this.#open(message, reply), openDelayMs);
  }

  #open([, id, filter, payload]: readonly unknown[], reply: Reply): void {
    const { maxKinds } = this.#options;
    if (maxKinds && ((filter as RelayFilter).kinds?.length ?? 0) > maxKinds.count) {
      this.#fire('maxKinds');
      reply('NEG-ERR', id, maxKinds.says);
      return;
    }
    this.opened.push(filter as RelayFilter);
    const items = this.#select(filter as RelayFilter);
    const { maxIds = Number.POSITIVE_INFINITY, frameSizeLimit } = this.#options;
    if (items.length > maxIds) {
      this.#fire('blocked');
      reply('NEG-ERR', id, 'blocked: too many query results', maxIds);
      return;
    }
    const responder = new NegentropyResponder(items, frameSizeLimit);
    this.#sessions.set(String(id), { responder, round: 0 });
    this.#answer(String(id), String(payload), reply);
  }

  #negMsg([, id, payload]: readonly unknown[], reply: Reply): void {
    if (this.#sessions.has(String(id))) this.#answer(String(id), String(payload), reply);
    else reply('NEG-ERR', id, 'closed: unknown subscription handle');
  }

  #fire(name: string): void {
    this.#house.record.fire(`nip77-${name}`);
  }

  #select(filter: RelayFilter): SetItem[] {
    const { items, cap, withheld = [], index } = this.#options;
    const { since = 0, until = Number.POSITIVE_INFINITY } = filter;
    const matching = items
      ? items.filter(({ createdAt }) => createdAt >= since && createdAt <= until)
      : [...this.#house.events, ...withheld]
          .filter((event) => answersFilter(event, filter))
          .map(({ created_at, id }) => ({ createdAt: created_at, id }))
          .filter(({ createdAt }) => isIndexed(createdAt, index));
    if (cap === undefined || matching.length <= cap) return matching;
    this.#fire('cap');
    return matching.sort((a, b) => b.createdAt - a.createdAt).slice(0, cap);
  }

  #answer(id: string, payload: string, reply: Reply): void {
    const session = this.#sessions.get(id) as Session;
    session.round += 1;
    this.longest = Math.max(this.longest, payload.length);
    const { trouble } = this.#options;
    const answer = this.#compose(session, payload);
    this.characters += payload.length + answer.length;
    if (trouble && session.round >= trouble.round)
      this.#makeTrouble(trouble.what, id, answer, reply);
    else reply('NEG-MSG', id, answer);
  }

  #compose({ responder }: Session, payload: string): string {
    const { endless, skipsLists } = this.#options;
    if (endless) this.#fire('endless');
    if (endless === 'fingerprints') return `61000001${randomBytes(16).toString('hex')}`;
    if (endless)
      return `61000002${varint(endless.ids)}${randomBytes(32 * endless.ids).toString('hex')}`;
    if (skipsLists && payload.startsWith('61000002')) {
      this.#fire('skipsLists');
      return '61';
    }
    return responder.answer(payload);
  }

  #makeTrouble(what: Nip77Trouble, id: string, answer: string, reply: Reply): void {
    this.#fire(typeof what === 'string' ? what : (Object.keys(what)[0] ?? ''));
    if (what === 'disconnect') this.#disconnect();
    else if (what === 'wrong-subscription') reply('NEG-MSG', `${id}x`, answer);
    else if (what === 'twice') for (let i = 0; i < 2; i++) reply('NEG-MSG', id, answer);
    else if (what === 'silence') return;
    else if ('notice' in what) reply('NOTICE', what.notice);
    else if ('closed' in what) reply('CLOSED', id, what.closed);
    else if ('error' in what) this.#fail(id, what.error, reply);
    else reply('NEG-MSG', id, what.payload);
  }

  #disconnect(): void {
    this.#sessions.clear();
    this.#house.dropAll();
  }

  #fail(id: string, text: string, reply: Reply): void {
    this.#sessions.delete(id);
    reply('NEG-ERR', id, text);
  }
}

function isIndexed(createdAt: number, index: Nip77Options['index']): boolean {
  const { above = Number.POSITIVE_INFINITY, below = Number.NEGATIVE_INFINITY } = index ?? {};
  return createdAt <= above && createdAt >= below;
}

function varint(value: number): string {
  const digits = [value % 128];
  for (let rest = Math.floor(value / 128); rest > 0; rest = Math.floor(rest / 128))
    digits.unshift((rest % 128) + 128);
  return Buffer.from(digits).toString('hex');
}
