import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { listenOnLoopback } from './loopback.ts';

/** A wire to a server that can fail in the ways that wires do. */
export interface TcpProxy {
  readonly host: string;
  readonly port: number;
  /** Connections of clients so far. */
  readonly total: number;
  /** Answers that were swallowed so far. */
  readonly swallowed: number;
  /** Answers to COMMIT that were held back so far. */
  readonly held: number;
  /** Connections that were cut at once so far. */
  readonly refused: number;
  open(): number;
  /** Cuts every connection. New ones are taken. */
  cut(): void;
  /** Bytes go nowhere any more, in either direction, and nobody is told: half-open. New connections too. */
  stall(): void;
  /** Ends `stall()` for new connections; those that were stalled stay so. */
  recover(): void;
  /** The next COMMITs reach the server; their answers are lost with the connection. */
  swallowCommits(count: number): void;
  /** The same for statements with this text, which are not in a transaction. */
  swallowAnswers(count: number, text: string): void;
  /** The n-th COMMIT from now on reaches the server; its answer never comes, and the wire stays. */
  holdCommit(nth: number): void;
  /** Cuts this number of the next connections at once. */
  refuse(count: number): void;
  /** Leads new connections to another port. */
  redirect(port: number): void;
  close(): Promise<void>;
}

/** Starts a TCP proxy on loopback, for PostgreSQL's protocol in clear text. */
export async function startTcpProxy(target: { host: string; port: number }): Promise<TcpProxy> {
  const server = createServer();
  return new WireProxy(server, await listenOnLoopback(server), target);
}

/** A simple query (PostgreSQL, chapter 55.7): its type, its length, its text. */
const COMMIT = Buffer.from('Q\0\0\0\x0bcommit\0');

class WireProxy implements TcpProxy {
  readonly host = '127.0.0.1';
  readonly port: number;
  total = 0;
  swallowed = 0;
  held = 0;
  refused = 0;
  readonly #server: Server;
  readonly #wires = new Set<Wire>();
  #target: { host: string; port: number };
  #stalled = false;
  #toRefuse = 0;
  #toSwallow = 0;
  #swallowedText = COMMIT;
  #untilHeld = 0;

  constructor(server: Server, port: number, target: { host: string; port: number }) {
    this.#server = server;
    this.#target = target;
    this.port = port;
    server.on('connection', (client) => this.#accept(client));
  }

  open(): number {
    return this.#wires.size;
  }

  cut(): void {
    for (const wire of this.#wires) wire.cut();
  }

  stall(): void {
    this.#stalled = true;
    for (const wire of this.#wires) wire.stalled = true;
  }

  recover(): void {
    this.#stalled = false;
  }

  swallowCommits(count: number): void {
    this.#toSwallow = count;
    this.#swallowedText = COMMIT;
  }

  swallowAnswers(count: number, text: string): void {
    this.#toSwallow = count;
    this.#swallowedText = Buffer.from(text);
  }

  holdCommit(nth: number): void {
    this.#untilHeld = nth;
  }

  refuse(count: number): void {
    this.#toRefuse = count;
  }

  redirect(port: number): void {
    this.#target = { ...this.#target, port };
  }

  async close(): Promise<void> {
    this.cut();
    this.#server.close();
    await once(this.#server, 'close');
  }

  #accept(client: Socket): void {
    this.total += 1;
    client.on('error', () => {});
    if (this.#toRefuse > 0) {
      this.#toRefuse -= 1;
      this.refused += 1;
      client.destroy();
      return;
    }
    const wire = new Wire(client, connect(this.#target), {
      onClosed: () => this.#wires.delete(wire),
      isSwallowed: (data) => data.includes(this.#swallowedText),
      swallows: () => this.#swallows(),
      holds: () => this.#holds(),
    });
    wire.stalled = this.#stalled;
    this.#wires.add(wire);
  }

  #holds(): boolean {
    if (this.#untilHeld === 0) return false;
    this.#untilHeld -= 1;
    if (this.#untilHeld > 0) return false;
    this.held += 1;
    return true;
  }

  #swallows(): boolean {
    if (this.#toSwallow === 0) return false;
    this.#toSwallow -= 1;
    this.swallowed += 1;
    return true;
  }
}

interface WireOptions {
  readonly onClosed: () => void;
  /** Whether the answer to these bytes of the client may be swallowed. */
  readonly isSwallowed: (data: Buffer) => boolean;
  /** Asked when they were answered. */
  readonly swallows: () => boolean;
  /** Asked when a COMMIT was answered: whether that is kept from a connection that stays. */
  readonly holds: () => boolean;
}

class Wire {
  stalled = false;
  readonly #client: Socket;
  readonly #upstream: Socket;

  constructor(
    client: Socket,
    upstream: Socket,
    { onClosed, isSwallowed, swallows, holds }: WireOptions,
  ) {
    this.#client = client;
    this.#upstream = upstream;
    let [committing, swallowing] = [false, false];
    client.on('data', (data) => {
      if (this.stalled) return;
      committing ||= data.includes(COMMIT);
      swallowing ||= isSwallowed(data);
      upstream.write(data);
    });
    upstream.on('data', (data) => {
      if (this.stalled) return;
      if (swallowing && swallows()) this.cut();
      else if (committing && holds()) this.stalled = true;
      else client.write(data);
      [committing, swallowing] = [false, false];
    });
    for (const socket of [client, upstream]) {
      socket.on('error', () => {});
      socket.on('close', () => {
        if (this.stalled) return; // a wire that is stalled does not tell the other end
        this.cut();
        onClosed();
      });
    }
  }

  cut(): void {
    this.#client.destroy();
    this.#upstream.destroy();
  }
}
