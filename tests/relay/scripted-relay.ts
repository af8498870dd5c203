import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { type WebSocket, WebSocketServer } from 'ws';
import type { NostrEvent } from '../../src/nostr/event.ts';
import {
  answerHttp,
  type Nip11Answer,
  nip11Document,
  refuseUpgrade,
  type UpgradeAnswer,
} from './http.ts';
import { type Nip77Record, Nip77Server, NOT_SERVED } from './nip77.ts';
import { RelayRecord } from './record.ts';
import { type RelayHouse, type RelayScript, RelaySession } from './session.ts';
import { EventStore } from './store.ts';
import { RelayWire } from './wire.ts';

export { GARBAGE_NAMES } from './frames.ts';
export { HTML_PAGE, type Nip11Answer, nip11Document } from './http.ts';
export type { Nip77Options, Nip77Record, Nip77Trouble } from './nip77.ts';
export * from './quirks.ts';
export type { AuthPolicy, Reply, Verb, WritePolicy } from './session.ts';
export type { RelayFilter } from './store.ts';

/** What can be changed while the relay runs. */
export interface RelayBehaviour extends RelayScript {
  /** A plain document unless told. */
  readonly nip11?: Nip11Answer;
  readonly upgrade?: UpgradeAnswer;
}

export interface ScriptedRelayOptions extends RelayBehaviour {
  readonly events?: Iterable<NostrEvent>;
  /** 0, any free port, unless told. */
  readonly port?: number;
  /**
   * permessage-deflate: `accept` uses it where the client offers it, `force` announces it even where it does not.
   * Off unless told.
   */
  readonly deflate?: 'accept' | 'force';
  /** Called for each WebSocket connection with the address of the client; what it returns is called when that is closed. */
  readonly onConnection?: (address: string) => () => void;
}

export interface ScriptedRelay
  extends Pick<RelayRecord, 'requests' | 'messages' | 'published' | 'fetches'> {
  /** `ws://127.0.0.1:port` */
  readonly url: string;
  readonly port: number;
  readonly eventsSent: number;
  readonly connections: Readonly<{ open: number; total: number; max: number }>;
  readonly bytes: Readonly<{ received: number; sent: number }>;
  /** What it has seen of NIP-77. */
  readonly nip77: Nip77Record;
  /** How often each planned fault has really happened, by the name of its option. */
  readonly fired: Readonly<Record<string, number>>;
  /** What it holds now, newest first. */
  readonly events: readonly NostrEvent[];
  /** Stores events as though they had always been there: nobody is told. For what is late or backdated. */
  add(events: Iterable<NostrEvent>): void;
  /** Stores a new event and pushes it to the open subscriptions that it matches. */
  publish(event: NostrEvent): void;
  remove(ids: Iterable<string>): void;
  /** Changes parts of the behaviour; the rest stays, and so do connections. */
  change(behaviour: RelayBehaviour): void;
  /** Sends a message to every open connection. */
  say(...message: readonly unknown[]): void;
  /** Cuts every connection; the relay goes on. */
  dropAll(): void;
  /** Forgets what was seen and fired, and counts REQs from 1 again; what is held and who is connected stays. */
  forget(): void;
  /** Resolves once the test holds, looked at after everything that happens. Rejects after 5 s unless told. */
  until(test: (relay: ScriptedRelay) => boolean, what?: string, timeoutMs?: number): Promise<void>;
  /** Cuts everything and frees the port. Safe to call twice. */
  stop(): Promise<void>;
}

/** Starts a relay on 127.0.0.1 that does what it is told: without options it behaves by NIP-01, 11 and 42. */
export async function startScriptedRelay(
  options: ScriptedRelayOptions = {},
): Promise<ScriptedRelay> {
  const { events = [], port = 0, deflate, onConnection = () => () => {}, ...behaviour } = options;
  const http = createServer();
  http.listen(port, '127.0.0.1');
  await once(http, 'listening');
  const relay = new Relay(http, behaviour, { deflate, onConnection });
  relay.add(events);
  return relay;
}

class Relay implements ScriptedRelay, RelayHouse {
  readonly port: number;
  readonly host: string;
  readonly url: string;
  readonly store = new EventStore();
  readonly record = new RelayRecord();
  script: RelayBehaviour = {};
  nip77Server: Nip77Server | null = null;
  readonly #http: Server;
  readonly #onConnection: (address: string) => () => void;
  readonly #webSockets: WebSocketServer;
  readonly #tcp = new Set<Socket>();
  readonly #sessions = new Map<RelaySession, RelayWire>();

