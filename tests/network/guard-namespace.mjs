/**
 * Runs inside a network namespace of its own, where every address leads back to this process: it sees whatever a service
 * dials, and no packet can leave. It is told what to do over HTTP on a Unix socket. Arguments as JSON: the socket, the
 * ports to listen on, and the sets of addresses that each name has, each set in its turn.
 *
 * `POST /run` runs node with these arguments and environment; `POST /take` gives what was seen since the last time.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { answerDns, run, serveControl, useResolver } from './in-namespace.mjs';

const { socketPath, ports, names } = JSON.parse(process.argv[2]);
/** Addresses that were dialled, as `address port`, and names that DNS was asked for. */
let dialled = [];
let asked = [];
/** How often each question was asked, as `name type`. */
const turns = new Map();

becomeEverything();
const hasIPv6 = becomeEverythingInIPv6();
useResolver(socketPath, 'nameserver 127.0.0.1\noptions timeout:10 attempts:1\n');
for (const port of ports) await listen(port);
await answerDns('127.0.0.1', 0, nextSet);
await serveControl(socketPath, { '/run': runNode, '/take': take });
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

/** Notes the address that was dialled, and closes the connection. */
async function listen(port) {
  const server = createServer((socket) => {
    dialled.push(`${socket.localAddress.replace(/^::ffff:(?=\d+\.)/, '')} ${port}`);
    socket.on('error', () => {});
    socket.destroy();
  });
  server.listen({ port, host: hasIPv6 ? '::' : '0.0.0.0' });
  await once(server, 'listening');
}

/** The next set of addresses of a name; null for a name that does not exist. */
function nextSet(name, type) {
  asked.push(name);
  const turn = turns.get(`${name} ${type}`) ?? 0;
  turns.set(`${name} ${type}`, turn + 1);
  const sets = names[name];
  return sets ? sets[turn % sets.length] : null;
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
