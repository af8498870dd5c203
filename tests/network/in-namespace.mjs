/** What the programs inside network namespaces share: commands, a resolver of their own, DNS and control. */
import { execFileSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { realpathSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { dirname, join } from 'node:path';
import { addressReply, questionOf } from './dns-message.mjs';

export function run(command, ...args) {
  execFileSync(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });
}

/** Replaces /etc/resolv.conf, in the mount namespace of this process and of those that it starts. */
export function useResolver(socketPath, text) {
  const file = join(dirname(socketPath), 'resolv.conf');
  writeFileSync(file, text);
  run('mount', '--bind', file, realpathSync('/etc/resolv.conf'));
}

/**
 * Answers DNS at an address. `addressesOf` gives the addresses of a name for a type of question, null for a name that
 * does not exist, undefined for no answer at all.
 */
export async function answerDns(address, ttl, addressesOf) {
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
  socket.on('message', (query, from) => {
    const { name, type } = questionOf(query);
    const addresses = addressesOf(name, type);
    if (addresses !== undefined)
      socket.send(addressReply(query, addresses, ttl), from.port, from.address);
  });
  socket.bind(53, address);
  await once(socket, 'listening');
}

/** Does what it is told by HTTP over a Unix socket, which reaches across namespaces: the path names the action. */
export async function serveControl(socketPath, actions) {
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    try {
      const answer = await actions[request.url](body === '' ? null : JSON.parse(body));
      response.end(JSON.stringify(answer ?? null));
    } catch (error) {
      response.statusCode = 500;
      response.end(JSON.stringify(String(error.stderr ?? error)));
    }
  });
  server.listen(socketPath);
  await once(server, 'listening');
}
