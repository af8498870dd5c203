import { isAddressableKind, isReplaceableKind } from 'nostr-tools/kinds';
import { type NostrEvent, parseEvent } from '../../nostr/event.ts';
import type { ReqFilter } from '../../nostr/filter.ts';
import { readPage } from '../../relay-client/subscription.ts';
import type { Visit } from '../visit.ts';
import type { PageTally } from './tally.ts';

/** Kinds of deletion requests: NIP-09, and NIP-62 for all events of an author. */
const DELETION = 5;
const VANISH = 62;
/** Most events of one second that are looked into, and most seconds that are remembered. */
const MAX_EVENTS = 5;
const MAX_SECONDS = 1000;
/** Newest events of an author that are requested: what removed an event within this visit is among them. */
const NEWEST = 20;

/**
 * Finds out why a relay does not show an event again that it has shown in this reading. Between two requests it may have
 * received a deletion request (NIP-09, NIP-62) or the successor of a replaceable event (NIP-01). A relay that shows one of
 * these hides nothing.
 */
export class GoneEvents {
  readonly #visit: Visit;
  /** Lasting events at the newest and oldest second of each page: the pager may miss these. */
  readonly #shown = new Map<number, Map<string, NostrEvent>>();
  /** Seconds that were looked into: whether all their events are gone for a reason. */
  readonly #answers = new Map<number, boolean>();

  constructor(visit: Visit) {
    this.#visit = visit;
  }

  /** Notes the lasting events of a page. */
  notePage({ newestLasting, oldestLasting }: PageTally, events: readonly NostrEvent[]): void {
    for (const event of events) {
      const second = event.created_at;
      if (second !== newestLasting && second !== oldestLasting) continue;
      const known = this.#shown.get(second);
      if (known) known.set(event.id, event);
      else if (this.#shown.size < MAX_SECONDS)
        this.#shown.set(second, new Map([[event.id, event]]));
    }
  }

  /** Whether the relay shows why each event of this second is gone. Asked once for each second. */
  async areExplained(second: number): Promise<boolean> {
    const answer = this.#answers.get(second) ?? (await this.#ask(second));
    this.#answers.set(second, answer);
    return answer;
  }

  async #ask(second: number): Promise<boolean> {
    const events = [...(this.#shown.get(second)?.values() ?? [])];
    if (events.length === 0 || events.length > MAX_EVENTS) return false;
    for (const event of events) if (!(await this.#isGone(event))) return false;
    return true;
  }

  async #isGone(event: NostrEvent): Promise<boolean> {
    const { pubkey, kind, created_at: since } = event;
    const kinds = [DELETION, VANISH, ...(hasSuccessors(kind) ? [kind] : [])];
    const found = await this.#newest({ authors: [pubkey], kinds, since, limit: NEWEST });
    return found.some((later) => removes(later, event));
  }

  /** Events that verify; they are no part of the reading. None where the relay does not answer. */
  async #newest(filter: ReqFilter): Promise<NostrEvent[]> {
    const visit = this.#visit;
    const { verifier, signal } = visit.context;
    await visit.pace();
    const page = readPage(visit.session.connection, filter, visit.limits, signal);
    const found: NostrEvent[] = [];
    for await (const values of page)
      for (const value of values) {
        const parsed = parseEvent(value);
        if (!parsed.ok || found.length >= NEWEST) continue;
        if (verifier.verify(parsed.event)) found.push(parsed.event);
      }
    return found;
  }
}

function hasSuccessors(kind: number): boolean {
  return isReplaceableKind(kind) || isAddressableKind(kind);
}

/** Whether a relay that holds `later` need not hold `event` any more. */
export function removes(later: NostrEvent, event: NostrEvent): boolean {
  if (later.pubkey !== event.pubkey || later.id === event.id) return false;
  if (later.kind === VANISH) return later.created_at >= event.created_at;
  if (later.kind === DELETION) return event.kind !== DELETION && deletes(later, event);
  if (later.kind !== event.kind || !hasSuccessors(event.kind)) return false;
  const isNewer =
    later.created_at > event.created_at ||
    (later.created_at === event.created_at && later.id < event.id);
  return isNewer && (isReplaceableKind(event.kind) || identifierOf(later) === identifierOf(event));
}

function deletes(deletion: NostrEvent, event: NostrEvent): boolean {
  const address = `${event.kind}:${event.pubkey}:${isAddressableKind(event.kind) ? identifierOf(event) : ''}`;
  const isAddressed = hasSuccessors(event.kind) && deletion.created_at >= event.created_at;
  return deletion.tags.some(
    ([name, value]) =>
      (name === 'e' && value === event.id) || (isAddressed && name === 'a' && value === address),
  );
}

/** The `d` tag of an addressable event. */
function identifierOf({ tags }: NostrEvent): string {
  return tags.find(([name]) => name === 'd')?.[1] ?? '';
}
