/**
 * Mistakes that the tests must catch (`npm run test:mutants`), a file for each room of `src`. Each is one change at one
 * place and names the tests that must fail with it. `apply.mjs` says how `find` is matched: once in the room, whatever
 * file it is in.
 */
import database from './rooms/database.mjs';
import figures from './rooms/figures.mjs';
import monitor from './rooms/monitor.mjs';
import network from './rooms/network.mjs';
import nip77 from './rooms/nip77.mjs';
import nostr from './rooms/nostr.mjs';
import relayClient from './rooms/relay-client.mjs';
import runtime from './rooms/runtime.mjs';
import serve from './rooms/serve.mjs';
import sync from './rooms/sync.mjs';
import telemetry from './rooms/telemetry.mjs';

const rooms = {
  nostr,
  network,
  'relay-client': relayClient,
  nip77,
  sync,
  database,
  'database/figures': figures,
  runtime,
  monitor,
  serve,
  telemetry,
};

export const MUTANTS = Object.entries(rooms).flatMap(([room, mutants]) =>
  mutants.map((mutant) => ({ in: room, ...mutant })),
);
