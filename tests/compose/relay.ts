import { connect, createServer, type Socket } from 'node:net';
import { startScriptedRelay } from '../relay/scripted-relay.ts';
import { RELAY_PORT, relayEvents } from './relay-events.ts';

// Runs in a container. The scripted relay listens on loopback, so its port is carried outside.
const relay = await startScriptedRelay({ events: relayEvents() });

function carry(outside: Socket): void {
  const inside = connect(relay.port, '127.0.0.1');
  for (const [from, to] of [
    [outside, inside],
    [inside, outside],
  ] as const) {
    from.pipe(to);
    from.on('error', () => to.destroy());
  }
}

createServer(carry).listen(RELAY_PORT, '0.0.0.0');
process.on('SIGTERM', () => process.exit(0));
