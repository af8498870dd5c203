import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { RelayRecord } from './record.ts';

/**
 * How the relay answers over HTTP. `silent` never answers, `hang-up` cuts the socket; `drip` brings a good document
 * byte by byte, `hugeBytes` a good one padded to that length.
 */
export type Nip11Answer =
  | { readonly document: unknown; readonly contentType?: string }
  | { readonly body: string; readonly contentType?: string; readonly status?: number }
  | { readonly status: number; readonly headers?: Readonly<Record<string, string>> }
  | { readonly redirect: string; readonly status?: number }
  | { readonly drip: { readonly everyMs: number; readonly document?: unknown } }
  | { readonly hugeBytes: number }
  | 'silent'
  | 'hang-up';

/**
 * How the relay answers the WebSocket handshake: `silent` accepts the TCP connection and says nothing (half-open),
 * `reset` cuts it, a `status` answers in HTTP and stays HTTP.
 */
export type UpgradeAnswer =
  | 'accept'
  | 'silent'
  | 'reset'
  | { readonly delayMs: number }
  /** Let in when the test says so. */
  | { readonly until: Promise<void> }
  | {
      readonly status: number;
      readonly body?: string;
      readonly headers?: Readonly<Record<string, string>>;
    };

const JSON_TYPE = 'application/nostr+json';
export const HTML_PAGE =
  '<!doctype html><html><head><title>A web page</title></head><body>Welcome.</body></html>';

/** A plain NIP-11 document; what is given is laid over it. */
export function nip11Document(
  parts: Readonly<Record<string, unknown>> = {},
): Record<string, unknown> {
  return {
    name: 'a scripted relay',
    description: 'It does what a test tells it.',
    software: 'https://example.com/scripted-relay',
    version: '1.0.0',
    supported_nips: [1, 11],
    ...parts,
  };
}

/** Answers one HTTP request as told, and notes it. */
export async function answerHttp(
  request: IncomingMessage,
  response: ServerResponse,
  answer: Nip11Answer,
  record: RelayRecord,
): Promise<void> {
  const { url: path = '/', headers } = request;
  record.fetches.push({ at: performance.now(), path, accept: headers.accept ?? '' });
  record.changed();
  if (answer === 'silent') record.fire('nip11-silent');
  else if (answer === 'hang-up') hangUp(request, record);
  else if ('redirect' in answer) redirect(response, answer, record);
  else if ('drip' in answer) await drip(response, answer.drip, record);
  else if ('hugeBytes' in answer) await pad(response, answer.hugeBytes, record);
  else if ('document' in answer)
    send(response, 200, answer.contentType ?? JSON_TYPE, JSON.stringify(answer.document));
  else if ('body' in answer)
    send(response, answer.status ?? 200, answer.contentType ?? 'text/html', answer.body);
  else {
    record.fire('nip11-status');
    for (const [name, value] of Object.entries(answer.headers ?? {}))
      response.setHeader(name, value);
    send(response, answer.status, 'text/plain', 'no document here\n');
  }
}

function send(response: ServerResponse, status: number, contentType: string, body: string): void {
  response
    .writeHead(status, { 'content-type': contentType, 'access-control-allow-origin': '*' })
    .end(body);
}

function hangUp(request: IncomingMessage, record: RelayRecord): void {
  record.fire('nip11-hang-up');
  request.socket.destroy();
}

function redirect(
  response: ServerResponse,
  answer: { redirect: string; status?: number },
  record: RelayRecord,
): void {
  record.fire('nip11-redirect');
  response.writeHead(answer.status ?? 302, { location: answer.redirect }).end();
}

async function drip(
  response: ServerResponse,
  { everyMs, document = nip11Document() }: { everyMs: number; document?: unknown },
  record: RelayRecord,
): Promise<void> {
  record.fire('nip11-drip');
  response.writeHead(200, { 'content-type': JSON_TYPE });
  for (const byte of Buffer.from(JSON.stringify(document))) {
    if (response.destroyed) return;
    response.write(Buffer.from([byte]));
    await sleep(everyMs, undefined, { ref: false });
  }
  response.end();
}

const PIECE = ' '.repeat(64 * 1024);

async function pad(response: ServerResponse, bytes: number, record: RelayRecord): Promise<void> {
  record.fire('nip11-huge');
  response.writeHead(200, { 'content-type': JSON_TYPE });
  await pipeline(padded(bytes, record), response).catch(() => {}); // the client may go away
}

function* padded(bytes: number, record: RelayRecord) {
  for (let sent = 0; sent < bytes; sent += PIECE.length) {
    record.bytes.sent += PIECE.length;
    yield PIECE;
  }
  yield JSON.stringify(nip11Document());
}

/** Refuses a handshake in plain HTTP. */
export function refuseUpgrade(
  socket: Duplex,
  answer: Extract<UpgradeAnswer, { status: number }>,
): void {
  const { status, body = HTML_PAGE, headers = {} } = answer;
  const lines = Object.entries({
    'content-type': 'text/html',
    'content-length': String(Buffer.byteLength(body)),
    connection: 'close',
    ...headers,
  }).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.end(`HTTP/1.1 ${status} Scripted\r\n${lines.join('')}\r\n${body}`);
}
