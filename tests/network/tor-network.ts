import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { SocksClient } from 'socks';
import { ownDirectory } from '../processes/directory.ts';

/**
 * A Tor network of its own on loopback: authorities, which are relays too, one plain relay, a host of onion services
 * and a client with a SOCKS port. Nothing of it leaves the machine: it knows no other authorities than these.
 */

const AUTHORITIES = 3;

/** The path of a program of the Debian package `tor`, or null when it is not installed. */
function installed(program: string): string | null {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/usr/bin'];
  const paths = folders.map((folder) => join(folder, program));
  return paths.find(isExecutable) ?? null;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Why there can be no Tor network on this machine; null when there can be one. */
export function whyNoTor(): string | null {
  const missing = ['tor', 'tor-gencert'].filter((program) => installed(program) === null);
  if (missing.length === 0) return null;
  return `${missing.join(' and ')} not installed (Debian package tor)`;
}

/** One Tor process. */
export class TorProcess {
  readonly name: string;
  readonly folder: string;
  readonly #torrc: string;
  #child: ChildProcess | null = null;

  constructor(parent: string, name: string, lines: readonly string[]) {
    this.name = name;
    this.folder = join(parent, name);
    this.#torrc = join(this.folder, 'torrc');
    const common = [
      'TestingTorNetwork 1',
      `DataDirectory ${this.folder}`,
      `Log notice file ${join(this.folder, 'log')}`,
      'SafeLogging 0',
      'ShutdownWaitLength 0',
      'PathsNeededToBuildCircuits 0.67',
    ];
    mkdirSync(this.folder, { recursive: true, mode: 0o700 });
    writeFileSync(this.#torrc, [...common, ...lines, ''].join('\n'));
  }

  start(): void {
    const args = ['-f', this.#torrc, '--defaults-torrc', join(this.folder, 'none')];
    this.#child = spawn(installed('tor') as string, [...args, '--ignore-missing-torrc'], {
      stdio: 'ignore',
    });
    this.#child.on('error', () => {}); // its log says why
  }

  get log(): string {
    try {
      return readFileSync(join(this.folder, 'log'), 'utf8');
    } catch {
      return '';
    }
  }

  /** Ends it at once, as a crash would. Resolves when it is gone. */
  async kill(): Promise<void> {
    const child = this.#child;
    this.#child = null;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, 'exit');
    child.kill('SIGKILL');
    await gone;
  }
}

/** A Tor client: a SOCKS port for the services, and a control port that is open to everybody on this machine. */
export interface TorClient {
  readonly process: TorProcess;
  readonly socks: { readonly host: string; readonly port: number };
  readonly controlPort: number;
}

export interface TorNetwork {
  readonly client: TorClient;
  /** A client that knows authorities which are not there: it takes requests and never has a circuit. */
  readonly cutOff: TorClient;
  /** The name of the onion service, `<56 letters>.onion`. */
  readonly onion: string;
  /** Seconds from the start to each stage, for whoever wants to know where the time goes. */
  readonly stages: Readonly<Record<string, number>>;
  stop(): Promise<void>;
}

export interface TorNetworkOptions {
  /** Where each port of the onion service leads: a port on loopback. */
  readonly targets: Readonly<Record<number, number>>;
}

/**
 * Builds the network and waits until the onion service can be reached: about 15 s, most of which is the first vote.
 * @throws Error with the logs of the processes when that does not come to be.
 */
export async function startTorNetwork({ targets }: TorNetworkOptions): Promise<TorNetwork> {
  const started = performance.now();
  const stages: Record<string, number> = {};
  const folder = join(ownDirectory(), `tor-${process.hrtime.bigint().toString(36)}`);
  const ports = await freePorts(2 * AUTHORITIES + 6);
  const nextPort = () => {
    const port = ports.pop();
    if (port === undefined) throw new Error('too few ports were asked for');
    return port;
  };
  const authorities = await Promise.all(
    Array.from({ length: AUTHORITIES }, (_, index) =>
      makeAuthority(folder, `authority${index}`, nextPort(), nextPort()),
    ),
  );
  stages.keys = secondsSince(started);
  const network = authorities.map(({ line }) => line);
  const deadPort = nextPort();
  const nowhere = network.map((line) =>
    line.replace(/:\d+ /, `:${deadPort} `).replace(/orport=\d+/, `orport=${deadPort}`),
  );
  const make = (name: string, lines: readonly string[]) => new TorProcess(folder, name, lines);
  const makeClient = (name: string, authorityLines: readonly string[]): TorClient => {
    const [port, controlPort] = [nextPort(), nextPort()];
    // IsolateSOCKSAuth is on unless told; the image of docker-compose.yml says it too.
    const lines = [`SocksPort 127.0.0.1:${port} IsolateSOCKSAuth`];
    lines.push(`ControlPort 127.0.0.1:${controlPort}`, ...authorityLines);
    return { process: make(name, lines), socks: { host: '127.0.0.1', port }, controlPort };
  };
  const relays = [
    ...authorities.map(({ name, orPort, dirPort }) =>
      make(name, [...network, ...relayLines(name, orPort), ...authorityLines(dirPort)]),
    ),
    make('relay', [...network, ...relayLines('relay', nextPort())]),
  ];
  const service = make('service', [...network, ...serviceLines(folder, targets)]);
  const client = makeClient('client', network);
  const cutOff = makeClient('cutoff', nowhere);
  const all = [...relays, service, client.process, cutOff.process];
  const stop = async () => {
    await Promise.all(all.map((one) => one.kill()));
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    for (const relay of relays) relay.start();
    await until('a consensus', () => hasConsensus(authorities[0]?.dirPort ?? 0));
    stages.consensus = secondsSince(started);
    for (const process of [service, client.process, cutOff.process]) process.start();
    await until('the client', async () => /Bootstrapped 100%/.test(client.process.log));
    stages.client = secondsSince(started);
    const onion = readFileSync(join(folder, 'service', 'onion', 'hostname'), 'utf8').trim();
    const [port] = Object.keys(targets).map(Number);
    await until('the onion service', () => isReached(client, onion, port ?? 80));
    stages.service = secondsSince(started);
    return { client, cutOff, onion, stages, stop };
  } catch (error) {
    const logs = all.map(
      ({ name, log }) => `--- ${name}\n${log.split('\n').slice(-15).join('\n')}`,
    );
    await stop();
    throw new Error(`${String(error)}\n${logs.join('\n')}`);
  }
}

function secondsSince(started: number): number {
  return Math.round(performance.now() - started) / 1000;
}

/** Whether the service lets the client in. */
async function isReached({ socks }: TorClient, host: string, port: number): Promise<boolean> {
  const { socket } = await SocksClient.createConnection({
    command: 'connect',
    proxy: { ...socks, type: 5 },
    destination: { host, port },
    timeout: 4000,
  });
  socket.destroy();
  return true;
}

const WAIT_MS = 120_000;

async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + WAIT_MS;
  while (!(await holds().catch(() => false))) {
    if (performance.now() > deadline) throw new Error(`waited ${WAIT_MS} ms in vain for ${what}`);
    await sleep(100);
  }
}

