import type { Socket } from 'node:net';
import type { RawData, WebSocket } from 'ws';
import type { Query } from '../../database/connection.ts';
import { TOOK_TOO_LONG } from '../../database/connection.ts';
import { codeOf, DatabaseError, isDataError } from '../../database/error.ts';
import { type ClientMessage, parseClientMessage } from '../../nostr/client-message.ts';
import type { ReqFilter } from '../../nostr/filter.ts';
import { unixNow } from '../../nostr/unix-time.ts';
import { accessPathOf, NARROW, selectionOf } from '../query/event-query.ts';
import { Authentication } from './authentication.ts';
import { READER_FACTOR, type RelayContext } from './context.ts';
import { countEvents } from './count.ts';
import { Outbox } from './outbox.ts';
import { Reconciliations } from './reconciliations.ts';
import { storedEvents } from './stored-events.ts';
import { Subscription } from './subscription.ts';

const READ_ONLY = 'restricted: read-only archive';
const TOO_FAST = 'rate-limited: too many messages, wait a moment';
const NOT_READY = 'error: the archive cannot be read now, try again later';
/** What a message costs of the rate of a client. */
const COST: Readonly<Partial<Record<ClientMessage['type'], number>>> = {
  ...{ CLOSE: 0, 'NEG-CLOSE': 0, COUNT: 2, 'NEG-OPEN': 5 },
};
type Request = Extract<ClientMessage, { type: 'REQ' | 'COUNT' }>;
/** Close code of a client that does not keep to the rules (RFC 6455). */
const POLICY = 1008;

/** One connection: what its client asks for, one request after another. */
export class Client {
  readonly #context: RelayContext;
  readonly #address: string;
  readonly #socket: WebSocket;
  readonly #outbox: Outbox;
  readonly #authentication: Authentication;
  readonly #reconciliations: Reconciliations;
  readonly #subscriptions = new Map<string, Subscription>();
  readonly #jobs: (() => Promise<void>)[] = [];
  #isWorking = false;
  #refused = 0;

