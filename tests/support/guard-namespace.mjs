/**
 * Runs inside a network namespace of its own, where every address there is leads back to this process: whatever a
 * service dials is seen here, and no packet can leave. Told what to do over HTTP on a Unix socket, which reaches across
 * namespaces. Arguments: the socket, the ports to listen on, and what names resolve to, as JSON.
 */
import { execFileSync, spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { realpathSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { createServer, isIPv6 } from 'node:net';
import { dirname, join } from 'node:path';

const { socketPath, ports, names } = JSON.parse(process.argv[2]);
/** Addresses that were dialled, as `address port`, and names that DNS was asked for. */
let dialled = [];
let asked = [];

becomeEverything();
const hasIPv6 = becomeEverythingInIPv6();
useOwnResolver();
for (const port of ports) await listen(port);
await answerDns();
const control = createHttpServer((request, response) => void obey(request, response));
control.listen(socketPath);
await once(control, 'listening');
console.log(JSON.stringify({ ready: true, hasIPv6 }));

function becomeEverything() {
  run('ip', 'link', 'set', 'lo', 'up');
  run('ip', 'route', 'add', 'local', '0.0.0.0/0', 'dev', 'lo');
}

function becomeEverythingInIPv6() {
  try {
    run('ip', '-6', 'route', 'add', 'local', '::/0', 'dev', 'lo');
    return true;
  } catch {
    return false; // this kernel has no IPv6
  }
}

/** In the mount namespace of this process alone. */
function useOwnResolver() {
  const file = join(dirname(socketPath), 'resolv.conf');
  writeFileSync(file, 'nameserver 127.0.0.1\noptions timeout:10 attempts:1\n');
  run('mount', '--bind', file, realpathSync('/etc/resolv.conf'));
}

function run(command, ...args) {
  execFileSync(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });
}

/** Sees who comes, from the side that was dialled, and sends them away. */
async function listen(port) {
  const server = createServer((socket) => {
    dialled.push(`${socket.localAddress.replace(/^::ffff:(?=\d+\.)/, '')} ${port}`);
    socket.on('error', () => {});
    socket.destroy();
  });
  server.listen({ port, host: hasIPv6 ? '::' : '0.0.0.0' });
  await once(server, 'listening');
}

/** RFC 1035: one question, answered from the table with each set of addresses in turn. */
async function answerDns() {
  const turns = new Map();
  const socket = createSocket('udp4');
  socket.on('message', (query, from) => {
    const { name, type, end } = questionOf(query);
    const sets = names[name];
    const turn = turns.get(`${name} ${type}`) ?? 0;
    turns.set(`${name} ${type}`, turn + 1);
    asked.push(name);
    const addresses = (sets?.[turn % sets.length] ?? []).filter((address) =>
      type === 28 ? isIPv6(address) : type === 1 && !isIPv6(address),
    );
    const header = Buffer.alloc(12);
    query.copy(header, 0, 0, 2);
    header.writeUInt16BE(sets ? 0x8180 : 0x8183, 2); // no such name where the table has none
    header.writeUInt16BE(1, 4);
    header.writeUInt16BE(addresses.length, 6);
    const answer = [header, query.subarray(12, end), ...addresses.map(recordOf)];
    socket.send(Buffer.concat(answer), from.port, from.address);
  });
  socket.bind(53, '127.0.0.1');
  await once(socket, 'listening');
}

function questionOf(query) {
  const labels = [];
  let at = 12;
  for (let length = query[at]; length > 0; length = query[at]) {
    labels.push(query.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
  }
  return { name: labels.join('.').toLowerCase(), type: query.readUInt16BE(at + 1), end: at + 5 };
}

function recordOf(address) {
  const bytes = isIPv6(address) ? ipv6Bytes(address) : Buffer.from(address.split('.').map(Number));
  const head = Buffer.from([
    0xc0,
    12,
    0,
    bytes.length === 16 ? 28 : 1,
    0,
    1,
    0,
    0,
    0,
    0,
    0,
    bytes.length,
  ]);
  return Buffer.concat([head, bytes]);
}

function ipv6Bytes(address) {
  const [left = '', right = ''] = address.split('::');
  const groups = (text) =>
    text === '' ? [] : text.split(':').map((group) => Number.parseInt(group, 16));
  const tail = groups(right);
  const all = [...groups(left)];
  while (all.length + tail.length < 8) all.push(0);
  const bytes = Buffer.alloc(16);
  for (const [index, group] of [...all, ...tail].entries()) bytes.writeUInt16BE(group, index * 2);
  return bytes;
}

/** `POST /run` runs node with these arguments and environment; `POST /take` gives what was seen since the last time. */
async function obey(request, response) {
  let body = '';
  for await (const chunk of request) body += chunk;
  const answer = request.url === '/run' ? await runNode(JSON.parse(body)) : take();
  response.end(JSON.stringify(answer));
}

function take() {
  const seen = { dialled, asked };
  dialled = [];
  asked = [];
  return seen;
}

async function runNode({ args, env, cwd }) {
  const child = spawn(process.execPath, args, { env, cwd, stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text) => {
      said += text;
    });
  }
  const [code, signal] = await once(child, 'close');
  return { code, signal, said };
}