async function hasConsensus(dirPort: number): Promise<boolean> {
  const url = `http://127.0.0.1:${dirPort}/tor/status-vote/current/consensus`;
  const response = await fetch(url, { headers: { connection: 'close' } });
  const text = await response.text();
  return response.ok && (text.match(/^r /gm) ?? []).length === AUTHORITIES + 1;
}

interface Authority {
  readonly name: string;
  readonly orPort: number;
  readonly dirPort: number;
  /** What everybody's torrc says of it. */
  readonly line: string;
}

/** Makes an authority's keys: the one that certifies, the one that signs, and that of its relay. */
async function makeAuthority(
  parent: string,
  name: string,
  orPort: number,
  dirPort: number,
): Promise<Authority> {
  const folder = join(parent, name);
  const keys = join(folder, 'keys');
  mkdirSync(keys, { recursive: true, mode: 0o700 });
  const gencert = ['--create-identity-key', '-m', '1', '-a', `127.0.0.1:${dirPort}`];
  const files = ['-i', 'authority_identity_key', '-s', 'authority_signing_key'];
  const more = ['-c', 'authority_certificate', '--passphrase-fd', '0'];
  const none = join(folder, 'none');
  const rc = ['-f', none, '--defaults-torrc', none, '--ignore-missing-torrc'];
  const list = [
    '--datadirectory',
    folder,
    '--list-fingerprint',
    '--quiet',
    '--orport',
    '1',
    '--nickname',
    name,
  ];
  const anyAuthority = ['--dirauthority', `x 127.0.0.1:1 ${'f'.repeat(40)}`];
  const [, said] = await Promise.all([
    output('tor-gencert', [...gencert, ...files, ...more], keys, 'testing\n'),
    output('tor', [...rc, ...list, ...anyAuthority], folder),
  ]);
  const certificate = readFileSync(join(keys, 'authority_certificate'), 'utf8');
  const identity = /^fingerprint ([0-9A-F]{40})$/m.exec(certificate)?.[1];
  const fingerprint = said.trim().split(/\s+/).slice(1).join('');
  if (!identity || !/^[0-9A-F]{40}$/.test(fingerprint))
    throw new Error(`no keys were made for ${name}: ${said}`);
  const line = `DirAuthority ${name} orport=${orPort} v3ident=${identity} 127.0.0.1:${dirPort} ${fingerprint}`;
  return { name, orPort, dirPort, line };
}