  /** @param address by which the client is limited */
  constructor(context: RelayContext, socket: WebSocket, stream: Socket, address: string) {
    this.#context = context;
    this.#address = address;
    this.#socket = socket;
    this.#outbox = new Outbox(socket, stream, context.limits, () => {
      context.metrics.relayClientEnded('slow');
    });
    this.#authentication = new Authentication(context, (message) => this.#send(...message));
    this.#reconciliations = new Reconciliations(
      (work) => this.#read(work),
      context.limits.maxRecords,
      (message) => this.#send(...message),
    );
    socket.on('message', (data, isBinary) => this.#receive(data, isBinary));
    socket.on('error', () => socket.terminate());
    socket.once('close', () => this.#release());
    this.#authentication.challenge();
  }

  /** Bytes that the client has not taken yet. */
  get unread(): number {
    return this.#outbox.unread;
  }

  /** Ends the connection: the service stops, or memory is short. */
  end(code: number, reason: string): void {
    this.#socket.close(code, reason);
    setTimeout(() => this.#socket.terminate(), 1000).unref();
  }

  #send(...message: unknown[]): void {
    this.#outbox.send(JSON.stringify(message));
  }

  #receive(data: RawData, isBinary: boolean): void {
    const { limits, metrics } = this.#context;
    if (isBinary) {
      this.#send('NOTICE', 'invalid: messages are text');
      return;
    }
    const message = parseClientMessage(data.toString(), limits);
    metrics.relayMessage(message.type);
    if (!this.#mayAsk(message)) this.#refuseRate(message);
    else {
      this.#refused = 0;
      this.#answer(message);
    }
  }

  #mayAsk({ type }: ClientMessage): boolean {
    const cost = COST[type] ?? 1;
    const factor = this.#authentication.isReader ? READER_FACTOR : 1;
    return cost === 0 || this.#context.rate.take(this.#address, cost / factor);
  }

  #refuseRate(message: ClientMessage): void {
    this.#refused += 1;
    this.#refuse(message, TOO_FAST);
    if (this.#refused <= this.#context.limits.maxRefused) return;
    this.#context.metrics.relayClientEnded('rate');
    this.end(POLICY, TOO_FAST);
  }

  /** Refuses a message by the answer that its kind has. */
  #refuse(message: ClientMessage, text: string): void {
    const verb = message.type === 'INVALID' ? message.verb : message.type;
    const subscription = 'subscription' in message ? message.subscription : null;
    if (message.type === 'EVENT' && message.id !== null) this.#send('OK', message.id, false, text);
    else if (subscription !== null && (verb === 'REQ' || verb === 'COUNT'))
      this.#send('CLOSED', subscription, text);
    else if (subscription !== null && verb?.startsWith('NEG-'))
      this.#send('NEG-ERR', subscription, text);
    else this.#send('NOTICE', text);
  }

  #answer(message: ClientMessage): void {
    switch (message.type) {
      case 'INVALID':
        if (message.verb === 'REQ' && message.subscription !== null)
          this.#close(message.subscription); // a refused REQ takes the place of the one before
        this.#refuse(message, message.text);
        break;
      case 'EVENT':
        this.#refuse(message, READ_ONLY);
        break;
      case 'AUTH':
        this.#authentication.accept(message.event);
        break;
      case 'CLOSE':
        this.#close(message.subscription);
        break;
      case 'REQ':
        this.#subscribe(message);
        break;
      case 'COUNT':
        this.#enqueue(message, () => this.#count(message));
        break;
      case 'NEG-CLOSE':
        this.#reconciliations.close(message.subscription);
        break;
      default:
        this.#enqueue(message, () => this.#reconcile(message));
    }
  }

  #close(id: string): void {
    const subscription = this.#subscriptions.get(id);
    if (!subscription) return;
    this.#subscriptions.delete(id);
    this.#context.live.delete(subscription);
    subscription.end(null);
  }

  #subscribe(message: Request): void {
    const { live } = this.#context;
    const { subscription: id, filters } = message;
    this.#close(id);
    const refusal = this.#subscriptionRefusal();
    if (refusal !== null) {
      this.#send('CLOSED', id, refusal);
      return;
    }
    const subscription = new Subscription(id, filters, this.#outbox);
    this.#subscriptions.set(id, subscription);
    live.add(subscription, this.#authentication.viewer());
    if (!this.#enqueue(message, () => this.#sendStored(subscription))) this.#close(id);
  }

  #subscriptionRefusal(): string | null {
    if (!this.#context.archive()) return NOT_READY;
    for (const [id, { hasEnded }] of this.#subscriptions)
      if (hasEnded) this.#subscriptions.delete(id);
    const factor = this.#authentication.isReader ? READER_FACTOR : 1;
    const most = this.#context.limits.maxSubscriptions * factor;
    if (this.#subscriptions.size < most) return null;
    return `rate-limited: at most ${most} subscriptions at a time`;
  }

  async #sendStored(subscription: Subscription): Promise<void> {
    if (subscription.hasEnded) return;
    const { limits, live, metrics, tags } = this.#context;
    const events = storedEvents(
      subscription.filters,
      this.#authentication.viewer(),
      limits,
      { read: (work) => this.#read(work), tags },
      unixNow(),
    );
    try {
      for (;;) {
        const { done, value } = await events.next();
        if (subscription.hasEnded) return;
        if (done) {
          subscription.endStored(value);
          live.settleLater(subscription);
          return;
        }
        subscription.sendStored(value);
        metrics.relayEventsSent(value.length);
        if (!(await this.#outbox.drained())) return;
      }
    } catch (error) {
      this.#close(subscription.id);
      this.#send('CLOSED', subscription.id, this.#textOf(error, subscription.filters));
    }
  }

  async #count({ subscription, filters }: Request): Promise<void> {
    try {
      const counted = await countEvents(filters, (work) => this.#read(work));
      this.#send('COUNT', subscription, counted);
    } catch (error) {
      this.#send('CLOSED', subscription, this.#textOf(error, filters));
    }
  }

  async #reconcile(
    message: Extract<ClientMessage, { type: 'NEG-OPEN' | 'NEG-MSG' }>,
  ): Promise<void> {
    try {
      if (message.type === 'NEG-OPEN') await this.#reconciliations.open(message);
      else await this.#reconciliations.answer(message);
    } catch (error) {
      this.#reconciliations.close(message.subscription);
      const filters = message.type === 'NEG-OPEN' ? [message.filter] : [];
      this.#send('NEG-ERR', message.subscription, this.#textOf(error, filters));
    }
    await this.#outbox.drained();
  }

  /** Runs a job when those before it are done. @returns false where too many wait, and it is refused */
  #enqueue(message: ClientMessage, job: () => Promise<void>): boolean {
    if (this.#jobs.length >= this.#context.limits.maxWaiting) {
      this.#refuse(message, 'rate-limited: too many requests wait for an answer');
      return false;
    }
    this.#jobs.push(job);
    if (!this.#isWorking) void this.#work();
    return true;
  }

  async #work(): Promise<void> {
    this.#isWorking = true;
    for (let job = this.#jobs.shift(); job; job = this.#jobs.shift()) await job();
    this.#isWorking = false;
  }

  async #read<T>(work: (query: Query, shards: number) => Promise<T>): Promise<T> {
    const archive = this.#context.archive();
    if (!archive) throw new NotReady();
    return this.#context.gate.run(this.#address, () => archive.read(work));
  }

  /** What the client learns of an error: nothing of our database. */
  #textOf(error: unknown, filters: readonly ReqFilter[]): string {
    if (error instanceof NotReady) return NOT_READY;
    if (codeOf(error) === TOOK_TOO_LONG) {
      const selection = selectionOf(filters[0] ?? {});
      return `error: this takes too long: ${NARROW[selection ? accessPathOf(selection) : 'time']}`;
    }
    if (error instanceof DatabaseError || isDataError(error)) return NOT_READY;
    this.#context.log.error({ err: error }, 'a request failed');
    return 'error: the request failed here';
  }

  #release(): void {
    this.#jobs.length = 0;
    for (const id of [...this.#subscriptions.keys()]) this.#close(id);
    this.#reconciliations.closeAll();
  }
}

class NotReady extends Error {}
