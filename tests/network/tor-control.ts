import { once } from 'node:events';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';

/** One stream of a SOCKS client, at the moment at which Tor has put it on a circuit. */
export interface TorStream {
  readonly circuit: string;
  /** As it was asked for: `host:port`. */
  readonly target: string;
  /** The user name of the SOCKS handshake. */
  readonly user: string;
}

export interface TorControl {
  /** What went through since the control connection was opened. */
  readonly streams: readonly TorStream[];
  close(): void;
}

/** Listens to a Tor's control port (control-spec, STREAM events). @throws Error when it does not let us in. */
export async function watchStreams(port: number): Promise<TorControl> {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => {}); // Tor may be ended before the test is over
  await once(socket, 'connect');
  const streams: TorStream[] = [];
  const users = new Map<string, string>();
  const answers: string[] = [];
  const lines = createInterface({ input: socket });
  lines.on('line', (line) => {
    const [, id = '', state, circuit = '', target = ''] =
      /^650 STREAM (\d+) (\w+) (\d+) (\S+)/.exec(line) ?? [];
    const user = /SOCKS_USERNAME="((?:[^"\\]|\\.)*)"/.exec(line)?.[1];
    if (user !== undefined) users.set(id, user);
    if (state === 'SENTCONNECT') streams.push({ circuit, target, user: users.get(id) ?? '' });
    if (/^[25]\d\d /.test(line)) answers.push(line);
  });
  for (const command of ['AUTHENTICATE', 'SETEVENTS STREAM']) {
    answers.length = 0;
    socket.write(`${command}\r\n`);
    while (answers.length === 0) await once(lines, 'line');
    if (!answers[0]?.startsWith('250')) throw new Error(`${command}: ${answers[0]}`);
  }
  return { streams, close: () => socket.destroy() };
}