/** The standard output of a program. */
async function output(
  program: string,
  args: readonly string[],
  cwd: string,
  input = '',
): Promise<string> {
  const child = spawn(installed(program) as string, args, { cwd });
  let said = '';
  let complaint = '';
  child.stdout.on('data', (chunk) => (said += chunk));
  child.stderr.on('data', (chunk) => (complaint += chunk));
  child.stdin.end(input);
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error(`${program} ended with ${code}: ${complaint}${said}`);
  return said;
}

function relayLines(name: string, orPort: number): string[] {
  return [
    `Nickname ${name}`,
    'Address 127.0.0.1',
    `ORPort 127.0.0.1:${orPort}`,
    'SocksPort 0',
    'AssumeReachable 1',
    'ExitRelay 0',
  ];
}

/** Votes as often as Tor allows, and every relay gets every flag. */
function authorityLines(dirPort: number): string[] {
  return [
    `DirPort 127.0.0.1:${dirPort}`,
    'AuthoritativeDirectory 1',
    'V3AuthoritativeDirectory 1',
    'ContactInfo nobody@test.invalid',
    'TestingV3AuthInitialVotingInterval 5',
    'TestingV3AuthInitialVoteDelay 2',
    'TestingV3AuthInitialDistDelay 2',
    'V3AuthVotingInterval 10',
    'V3AuthVoteDelay 2',
    'V3AuthDistDelay 2',
    'V3AuthNIntervalsValid 6',
    'TestingDirAuthVoteExit *',
    'TestingDirAuthVoteGuard *',
    'TestingDirAuthVoteHSDir *',
    'TestingMinExitFlagThreshold 0',
    'TestingAuthDirTimeToLearnReachability 0',
    'MinUptimeHidServDirectoryV2 0 minutes',
    'AuthDirMaxServersPerAddr 0',
  ];
}

function serviceLines(folder: string, targets: TorNetworkOptions['targets']): string[] {
  return [
    'SocksPort 0',
    `HiddenServiceDir ${join(folder, 'service', 'onion')}`,
    ...Object.entries(targets).map(([port, to]) => `HiddenServicePort ${port} 127.0.0.1:${to}`),
  ];
}

/** Ports on loopback that were free a moment ago. */
async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'));
  await Promise.all(servers.map((server) => once(server, 'listening')));
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(servers.map((server) => once(server.close(), 'close')));
  return ports;
}
