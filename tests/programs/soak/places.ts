/** What events name beside relays: nobody, somebody who is no relay, and what must never be connected to. */
import { once } from 'node:events';
import { createServer as createHttpServer, type Server as HttpServer } from 'node:http';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { closed, HTML_PAGE, startScriptedRelay } from '../../relay/scripted-relay.ts';
import type { Target } from './names.ts';
import { lastingPort } from './ports.ts';

const HOST = '127.0.0.1';
/** A profile's key in a path: somebody's view of a relay. */
const PERSONAL = 'npub1sn0wdenkukak0d9dfczzeacvhkrgz92ak56egt7vdgzn8pv2wfqqhrjdv9';
/** Its operator wants to be left out. No such name exists (RFC 2606). */
const BLOCKED_HOST = 'blocked.example.com';

export interface Places {
  /** Names that are asked in vain, that cannot be asked, and that are forbidden. */
  readonly targets: readonly Target[];
  /** Lines of the blocklist. */
  readonly blocklist: readonly string[];
  /** Of a list over HTTP that names what it is given, and something of each sort besides. */
  readonly listUrl: string;
  /** Names that stand in the list. */
  readonly listed: readonly string[];
  /** Connections to what is forbidden. */
  forbiddenConnections(): number;
  /** How often the list was fetched. */
  listRequests(): number;
  stop(): Promise<void>;
}

/** @param hidden relays that the list names */
export async function startPlaces(hidden: readonly string[]): Promise<Places> {
  const page = await startScriptedRelay({ upgrade: { status: 200, body: HTML_PAGE } });
  const refuser = await startScriptedRelay({ quirk: closed('blocked: not you') });
  const nobody = await Promise.all([lastingPort(), lastingPort(), lastingPort()]);
  const trap = await listening(createServer());
  let trapped = 0;
  trap.server.on('connection', (socket) => {
    trapped += 1;
    socket.destroy();
  });
  const noRelays = [page.url, refuser.url, ...nobody.map((port) => `ws://${HOST}:${port}`)];
  const trapUrl = `ws://${HOST}:${trap.port}`;
  const forbidden = [
    trapUrl,
    ` ${trapUrl}/`,
    `${trapUrl}/${PERSONAL}`,
    `${trapUrl}/?filter=1`,
    `ws://you:me@${HOST}:${trap.port}`,
    `ws://${HOST}:${trap.port}//`,
    `wss://${BLOCKED_HOST}/any/path`,
    'ws://',
    'ws://not a relay',
    `wss://${'x'.repeat(100)}.example.com`,
  ];
  const listed = [...hidden, ...noRelays.slice(0, 3)];
  const web = await startList([...listed, `${trapUrl}/${PERSONAL}`, trapUrl]);
  return {
    targets: [
      ...noRelays.map((url): Target => ({ place: 'no relay', url })),
      ...['ws://soak.i2p', 'wss://soak.loki'].map((url): Target => ({ place: 'unreachable', url })),
      ...forbidden.map((url): Target => ({ place: 'forbidden', url })),
    ],
    blocklist: [trapUrl, BLOCKED_HOST],
    listUrl: web.url,
    listed,
    forbiddenConnections: () => trapped,
    listRequests: () => web.requests(),
    stop: async () => {
      trap.server.close();
      web.server.close();
      web.server.closeAllConnections();
      await Promise.all([page.stop(), refuser.stop()]);
    },
  };
}

async function startList(names: readonly string[]) {
  let requests = 0;
  const body = JSON.stringify({ relays: names.map((url) => ({ url })) });
  const { server, port } = await listening(
    createHttpServer((_, response) => {
      requests += 1;
      response.setHeader('content-type', 'application/json').end(body);
    }),
  );
  return { server, url: `http://${HOST}:${port}/relays.json`, requests: () => requests };
}

async function listening<S extends Server | HttpServer>(
  server: S,
): Promise<{ server: S; port: number }> {
  server.listen(0, HOST);
  await once(server, 'listening');
  return { server, port: (server.address() as AddressInfo).port };
}
