/**
 * Runs inside a network namespace of its own: a world of relays, name servers and test hosts at whatever address is
 * dialled, and a second namespace behind a cable, in which services run. Told what to do over HTTP on a Unix socket,
 * which reaches across namespaces. Arguments as JSON: the socket, the names and what they resolve to, the addresses at
 * which nothing answers, and the file of the relays' events.
 *
 * `POST /link {"cut": …}`: "nothing" mends everything; "cable" lets every packet vanish, "address" takes the addresses
 * and routes of the services away, "dns" lets the name server fall silent, "ipv4" and "ipv6" let a family's packets vanish.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, readlinkSync } from 'node:fs';
import { isIPv6 } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { WebSocketServer } from 'ws';
import { answerDns, run, serveControl, useResolver } from './in-namespace.mjs';

const { socketPath, names, events, dead } = JSON.parse(process.argv[2]);
const RELAY_PORT = 7777;
const TEST_PORT = 7788;
const GATE = { ipv4: '100.100.0.1', ipv6: 'fc00:100::1' };
const HOME = { ipv4: '100.100.0.2', ipv6: 'fc00:100::2' };
let answersNames = true;
const live = new Set();
const stored = JSON.parse(readFileSync(events, 'utf8'));

const home = spawn('unshare', ['--net', 'sleep', 'infinity'], { stdio: 'ignore' });
await untilApart(home.pid);
connect();
useResolver(socketPath, `nameserver ${GATE.ipv4}\nnameserver ${GATE.ipv6}\n`);
await listen(RELAY_PORT);
await listen(TEST_PORT);
await answerDns('::', 1, (name) => (answersNames ? (names[name] ?? null) : undefined));
await serveControl(socketPath, {
  '/link': ({ cut }) => setLink(cut),
  '/publish': publish,
  '/pid': () => home.pid,
});
console.log(JSON.stringify({ ready: true }));

function atHome(...command) {
  run('nsenter', `--net=/proc/${home.pid}/ns/net`, ...command);
}

/** The process has its own namespace a moment after it was started. */
async function untilApart(pid) {
  const own = readlinkSync('/proc/self/ns/net');
  while (readlinkSync(`/proc/${pid}/ns/net`) === own) await sleep(20);
}

function connect() {
  run('ip', 'link', 'set', 'lo', 'up');
  run('ip', 'link', 'add', 'world', 'type', 'veth', 'peer', 'name', 'home');
  run('ip', 'link', 'set', 'home', 'netns', String(home.pid));
  run('ip', 'addr', 'add', `${GATE.ipv4}/24`, 'dev', 'world');
  run('ip', '-6', 'addr', 'add', `${GATE.ipv6}/64`, 'dev', 'world', 'nodad');
  run('ip', 'link', 'set', 'world', 'up');
  run('ip', 'route', 'add', 'local', '0.0.0.0/2', 'dev', 'lo'); // all that relays and test hosts have
  run('ip', '-6', 'route', 'add', 'local', '2000::/3', 'dev', 'lo');
  // To where nobody is: no answer, instead of a refusal.
  for (const address of dead)
    run(isIPv6(address) ? 'ip6tables' : 'iptables', '-A', 'INPUT', '-d', address, '-j', 'DROP');
  atHome('ip', 'link', 'set', 'lo', 'up');
  plugIn();
}

function plugIn() {
  atHome('ip', 'link', 'set', 'home', 'up');
  atHome('ip', 'addr', 'replace', `${HOME.ipv4}/24`, 'dev', 'home');
  atHome('ip', '-6', 'addr', 'replace', `${HOME.ipv6}/64`, 'dev', 'home', 'nodad');
  atHome('ip', 'route', 'replace', 'default', 'via', GATE.ipv4);
  atHome('ip', '-6', 'route', 'replace', 'default', 'via', GATE.ipv6);
}

/** A relay at every address: it answers a REQ with the same events, and passes on what it is given afterwards. */
async function listen(port) {
  const server = new WebSocketServer({ host: '::', port, perMessageDeflate: false });
  server.on('connection', (client) => {
    client.on('error', () => {});
    client.on('close', () => live.delete(client));
    client.on('message', (data) => answer(client, JSON.parse(data)));
  });
  await once(server, 'listening');
}

function answer(client, [type, first, ...filters]) {
  if (type === 'EVENT') return client.send(JSON.stringify(['OK', first.id, true, '']));
  if (type !== 'REQ') return;
  for (const filter of filters) {
    const { since = 0, until = Number.POSITIVE_INFINITY, limit = 500, ids } = filter;
    const fitting = stored.filter(
      ({ id, created_at }) =>
        created_at >= since && created_at <= until && (ids?.includes(id) ?? true),
    );
    for (const event of fitting.slice(0, limit))
      client.send(JSON.stringify(['EVENT', first, event]));
    if (limit === 0) {
      client.subscription = first;
      live.add(client);
    }
  }
  client.send(JSON.stringify(['EOSE', first]));
}

function setLink(cut) {
  for (const table of ['iptables', 'ip6tables'])
    try {
      run(table, '-D', 'INPUT', '-i', 'world', '-j', 'DROP');
    } catch {} // it was not there
  answersNames = cut !== 'dns';
  plugIn();
  if (cut === 'cable' || cut === 'ipv4')
    run('iptables', '-I', 'INPUT', '-i', 'world', '-j', 'DROP');
  if (cut === 'cable' || cut === 'ipv6')
    run('ip6tables', '-I', 'INPUT', '-i', 'world', '-j', 'DROP');
  if (cut === 'address') {
    atHome('ip', 'addr', 'flush', 'dev', 'home');
    atHome('ip', '-6', 'addr', 'flush', 'dev', 'home');
    atHome('ip', 'link', 'set', 'home', 'down');
  }
}

function publish(event) {
  stored.unshift(event);
  for (const client of live) client.send(JSON.stringify(['EVENT', client.subscription, event]));
}
