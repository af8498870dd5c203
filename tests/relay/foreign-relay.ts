import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import type { NostrEvent } from '../../src/nostr/event.ts';
import { projectFile } from '../processes/project.ts';

const HOUSE = projectFile('tests/relay/foreign');
const STAMP = join(HOUSE, 'node_modules', '.bigbrotr-installed');
const LOCK = join(HOUSE, '.installing');

/** Its SQLite is compiled without optimisation: in a third of the time, and fast enough for some thousand events. */
const COMPILER_FLAGS = { CFLAGS: '-O0', CXXFLAGS: '-O0' };

/** For the hooks of tests that call `ensureForeignRelay`: a compile takes up to a minute, on a slow machine several. */
export const FOREIGN_RELAY_INSTALL_TIMEOUT_MS = 600_000;

/**
 * Installs the packages of the foreign relay where that was not done yet, or was done for another lock file or
 * another Node.js. Several test files may ask at once: one installs, the others wait.
 *
 * @throws Error with the end of npm's output when the install fails.
 */
export async function ensureForeignRelay(): Promise<void> {
  while (!isForeignRelayInstalled()) {
    if (takeLock()) await installUnderLock();
    else await sleep(500);
  }
}

async function installUnderLock(): Promise<void> {
  try {
    if (!isForeignRelayInstalled()) await install();
  } finally {
    rmSync(LOCK, { force: true });
  }
}

/** Whether the foreign relay can be started without an install. */
export function isForeignRelayInstalled(): boolean {
  return existsSync(STAMP) && readFileSync(STAMP, 'utf8') === wantedStamp();
}

/** SQLite is compiled for one ABI of Node.js, so that belongs to the stamp. */
function wantedStamp(): string {
  const lock = createHash('sha256')
    .update(readFileSync(join(HOUSE, 'package-lock.json')))
    .digest('hex');
  return `${lock} node-abi-${process.versions.modules} ${process.platform}-${process.arch}\n`;
}

/** Takes the lock file, which holds the pid of its owner; one whose owner has died is cleared away first. */
function takeLock(): boolean {
  try {
    writeFileSync(LOCK, String(process.pid), { flag: 'wx' });
    return true;
  } catch {
    if (isLockStale()) clearLock();
    return false;
  }
}

function isLockStale(): boolean {
  try {
    const owner = Number(readFileSync(LOCK, 'utf8'));
    if (!owner) return Date.now() - statSync(LOCK).mtimeMs > 10_000; // made, and not written yet
    process.kill(owner, 0);
    return false;
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'ESRCH';
  }
}

function clearLock(): void {
  try {
    renameSync(LOCK, `${LOCK}.${process.pid}`); // of several that see the dead lock, one gets it
    rmSync(`${LOCK}.${process.pid}`, { force: true });
  } catch {
    // Another process was first.
  }
}

async function install(): Promise<void> {
  console.log(
    'foreign relay: installing @nostr-relay/core; SQLite may have to be compiled, about a minute',
  );
  const started = Date.now();
  const { code, output } = await runNpm(['ci', '--no-audit', '--no-fund', '--prefix', HOUSE]);
  if (code !== 0) {
    throw new Error(
      `the foreign relay could not be installed in ${HOUSE}: npm ci ended with ${code}\n${output}`,
    );
  }
  writeFileSync(STAMP, wantedStamp());
  console.log(`foreign relay: installed in ${Math.round((Date.now() - started) / 1000)} s`);
}

