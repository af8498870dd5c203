/**
 * Relays that behave, in a process of their own: what they send takes nothing from the thread of a test, and their
 * answers come after a delay as over a network. It is given a file with one array of events a relay, newest first,
 * and that delay in milliseconds, and prints the ports as one line of JSON.
 */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { WebSocketServer } from 'ws';

const [file, delayMs] = process.argv.slice(2);
const shelves = JSON.parse(readFileSync(file, 'utf8'));
const ports = await Promise.all(shelves.map(serve));
console.log(JSON.stringify(ports));

async function serve(events) {
  const texts = events.map((event) => JSON.stringify(event));
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: false });
  server.on('connection', (client) => {
    client.on('error', () => {});
    client.on('message', (data) => void answer(client, JSON.parse(data), events, texts));
  });
  await once(server, 'listening');
  return server.address().port;
}

async function answer(client, [type, subscription, filter], events, texts) {
  if (type !== 'REQ') return;
  await sleep(Number(delayMs));
  const { since = 0, until = Number.POSITIVE_INFINITY, limit = 500 } = filter;
  let sent = 0;
  for (let index = 0; index < events.length && sent < limit; index++) {
    const { created_at } = events[index];
    if (created_at > until || created_at < since) continue;
    client.send(`["EVENT","${subscription}",${texts[index]}]`);
    sent += 1;
  }
  client.send(`["EOSE","${subscription}"]`);
}
