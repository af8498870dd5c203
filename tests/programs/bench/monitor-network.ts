/**
 * Runs inside a network namespace of its own: a DNS server, relays that answer, and addresses behind which packets
 * vanish; and in it the monitor. Argument: a `MonitorNetwork` as JSON. Output: that of the monitor, and one line
 * `pid N` before it.
 */
import { execFileSync, spawn } from 'node:child_process';
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { readFileSync, realpathSync, writeFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import { createServer as createTcpServer } from 'node:net';
import { join } from 'node:path';
import { type WebSocket, WebSocketServer } from 'ws';
import { questionOf } from '../../network/dns-server.ts';
import { ALIVE, KINDS } from './monitor-kinds.ts';

export interface MonitorNetwork {
  /** A folder for the files of this network. */
  readonly folder: string;
  /** The program that is measured, for Node.js. */
  readonly file: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

const SLOW = '44.0.0.2';
const MUTE = '44.0.0.3';
const REFUSING = '44.0.0.4';
const SLOW_MS = 2000;
const DNS_MS = 30;

async function main({ folder, file, args, env }: MonitorNetwork): Promise<void> {
  makeNetwork(folder);
  const tls = makeCertificate(folder);
  await answerDns();
  await serveRelay(ALIVE, 0, tls);
  await serveRelay(SLOW, SLOW_MS, tls);
  await serveNothing(MUTE);
  const program = spawn(process.execPath, [file, ...args], {
    cwd: folder,
    env: { ...env, NODE_EXTRA_CA_CERTS: tls.certFile },
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  process.stdout.write(`pid ${program.pid}\n`);
  const [code] = (await once(program, 'close')) as [number | null];
  process.exit(code ?? 1);
}

function run(command: string, ...args: string[]): void {
  execFileSync(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });
}

/** 44/8 leads here, 46/8 into a device that swallows what it is given, and names are asked for here. */
function makeNetwork(folder: string): void {
  run('ip', 'link', 'set', 'lo', 'up');
  run('ip', 'route', 'add', 'local', '44.0.0.0/8', 'dev', 'lo');
  try {
    run('ip', 'link', 'add', 'hole', 'type', 'dummy');
  } catch {
    run('ip', 'link', 'add', 'hole', 'type', 'ifb'); // what comes from this machine it drops too
  }
  run('ip', 'link', 'set', 'hole', 'up');
  run('ip', 'route', 'add', '46.0.0.0/8', 'dev', 'hole');
  const resolver = join(folder, 'resolv.conf');
  writeFileSync(resolver, 'nameserver 127.0.0.1\n');
  run('mount', '--bind', resolver, realpathSync('/etc/resolv.conf'));
}

interface Tls {
  readonly certFile: string;
  readonly keyFile: string;
}

function makeCertificate(folder: string): Tls {
  const tls = { certFile: join(folder, 'cert.pem'), keyFile: join(folder, 'key.pem') };
  const names = [KINDS.alive, KINDS.slow].map((name) => `DNS:*.${name}`).join(',');
  run(
    'openssl',
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'],
    ...['-subj', '/CN=relay.test', '-addext', `subjectAltName=${names}`, '-days', '3650'],
    ...['-keyout', tls.keyFile, '-out', tls.certFile],
  );
  return tls;
}

/** RFC 1035, as much as a stub resolver needs: one question, and the address by the kind of the name. */
async function answerDns(): Promise<void> {
  const socket = createSocket('udp4');
  socket.on('message', (query, from) => setTimeout(answer, DNS_MS, socket, query, from));
  socket.bind(53, '127.0.0.1');
  await once(socket, 'listening');
}

function answer(socket: Socket, query: Buffer, from: RemoteInfo): void {
  const { name, type, end } = questionOf(query);
  if (name.endsWith(KINDS.nameless)) return;
  const address = type === 1 ? addressOf(name) : null;
  const header = Buffer.alloc(12);
  query.copy(header, 0, 0, 2);
  header.writeUInt16BE(addressOf(name) ? 0x8180 : 0x8183, 2);
  header.writeUInt16BE(1, 4);
  header.writeUInt16BE(address ? 1 : 0, 6);
  const record = address
    ? Buffer.from([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, ...address.split('.').map(Number)])
    : Buffer.alloc(0);
  socket.send(Buffer.concat([header, query.subarray(12, end), record]), from.port, from.address);
}

/** Each black hole has an address of its own, as relays have. */
function addressOf(name: string): string | null {
  if (name.endsWith(KINDS.alive)) return ALIVE;
  if (name.endsWith(KINDS.slow)) return SLOW;
  if (name.endsWith(KINDS.mute)) return MUTE;
  if (name.endsWith(KINDS.refusing)) return REFUSING;
  if (!name.endsWith(KINDS.blackhole)) return null;
  const number = Number(/\d+/.exec(name)?.[0] ?? 0);
  return `46.0.${(number >> 8) & 0xff}.${number & 0xff}`;
}

const EVENT_ID = 'a'.repeat(64);
const EVENT = { id: EVENT_ID, pubkey: EVENT_ID, created_at: 1, kind: 1, tags: [], content: '' };
/** As long as a usual one. */
const DOCUMENT = JSON.stringify({
  name: 'a relay of the bench',
  description: 'x'.repeat(500),
  supported_nips: [1, 2, 4, 9, 11, 12, 15, 16, 20, 22, 28, 33, 40],
  software: 'git+https://example.org/relay.git',
  version: '1.0.0',
  limitation: { max_message_length: 131072, max_subscriptions: 20, max_limit: 500 },
});

async function serveRelay(
  host: string,
  delayMs: number,
  { certFile, keyFile }: Tls,
): Promise<void> {
  const document = (_request: IncomingMessage, response: ServerResponse) =>
    setTimeout(() => response.end(DOCUMENT), delayMs);
  const server = createServer(
    { cert: readFileSync(certFile), key: readFileSync(keyFile) },
    document,
  );
  const relay = new WebSocketServer({ server, perMessageDeflate: false });
  relay.on('connection', (socket) => {
    socket.on('error', () => {});
    socket.on('message', (data) => setTimeout(() => answerClient(socket, String(data)), delayMs));
  });
  server.on('tlsClientError', () => {});
  server.listen({ port: 443, host, backlog: 4096 });
  await once(server, 'listening');
}

function answerClient(socket: WebSocket, text: string): void {
  const [type, value] = JSON.parse(text) as [string, unknown];
  const say = (message: unknown) => socket.send(JSON.stringify(message), () => {});
  if (type === 'REQ') {
    say(['EVENT', value, { ...EVENT, sig: EVENT_ID + EVENT_ID }]);
    say(['EOSE', value]);
  }
  if (type === 'EVENT') say(['OK', (value as { id: string }).id, true, '']);
}

async function serveNothing(host: string): Promise<void> {
  const server = createTcpServer((socket) => {
    socket.on('error', () => {});
    socket.resume();
  });
  server.listen({ port: 443, host, backlog: 4096 });
  await once(server, 'listening');
}

await main(JSON.parse(process.argv[2] ?? '') as MonitorNetwork);
