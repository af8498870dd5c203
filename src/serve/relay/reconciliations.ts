import { NegentropyError } from '../../nip77/message.ts';
import { NegentropyResponder } from '../../nip77/responder.ts';
import type { ClientMessage } from '../../nostr/client-message.ts';
import { ArchiveSet, Refusal, SessionMemory } from './archive-set.ts';
import type { Read } from './stored-events.ts';

/** Sessions of one connection. */
const MAX_SESSIONS = 8;
/** Bytes of an answer; its hex has twice as many characters. */
const FRAME_BYTES = 200_000;
/** A session without a message for this long is closed, in milliseconds. */
const IDLE_MS = 120_000;

interface Session {
  readonly responder: NegentropyResponder;
  readonly archive: ArchiveSet;
  idle: NodeJS.Timeout;
}

/** The reconciliations of one client (NIP-77). */
export class Reconciliations {
  readonly #read: Read;
  readonly #maxRecords: number;
  readonly #send: (message: readonly unknown[]) => void;
  readonly #sessions = new Map<string, Session>();

  /** @param maxRecords ids that one session may hold in memory */
  constructor(read: Read, maxRecords: number, send: (message: readonly unknown[]) => void) {
    this.#read = read;
    this.#maxRecords = maxRecords;
    this.#send = send;
  }

  /** Begins a session and answers its first message. @throws DatabaseError */
  async open({
    subscription,
    filter,
    payload,
  }: Extract<ClientMessage, { type: 'NEG-OPEN' }>): Promise<void> {
    this.close(subscription);
    if (this.#sessions.size >= MAX_SESSIONS) {
      this.#refuse(subscription, `blocked: at most ${MAX_SESSIONS} sessions at a time`);
      return;
    }
    const memory = new SessionMemory(this.#maxRecords);
    try {
      const archive = await ArchiveSet.open(filter, this.#read, memory);
      const responder = new NegentropyResponder(archive.set, FRAME_BYTES);
      const idle = this.#endWhenIdle(subscription);
      this.#sessions.set(subscription, { responder, archive, idle });
    } catch (error) {
      memory.release();
      if (!(error instanceof Refusal)) throw error;
      this.#refuse(subscription, error.message, error.most);
      return;
    }
    await this.#answer(subscription, payload);
  }

  /** Answers a further message of a session. @throws DatabaseError */
  async answer({
    subscription,
    payload,
  }: Extract<ClientMessage, { type: 'NEG-MSG' }>): Promise<void> {
    if (this.#sessions.has(subscription)) await this.#answer(subscription, payload);
    else this.#refuse(subscription, 'closed: there is no such session');
  }

  close(subscription: string): void {
    const session = this.#sessions.get(subscription);
    if (!session) return;
    clearTimeout(session.idle);
    session.archive.memory.release();
    this.#sessions.delete(subscription);
  }

  closeAll(): void {
    for (const subscription of [...this.#sessions.keys()]) this.close(subscription);
  }

  async #answer(subscription: string, payload: string): Promise<void> {
    const session = this.#sessions.get(subscription);
    if (!session) return;
    clearTimeout(session.idle);
    session.archive.memory.beginAnswer();
    try {
      const answer = await session.responder.answer(payload);
      session.archive.tidy();
      if (this.#sessions.get(subscription) !== session) return;
      this.#send(['NEG-MSG', subscription, answer]);
      session.idle = this.#endWhenIdle(subscription);
    } catch (error) {
      if (error instanceof Refusal) this.#refuse(subscription, error.message, error.most);
      else if (error instanceof NegentropyError)
        this.#refuse(subscription, `invalid: ${error.message}`);
      else throw error;
    }
  }

  #endWhenIdle(subscription: string): NodeJS.Timeout {
    const end = () => this.#refuse(subscription, 'closed: no message came for too long');
    return setTimeout(end, IDLE_MS).unref();
  }

  #refuse(subscription: string, text: string, most: number | null = null): void {
    this.close(subscription);
    this.#send(['NEG-ERR', subscription, text, ...(most === null ? [] : [most])]);
  }
}