function runNpm(args: string[]): Promise<{ code: number | null; output: string }> {
  return new Promise((resolve, reject) => {
    const npm = spawn('npm', args, {
      cwd: HOUSE,
      // SQLite is compiled by its install script, also where npm that runs the tests runs no scripts.
      env: { ...process.env, ...COMPILER_FLAGS, npm_config_ignore_scripts: 'false' },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    const keep = (chunk: Buffer) => {
      output = (output + chunk.toString()).slice(-4000);
    };
    npm.stdout.on('data', keep);
    npm.stderr.on('data', keep);
    npm.once('error', reject);
    npm.once('close', (code) => resolve({ code, output }));
  });
}

export interface ForeignRelayOptions {
  readonly events?: readonly NostrEvent[];
  /**
   * `store` (the default) puts events into its repository as they are; `publish` lets the relay judge each like a
   * client's EVENT: it verifies (300 a second), refuses expired ones, obeys deletions and keeps no ephemeral ones.
   */
  readonly load?: 'store' | 'publish';
  /** Its NIP-11 document; unless told one that names its real limits. */
  readonly nip11?: Readonly<Record<string, unknown>>;
  /** What a REQ without `limit` gets; the largest limit is ten times that. 100 (and 1,000) unless told. */
  readonly defaultLimit?: number;
  /** Open subscriptions a connection; above that the oldest is dropped without a word. 20 unless told. */
  readonly maxSubscriptions?: number;
  /** How long it answers the same filter from memory, new events or not; 1,000 unless told, 0 turns it off. */
  readonly filterCacheMs?: number;
  /** Turns NIP-42 on, under this host name. */
  readonly hostname?: string;
  /** 0, any free port, unless told. */
  readonly port?: number;
}

export interface ForeignRelay {
  readonly url: string;
  readonly port: number;
  readonly pid: number;
  readonly loaded: { readonly offered: number; readonly refused: number; readonly served: number };
  /** The ids of all events it holds now, sorted, read from its SQLite beside the protocol. */
  heldIds(): Promise<string[]>;
  /** Ends the process. Safe to call twice. */
  stop(): Promise<void>;
}

type RelayProcess = ChildProcessByStdio<Writable, Readable, null>;

/**
 * Starts @nostr-relay/core over SQLite as a process of its own, which also ends when this process does.
 *
 * @throws Error when it does not come up; call `ensureForeignRelay` first.
 */
export async function startForeignRelay(options: ForeignRelayOptions = {}): Promise<ForeignRelay> {
  const folder = await mkdtemp(join(tmpdir(), 'bigbrotr-foreign-relay-'));
  try {
    const child = spawn(
      process.execPath,
      [join(HOUSE, 'server.mjs'), ...(await argumentsOf(options, folder))],
      {
        stdio: ['pipe', 'pipe', 'inherit'],
      },
    );
    return await running(child);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function argumentsOf(options: ForeignRelayOptions, folder: string): Promise<string[]> {
  const { events, nip11, load = 'store', defaultLimit = 100, maxSubscriptions = 20 } = options;
  const { filterCacheMs = 1000, hostname, port = 0 } = options;
  const args = ['--stop-with-stdin', '--load', load, '--port', String(port)];
  args.push(
    '--default-limit',
    String(defaultLimit),
    '--max-subscriptions',
    String(maxSubscriptions),
  );
  args.push('--filter-cache-ms', String(filterCacheMs));
  if (hostname) args.push('--hostname', hostname);
  if (nip11) args.push('--nip11', await written(folder, 'nip11.json', JSON.stringify(nip11)));
  const lines = events?.map((event) => JSON.stringify(event)).join('\n');
  if (lines) args.push('--events', await written(folder, 'events.jsonl', lines));
  return args;
}

async function written(folder: string, name: string, text: string): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, text);
  return path;
}

async function running(child: RelayProcess): Promise<ForeignRelay> {
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const answer = async () => {
    const { value, done } = await lines.next();
    if (done)
      throw new Error(`the foreign relay (pid ${child.pid}) has ended; what it said is above`);
    return JSON.parse(value);
  };
  child.stdin.on('error', () => {}); // a process that has ended does not read; `answer` tells
  const { url, port, loaded } = await answer();
  let turn: Promise<unknown> = Promise.resolve();
  return {
    url,
    port,
    loaded,
    pid: child.pid ?? 0,
    heldIds() {
      const ids = turn.then(async () => {
        child.stdin.write('{"ask":"ids"}\n');
        return (await answer()).ids as string[];
      });
      turn = ids.catch(() => {});
      return ids;
    },
    async stop() {
      child.stdin.end();
      const cut = setTimeout(() => child.kill('SIGKILL'), 5000);
      await exited;
      clearTimeout(cut);
    },
  };
}
