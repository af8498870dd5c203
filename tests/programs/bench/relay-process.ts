/**
 * The relays of the bench, in a process of their own so that their work can be told from ours. They send what was
 * serialised beforehand: a page is a few copies of bytes. `ws://127.0.0.1:port/<set>/<delay>/<handshake delay>/<name>` is
 * a relay that holds that set, answers each REQ and the handshake after these milliseconds, and differs from others by its
 * name alone.
 */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { type WebSocket, WebSocketServer } from 'ws';
import { type EventSet, eventsOf } from './event-set.ts';

export type ToRelays =
  | { readonly type: 'hold'; readonly name: string; readonly set: EventSet }
  | { readonly type: 'drop'; readonly name: string }
  /** Answered by `seen`; counts anew which relays have two connections at once. */
  | { readonly type: 'count' }
  | { readonly type: 'stop' };
export type FromRelays =
  | { readonly type: 'listening'; readonly port: number }
  | { readonly type: 'seen'; readonly connections: number; readonly twice: number }
  | { readonly type: 'done'; readonly name: string };

interface Filter {
  readonly since?: number;
  readonly until?: number;
  readonly limit?: number;
}

const EVENT_HEAD = '["EVENT","';
const DEFAULT_LIMIT = 500;

/** A set as JSON in one buffer, newest first. */
class Shelf {
  readonly #times: Float64Array;
  readonly #ends: Float64Array;
  #json = Buffer.alloc(1 << 20);

  constructor(set: EventSet) {
    this.#times = new Float64Array(set.count);
    this.#ends = new Float64Array(set.count + 1);
    let index = 0;
    let end = 0;
    for (const event of eventsOf(set)) {
      const text = JSON.stringify(event); // ASCII: one byte a character
      while (end + text.length > this.#json.length) this.#grow();
      end += this.#json.write(text, end, 'latin1');
      this.#times[index] = event.created_at;
      index += 1;
      this.#ends[index] = end;
    }
  }

  #grow(): void {
    const larger = Buffer.alloc(this.#json.length * 2);
    this.#json.copy(larger);
    this.#json = larger;
  }

  /** The WebSocket frames that answer a REQ, EOSE included. */
  answer(subscription: string, filter: Filter): Buffer {
    const { since = 0, until = Number.MAX_SAFE_INTEGER, limit = DEFAULT_LIMIT } = filter;
    const from = this.#firstAt(until);
    const to = Math.min(from + limit, this.#firstAt(since - 1));
    const head = `${EVENT_HEAD}${subscription}",`;
    const eose = Buffer.from(`["EOSE","${subscription}"]`);
    const bytes = this.#end(to) - this.#end(from) + (to - from) * (head.length + 11);
    const page = Buffer.allocUnsafe(bytes + eose.length + 10);
    let at = 0;
    for (let index = from; index < to; index++) {
      const start = this.#end(index);
      const length = this.#end(index + 1) - start;
      at = writeHead(page, at, head.length + length + 1);
      at += page.write(head, at, 'latin1');
      at += this.#json.copy(page, at, start, start + length);
      page[at++] = 0x5d; // ]
    }
    at = writeHead(page, at, eose.length);
    at += eose.copy(page, at);
    return page.subarray(0, at);
  }

  #end(index: number): number {
    return this.#ends[index] ?? 0;
  }

  /** The place of the newest event that is not newer than this. */
  #firstAt(until: number): number {
    let low = 0;
    let high = this.#times.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#times[middle] ?? 0) > until) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** The head of an unmasked text frame (RFC 6455, 5.2). @returns where its payload begins */
function writeHead(page: Buffer, at: number, payloadBytes: number): number {
  page[at] = 0b1000_0001;
  if (payloadBytes < 126) {
    page[at + 1] = payloadBytes;
    return at + 2;
  }
  if (payloadBytes < 65_536) {
    page[at + 1] = 126;
    return page.writeUInt16BE(payloadBytes, at + 2);
  }
  page[at + 1] = 127;
  return page.writeBigUInt64BE(BigInt(payloadBytes), at + 2);
}

const shelves = new Map<string, Shelf>();

function serve(client: WebSocket, tcp: Socket, shelf: Shelf, delayMs: number): void {
  tcp.on('error', () => {});
  client.on('error', () => {});
  client.on('message', (data: Buffer) => {
    const [type, subscription, filter] = JSON.parse(data.toString()) as [string, string, Filter];
    if (type !== 'REQ') return;
    const send = () => tcp.writable && tcp.write(shelf.answer(subscription, filter));
    if (delayMs > 0) setTimeout(send, delayMs);
    else send();
  });
}

/** Open connections of each relay. */
const open = new Map<string, number>();
let connections = 0;
let twice = 0;

function count(url: string, client: WebSocket): void {
  const now = (open.get(url) ?? 0) + 1;
  open.set(url, now);
  connections += 1;
  if (now > 1) twice += 1;
  client.on('close', () => open.set(url, (open.get(url) ?? 1) - 1));
}

const http = createServer();
const webSockets = new WebSocketServer({ noServer: true, perMessageDeflate: false });
http.on('upgrade', (request, socket, head) => {
  const [, name = '', delay = '0', handshake = '0'] = (request.url ?? '').split('/');
  const shelf = shelves.get(name);
  if (!shelf) return void socket.destroy();
  const accept = () =>
    webSockets.handleUpgrade(request, socket, head, (client) => {
      count(request.url ?? '', client);
      serve(client, request.socket, shelf, Number(delay));
    });
  if (Number(handshake) > 0) setTimeout(accept, Number(handshake));
  else accept();
});
http.listen(0, '127.0.0.1');
await once(http, 'listening');

const say = (message: FromRelays) => process.send?.(message);
process.on('message', (message: ToRelays) => {
  if (message.type === 'stop') process.exit(0);
  if (message.type === 'count') {
    say({ type: 'seen', connections, twice });
    twice = 0;
    return;
  }
  if (message.type === 'drop') shelves.delete(message.name);
  else shelves.set(message.name, new Shelf(message.set));
  say({ type: 'done', name: message.name });
});
process.on('disconnect', () => process.exit(0));
say({ type: 'listening', port: (http.address() as AddressInfo).port });
