import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { listenOnLoopback } from '../network/loopback.ts';

/** An ErrorResponse of the protocol (PostgreSQL chapter 53.7). */
export interface ServerError {
  readonly code: string;
  readonly message: string;
  /** FATAL unless told. */
  readonly severity?: string;
}

/** A pooler before a server: it hands connections on, or refuses them as it is told. */
export interface FakePooler {
  readonly host: string;
  readonly port: number;
  /** Connections that were refused so far. */
  readonly refused: number;
  /** Drops all connections and refuses new ones with this error; null: takes them again. */
  refuse(error: ServerError | null): void;
  /** Ends each open connection with this error in place of the answer to its next message. */
  breakWith(error: ServerError): void;
  /** Leads new connections to another server. */
  redirect(port: number): void;
  close(): Promise<void>;
}

/** Starts a pooler of the tests on loopback, for PostgreSQL's protocol in clear text. */
export async function startFakePooler(target: { host: string; port: number }): Promise<FakePooler> {
  const server = createServer();
  return new Pooler(server, await listenOnLoopback(server), target);
}

class Pooler implements FakePooler {
  readonly host = '127.0.0.1';
  readonly port: number;
  refused = 0;
  readonly #server: Server;
  readonly #clients = new Set<Socket>();
  #target: { host: string; port: number };
  #error: ServerError | null = null;
  #breaking = new Map<Socket, ServerError>();

  constructor(server: Server, port: number, target: { host: string; port: number }) {
    this.#server = server;
    this.#target = target;
    this.port = port;
    server.on('connection', (client) => this.#accept(client));
  }

  refuse(error: ServerError | null): void {
    this.#error = error;
    if (error !== null) for (const client of this.#clients) client.destroy();
  }

  breakWith(error: ServerError): void {
    for (const client of this.#clients) this.#breaking.set(client, error);
  }

  redirect(port: number): void {
    this.#target = { ...this.#target, port };
  }

  async close(): Promise<void> {
    for (const client of this.#clients) client.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }

  #accept(client: Socket): void {
    client.on('error', () => {});
    this.#clients.add(client);
    client.on('close', () => {
      this.#clients.delete(client);
      this.#breaking.delete(client);
    });
    const error = this.#error;
    if (error !== null) {
      this.refused += 1;
      client.once('data', () => client.end(errorResponse(error)));
      return;
    }
    const upstream = connect(this.#target);
    client.on('data', (data) => {
      const breaking = this.#breaking.get(client);
      if (breaking) client.end(errorResponse(breaking));
      else upstream.write(data);
    });
    upstream.on('data', (data) => client.write(data));
    upstream.on('error', () => client.destroy()).on('close', () => client.destroy());
    client.on('close', () => upstream.destroy());
  }
}

function errorResponse({ code, message, severity = 'FATAL' }: ServerError): Buffer {
  const fields = Buffer.from(`S${severity}\0V${severity}\0C${code}\0M${message}\0\0`);
  const head = Buffer.alloc(5);
  head.write('E');
  head.writeInt32BE(fields.length + 4, 1);
  return Buffer.concat([head, fields]);
}
