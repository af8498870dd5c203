import type { NostrEvent } from '../../nostr/event.ts';
import type { ReqFilter } from '../../nostr/filter.ts';
import type { Outbox } from './outbox.ts';
import type { Completeness } from './stored-events.ts';

/** Events that come while stored ones are being sent, at most; a subscription with more is ended. */
const MAX_WAITING = 2000;

/**
 * One subscription of a client.
 *
 * States:
 * - **stored**: stored events are being sent. New events wait.
 * - **open**: after EOSE. New events are sent as they come.
 * - **ended**: by the client or by us. Nothing is sent any more.
 *
 * Guaranteed: no event that was sent as stored is sent again as new, as long as its commit is read from the journal in the
 * usual time.
 */
export class Subscription {
  readonly id: string;
  readonly filters: readonly ReqFilter[];
  readonly #outbox: Outbox;
  /** The beginning of an EVENT message. */
  readonly #head: string;
  #waiting: { readonly event: NostrEvent; readonly json: string }[] = [];
  /** Ids that were sent as stored; null when none of them can come as new any more. */
  #sent: Set<string> | null = new Set();
  #state: 'stored' | 'open' | 'ended' = 'stored';

  constructor(id: string, filters: readonly ReqFilter[], outbox: Outbox) {
    this.id = id;
    this.filters = filters;
    this.#outbox = outbox;
    this.#head = `["EVENT",${JSON.stringify(id)},`;
  }

  get hasEnded(): boolean {
    return this.#state === 'ended';
  }

  sendStored(events: readonly NostrEvent[]): void {
    if (this.hasEnded) return;
    for (const { id } of events) this.#sent?.add(id);
    const head = this.#head;
    this.#outbox.sendAll(
      (function* () {
        for (const event of events) yield `${head}${JSON.stringify(event)}]`;
      })(),
    );
  }

  /** Sends EOSE, with what is known of its completeness (NIP-67), and what came meanwhile. */
  endStored(completeness: Completeness): void {
    if (this.hasEnded) return;
    const hint = completeness === 'unknown' ? [] : [[completeness]];
    this.#outbox.send(JSON.stringify(['EOSE', this.id, ...hint]));
    this.#state = 'open';
    for (const { event, json } of this.#waiting.splice(0)) this.offer(event, json);
  }

  /**
   * Takes a new event.
   *
   * @param json the event
   * @returns false if too many wait
   */
  offer(event: NostrEvent, json: string): boolean {
    if (this.#state === 'stored') {
      this.#waiting.push({ event, json });
      return this.#waiting.length <= MAX_WAITING;
    }
    if (this.#state === 'open' && !this.#sent?.has(event.id))
      this.#outbox.send(`${this.#head}${json}]`);
    return true;
  }

  /** What was sent as stored does not come as new any more. */
  settle(): void {
    this.#sent = null;
  }

  /** Ends it. @param text the reason, for the client; null where it has ended it itself */
  end(text: string | null): void {
    if (this.hasEnded) return;
    this.#state = 'ended';
    this.#waiting = [];
    this.#sent = null;
    if (text !== null) this.#outbox.send(JSON.stringify(['CLOSED', this.id, text]));
  }
}
