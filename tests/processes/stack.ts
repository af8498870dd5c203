import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { RelayNames } from '../../src/finder/relay-names.ts';
import { parseBlocklist } from '../../src/network/blocklist.ts';
import { realOrSignedEvents } from '../fixtures/events.ts';
import { Program } from './programs.ts';
import { builtProgram, projectFile } from './project.ts';

export type Entrypoint =
  | 'local'
  | 'initializer'
  | 'monitor'
  | 'synchronizer'
  | 'priority-synchronizer'
  | 'finder'
  | 'api'
  | 'relay'
  | 'refresher'
  | 'explain'
  | 'status';

/** A key pair of the tests: public knowledge. */
export const KEYS = {
  SECRET_KEY: '0000000000000000000000000000000000000000000000000000000000000003',
  PUBLIC_KEY: 'f9308a019258c31049344f85f89d5229b531c845836f99b08601f113bce036f9',
};

let outside: readonly string[] | undefined;

/** Relays beyond this machine that the events of the tests name. The finder must not go there: no test leaves loopback. */
function namesOutside(): readonly string[] {
  outside ??= findNamesOutside();
  return outside;
}

function findNamesOutside(): string[] {
  const names = new RelayNames({ blocklist: parseBlocklist('', ''), allowPrivate: true });
  for (const event of realOrSignedEvents()) names.addEvent(event);
  const urls = names.named().map(({ url }) => url);
  return urls.filter((url) => !new URL(url).hostname.startsWith('127.'));
}

/** Where a database answers. */
export interface DatabaseAddress {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
  readonly database: string;
}

/** The variables that name a database to the services. */
export function databaseVariables({ host, port, user, password, database }: DatabaseAddress) {
  return {
    POSTGRES_HOST: host,
    POSTGRES_PORT: String(port),
    POSTGRES_USER: user,
    POSTGRES_PASSWORD: password,
    POSTGRES_DB: database,
  };
}

/** The services as people start them, in a temporary folder of their own that holds no `.env`. */
export class Stack {
  readonly folder: string;
  /** The environment of every program started from here. It may be changed. */
  readonly env: Record<string, string>;

  private constructor(folder: string) {
    this.folder = folder;
    this.env = {
      LOCAL_DATA_PATH: join(folder, 'data'),
      POSTGRES_DB_INIT_PATH: projectFile('init.sql'),
      SEED_RELAYS_PATH: join(folder, 'seed.txt'),
      SYNCHRONIZER_PRIORITY_RELAYS_PATH: join(folder, 'priority.txt'),
      ALLOW_PRIVATE_RELAYS: 'true',
      MONITOR_REQUEST_TIMEOUT: '2',
      SYNCHRONIZER_REQUEST_TIMEOUT: '2',
      MONITOR_HEALTH_PORT: '0',
      SYNCHRONIZER_HEALTH_PORT: '0',
      PRIORITY_SYNCHRONIZER_HEALTH_PORT: '0',
      FINDER_REQUEST_TIMEOUT: '2',
      FINDER_HEALTH_PORT: '0',
      API_PORT: '0',
      RELAY_PORT: '0',
      RELAY_HEALTH_PORT: '0',
      REFRESHER_HEALTH_PORT: '0',
      RELAY_BLOCKLIST_PATH: join(folder, 'outside.txt'),
    };
  }

  /** @throws Error when the project has not been built. */
  static async create(): Promise<Stack> {
    builtProgram();
    const stack = new Stack(await mkdtemp(join(tmpdir(), 'bigbrotr-stack-')));
    await stack.write('outside.txt', namesOutside().join('\n'));
    return stack;
  }

  /** Writes the two lists of relays. */
  async relays(seed: readonly string[], priority: readonly string[] = []): Promise<void> {
    await this.write('seed.txt', seed.map((url) => `${url}\n`).join(''));
    await this.write('priority.txt', priority.map((url) => `${url}\n`).join(''));
  }

  async write(name: string, text: string): Promise<string> {
    const path = join(this.folder, name);
    await writeFile(path, text);
    return path;
  }

  /** Lets the services use this database. */
  useDatabase(address: DatabaseAddress): void {
    Object.assign(this.env, KEYS, databaseVariables(address));
  }

  /** Starts `node dist/<entrypoint>.js`, with variables of its own laid over those of the stack. */
  start(
    entrypoint: Entrypoint,
    args: readonly string[] = [],
    env: Readonly<Record<string, string>> = {},
  ): Program {
    const file = projectFile(`dist/${entrypoint}.js`);
    return new Program(process.execPath, [file, ...args], {
      cwd: this.folder,
      env: { ...this.env, ...env },
    });
  }

  /** Removes the folder; nothing may run from it any more. */
  async remove(): Promise<void> {
    await rm(this.folder, { recursive: true, force: true, maxRetries: 5 });
  }
}
