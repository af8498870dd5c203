import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { WebSocketServer } from 'ws';
import type { HealthConfig } from '../../config/load.ts';
import { ListenError, listenProblem } from '../../telemetry/health.ts';
import { Client } from './client.ts';
import type { ClientAddresses } from './client-address.ts';
import type { RelayContext } from './context.ts';

/** Clients are pinged this often; one that has not answered the last ping has gone, in milliseconds. */
const PING_MS = 30_000;
const HEADERS_TIMEOUT_MS = 10_000;
/** Bytes that all clients together may leave unread: above, the slowest are disconnected. */
const MAX_ALL_UNREAD = 128 * 1024 * 1024;
const CORS = {
  'access-control-allow-origin': '*',
  'access-control-allow-headers': '*',
  'access-control-allow-methods': 'GET, OPTIONS',
};
/** Close codes (RFC 6455): the service stops; try again later. */
const [GOING_AWAY, TRY_AGAIN] = [1001, 1013];

export interface RelayServerOptions {
  readonly context: RelayContext;
  /** The document of NIP-11, as JSON. */
  readonly information: string;
  readonly addresses: ClientAddresses;
  readonly maxConnections: number;
  readonly maxConnectionsPerAddress: number;
}

/** Listens for clients: WebSocket and the document of NIP-11, both at `/`. */
export class RelayServer {
  readonly #options: RelayServerOptions;
  readonly #http: Server;
  readonly #webSockets: WebSocketServer;
  readonly #clients = new Map<Client, string>();
  readonly #timer: NodeJS.Timeout;

  constructor(options: RelayServerOptions) {
    this.#options = options;
    this.#webSockets = new WebSocketServer({
      noServer: true,
      maxPayload: options.context.limits.maxMessageBytes,
      perMessageDeflate: false,
    });
    this.#http = createServer({ headersTimeout: HEADERS_TIMEOUT_MS }, (request, response) =>
      this.#answer(request, response),
    );
    this.#http.on('upgrade', (request, stream, head) => this.#upgrade(request, stream, head));
    this.#timer = setInterval(() => this.#lookAfterClients(), PING_MS).unref();
  }

  get connections(): number {
    return this.#clients.size;
  }

  /** Bytes that clients have not taken yet. */
  get unread(): number {
    return [...this.#clients.keys()].reduce((sum, client) => sum + client.unread, 0);
  }

  /** @returns where it listens @throws ListenError */
  async listen(address: HealthConfig): Promise<AddressInfo> {
    const { host, port } = address;
    await new Promise<void>((resolve, reject) => {
      this.#http.once('error', (error) => reject(new ListenError(listenProblem(error, address))));
      this.#http.listen({ host, port }, resolve);
    });
    return this.#http.address() as AddressInfo;
  }

  /** Tells every client that it stops, and stops. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    for (const client of this.#clients.keys()) client.end(GOING_AWAY, 'the relay stops');
    if (!this.#http.listening) return;
    const closed = new Promise((resolve) => this.#http.close(resolve));
    this.#http.closeAllConnections();
    await closed;
  }

  #answer({ url = '/', method, headers }: IncomingMessage, response: ServerResponse): void {
    const send = (status: number, type: string, text: string) =>
      response.writeHead(status, { ...CORS, 'content-type': type, vary: 'accept' }).end(text);
    if (method === 'OPTIONS') response.writeHead(204, CORS).end();
    else if (!isRoot(url)) send(404, 'text/plain', 'The relay is at /.\n');
    else if (method !== 'GET') send(405, 'text/plain', 'Only GET is answered.\n');
    else if (headers.accept?.includes('application/nostr+json'))
      send(200, 'application/nostr+json', this.#options.information);
    else send(200, 'text/plain', 'A Nostr relay: connect by WebSocket. It is read-only.\n');
  }

  #upgrade(request: IncomingMessage, stream: Duplex, head: Buffer): void {
    stream.on('error', () => stream.destroy());
    const { addresses, context } = this.#options;
    const forwardedFor = [request.headers['x-forwarded-for']].flat().join(',');
    const address = addresses.of(request.socket.remoteAddress, forwardedFor);
    const refusal = this.#refusalOf(request, address);
    if (refusal) {
      context.metrics.relayClientEnded('refused');
      stream.end(`HTTP/1.1 ${refusal}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`);
      return;
    }
    this.#webSockets.handleUpgrade(request, stream, head, (socket) => {
      let isAlive = true;
      const client = new Client(context, socket, request.socket, address);
      this.#clients.set(client, address);
      const pings = setInterval(() => {
        if (isAlive) socket.ping();
        else socket.terminate();
        isAlive = false;
      }, PING_MS).unref();
      socket.on('pong', () => {
        isAlive = true;
      });
      socket.on('message', () => {
        isAlive = true;
      });
      socket.once('close', () => {
        clearInterval(pings);
        this.#clients.delete(client);
      });
    });
  }

  /** @returns an HTTP status, or null where the client may connect */
  #refusalOf({ url = '/' }: IncomingMessage, address: string): string | null {
    if (!isRoot(url)) return '404 Not Found';
    const { maxConnections, maxConnectionsPerAddress } = this.#options;
    if (this.#clients.size >= maxConnections) return '503 Service Unavailable';
    let ofAddress = 0;
    for (const other of this.#clients.values()) if (other === address) ofAddress += 1;
    return ofAddress >= maxConnectionsPerAddress ? '429 Too Many Requests' : null;
  }

  /** Disconnects the clients that leave most unread, while all of them together leave too much. */
  #lookAfterClients(): void {
    const slowest = [...this.#clients.keys()].sort((a, b) => b.unread - a.unread);
    let { unread } = this;
    for (const client of slowest) {
      if (unread <= MAX_ALL_UNREAD) return;
      unread -= client.unread;
      client.end(TRY_AGAIN, 'too much is unread');
    }
  }
}

function isRoot(url: string): boolean {
  return url === '/' || url.startsWith('/?');
}