  constructor(
    http: Server,
    behaviour: RelayBehaviour,
    {
      deflate,
      onConnection,
    }: {
      readonly deflate: ScriptedRelayOptions['deflate'] | undefined;
      readonly onConnection: (address: string) => () => void;
    },
  ) {
    this.#http = http;
    this.#onConnection = onConnection;
    this.port = (http.address() as AddressInfo).port;
    this.host = `127.0.0.1:${this.port}`;
    this.url = `ws://${this.host}`;
    this.change(behaviour);
    this.#webSockets = new WebSocketServer({
      noServer: true,
      autoPong: false,
      perMessageDeflate: deflate === 'accept',
    });
    if (deflate === 'force') {
      this.#webSockets.on('headers', (lines) =>
        lines.push('Sec-WebSocket-Extensions: permessage-deflate'),
      );
    }
    http.on('connection', (socket) => this.#connected(socket));
    http.on('upgrade', (request, socket, head) => void this.#upgrade(request, socket, head));
    http.on('request', (request, response) => {
      void answerHttp(
        request,
        response,
        this.script.nip11 ?? { document: nip11Document() },
        this.record,
      );
    });
  }

  get requests() {
    return this.record.requests;
  }
  get messages() {
    return this.record.messages;
  }
  get published() {
    return this.record.published;
  }
  get fetches() {
    return this.record.fetches;
  }
  get eventsSent() {
    return this.record.eventsSent;
  }
  get connections() {
    return this.record.connections;
  }
  get bytes() {
    return this.record.bytes;
  }
  get fired() {
    return this.record.fired;
  }
  get nip77() {
    return this.nip77Server ?? NOT_SERVED;
  }
  get events() {
    return this.store.all();
  }

  add(events: Iterable<NostrEvent>): void {
    this.store.add(events);
  }

  publish(event: NostrEvent): void {
    if (this.store.add([event]).length > 0) this.broadcast(event);
  }

  remove(ids: Iterable<string>): void {
    this.store.remove(ids);
  }

  broadcast(event: NostrEvent): void {
    for (const session of this.#sessions.keys()) session.push(event);
  }

  change(behaviour: RelayBehaviour): void {
    this.script = { ...this.script, ...behaviour };
    if (behaviour.nip77 === undefined) return;
    this.nip77Server = behaviour.nip77 && new Nip77Server(this, behaviour.nip77);
  }

  say(...message: readonly unknown[]): void {
    for (const wire of this.#sessions.values()) wire.message(...message);
  }

  dropAll(): void {
    for (const wire of this.#sessions.values()) wire.cut();
  }

  forget(): void {
    this.record.forget();
    this.nip77Server?.forget();
  }

  until(
    test: (relay: ScriptedRelay) => boolean,
    what = test.toString(),
    timeoutMs = 5000,
  ): Promise<void> {
    return this.record.until(() => test(this), what, timeoutMs);
  }

  async stop(): Promise<void> {
    const closed = this.#http.listening ? once(this.#http, 'close') : null;
    this.#http.close();
    for (const socket of this.#tcp) socket.destroy();
    await closed;
  }

  #connected(socket: Socket): void {
    this.#tcp.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => this.#tcp.delete(socket));
  }

  async #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    const { upgrade = 'accept' } = this.script;
    if (upgrade !== 'accept') this.record.fire('upgrade');
    if (upgrade === 'silent') return;
    if (upgrade === 'reset') return void socket.destroy();
    if (typeof upgrade === 'object' && 'status' in upgrade) return refuseUpgrade(socket, upgrade);
    if (typeof upgrade === 'object' && 'delayMs' in upgrade)
      await sleep(upgrade.delayMs, undefined, { ref: false });
    if (typeof upgrade === 'object' && 'until' in upgrade) await upgrade.until;
    if (socket.destroyed) return;
    this.#webSockets.handleUpgrade(request, socket, head, (client) =>
      this.#serve(client, request.socket),
    );
  }

  #serve(client: WebSocket, tcp: Socket): void {
    const { record } = this;
    record.opened();
    const closed = this.#onConnection(tcp.remoteAddress ?? '');
    const wire = new RelayWire(client, tcp, record);
    const session = new RelaySession(this, wire, record.connections.total);
    this.#sessions.set(session, wire);
    client.on('message', (data: Buffer) => session.receive(data));
    client.on('close', () => {
      this.#sessions.delete(session);
      record.closed();
      closed();
    });
  }
}
