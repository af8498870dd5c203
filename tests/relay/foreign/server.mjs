// A relay that nobody here wrote, @nostr-relay/core over SQLite, as a process of its own.
//
//   node server.mjs [--host 127.0.0.1] [--port 0] [--events file.jsonl] [--load store|publish] [--nip11 file.json]
//                   [--default-limit 100] [--max-subscriptions 20] [--filter-cache-ms 1000] [--hostname name]
//                   [--stop-with-stdin]
//
// The first line on stdout is JSON: {"port", "url", "loaded": {"offered", "refused", "served"}}. Afterwards each
// line on stdin is a question, answered by one line: {"ask":"ids"} gives the ids of every event it holds.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { LogLevel } from '@nostr-relay/common';
import { NostrRelay } from '@nostr-relay/core';
import { EventRepositorySqlite } from '@nostr-relay/event-repository-sqlite';
import { WebSocketServer } from 'ws';

const { values: options } = parseArgs({
  options: {
    host: { type: 'string', default: '127.0.0.1' },
    port: { type: 'string', default: '0' },
    events: { type: 'string' },
    load: { type: 'string', default: 'store' },
    nip11: { type: 'string' },
    'default-limit': { type: 'string', default: '100' },
    'max-subscriptions': { type: 'string', default: '20' },
    'filter-cache-ms': { type: 'string', default: '1000' },
    hostname: { type: 'string' },
    'stop-with-stdin': { type: 'boolean', default: false },
  },
});

const defaultLimit = Number(options['default-limit']);
const maxSubscriptions = Number(options['max-subscriptions']);

const repository = new EventRepositorySqlite(':memory:', { defaultLimit });
await repository.init();
const relay = new NostrRelay(repository, {
  logLevel: LogLevel.ERROR,
  maxSubscriptionsPerClient: maxSubscriptions,
  filterResultCacheTtl: Number(options['filter-cache-ms']),
  ...(options.hostname ? { hostname: options.hostname } : {}),
});

// The library has no handler for a query that fails (a bad NIP-50 search is enough): the REQ stays unanswered.
process.on('unhandledRejection', (error) => console.error(`foreign relay: ${error}`));

const loaded = options.events ? await load(options.events) : { offered: 0, refused: 0 };
const document = JSON.stringify(
  options.nip11 ? JSON.parse(readFileSync(options.nip11, 'utf8')) : ownDocument(),
);

const http = createServer(answerHttp);
const sockets = new WebSocketServer({ server: http, maxPayload: 4 * 1024 * 1024 });
sockets.on('connection', serve);

http.listen(Number(options.port), options.host, () => {
  const { port } = http.address();
  const served = heldIds().length;
  print({ port, url: `ws://${options.host}:${port}`, loaded: { ...loaded, served } });
});
http.on('error', (error) => {
  console.error(`foreign relay: cannot listen on port ${options.port}: ${error.message}`);
  process.exit(1);
});

const questions = createInterface({ input: process.stdin });
questions.on('line', (line) => {
  const { ask } = JSON.parse(line);
  print(ask === 'ids' ? { ids: heldIds() } : { error: `unknown question: ${ask}` });
});
questions.on('close', () => options['stop-with-stdin'] && process.exit(0));
process.on('SIGTERM', () => process.exit(0));

/**
 * `store` puts each event into the repository as it is: all kinds, expired ones too, deletions delete nothing.
 * `publish` does what the relay does with an EVENT of a client, verification and refusals included.
 */
async function load(path) {
  const counts = { offered: 0, refused: 0 };
  // Not by readline, which takes U+2028 inside an event for the end of a line.
  for (const line of readFileSync(path, 'utf8').split('\n')) {
    if (line === '') continue;
    counts.offered += 1;
    if (!(await loadOne(JSON.parse(line)))) counts.refused += 1;
  }
  return counts;
}

async function loadOne(event) {
  if (options.load === 'publish') return (await relay.handleEvent(event)).success;
  return !(await repository.upsert(event)).isDuplicate;
}

/** Asked of SQLite itself, beside the relay's own way of answering. */
function heldIds() {
  return repository.getDatabase().prepare('SELECT id FROM events ORDER BY id').pluck().all();
}

function ownDocument() {
  return {
    name: 'a foreign relay',
    description: '@nostr-relay/core over SQLite',
    supported_nips: [1, 2, 4, 9, 11, 22, 26, 28, 40, ...(options.hostname ? [42] : []), 50],
    software: 'https://github.com/CodyTseng/nostr-relay',
    version: '0.0.40',
    limitation: {
      max_limit: 10 * defaultLimit,
      default_limit: defaultLimit,
      max_subscriptions: maxSubscriptions,
      max_message_length: 4 * 1024 * 1024,
    },
  };
}

function answerHttp(request, response) {
  if (!request.headers.accept?.includes('application/nostr+json')) {
    response.writeHead(200, { 'content-type': 'text/plain' }).end('Use a Nostr client.\n');
    return;
  }
  const headers = { 'content-type': 'application/nostr+json', 'access-control-allow-origin': '*' };
  response.writeHead(200, headers).end(document);
}

function serve(socket, request) {
  relay.handleConnection(socket, request.socket.remoteAddress);
  socket.on('error', () => {});
  socket.on('close', () => relay.handleDisconnect(socket));
  socket.on('message', (data) => {
    const message = parse(data);
    if (message)
      relay
        .handleMessage(socket, message)
        .catch((error) => notice(socket, `error: ${error.message}`));
    else notice(socket, 'invalid: this is not a message of NIP-01');
  });
}

/** The library wants its messages checked beforehand; its own validator is one more package than we need. */
function parse(data) {
  try {
    const message = JSON.parse(data.toString());
    const [type, first, ...filters] = message;
    const isObject = (value) => typeof value === 'object' && value !== null;
    if (type === 'EVENT' || type === 'AUTH')
      return isObject(first) && Array.isArray(first.tags) ? message : null;
    if (type === 'REQ')
      return typeof first === 'string' && filters.length > 0 && filters.every(isObject)
        ? message
        : null;
    return typeof first === 'string' ? message : null;
  } catch {
    return null;
  }
}

function notice(socket, text) {
  socket.send(JSON.stringify(['NOTICE', text]));
}

function print(value) {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}
